"""Tensors and trees of tensors with the batch first: their rows."""
