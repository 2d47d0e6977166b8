"""fixpoint's splittings against other libraries, by time: `splittings-benchmark.md`."""
