"""Linear systems and resolvents that are solved within a run, row by row."""
