"""Studies that each fill in a table of a page of the documentation."""
