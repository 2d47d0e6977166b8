"""The prompts that the embedded diffusion models were trained with."""

PROMPTS = ("a photograph", "a texture", "dead leaves", "a page of text")
