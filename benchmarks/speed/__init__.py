"""Kernels and inversion against the limits of the machine: `benchmarks.md`."""
