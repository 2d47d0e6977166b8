"""The constants of an operator: the regions they define, over the whole range of floats."""
