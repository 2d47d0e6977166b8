"""Runs on disk: saving and resuming, with nothing unpickled and no half-written file."""
