"""fixpoint's solvers against those of other libraries, by evaluations: `solvers.md`."""
