"""`fixpoint watermark embed`, `detect` and `classify`: tree-ring keys in generated pictures."""
