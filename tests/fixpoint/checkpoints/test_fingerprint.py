"""Fingerprints tell things apart, in every process alike."""

import contextlib
import io
import subprocess
import sys

import torch

from fixpoint.checkpoints.fingerprint import fingerprint

# Fingerprints


def test_fingerprints_tell_things_apart_and_hold_across_processes():
    program = (
        "from fixpoint import Adam, schedules\n"
        "from fixpoint.fingerprint import fingerprint\n"
        "def made(rate): return lambda step: rate if step in {1, 2, 'a', 'b'} else 0.5\n"
        "print(sorted(fingerprint((Adam(schedule=made(0.1)), {'a', 'b'}), 'x').items()))"
    )
    here = io.StringIO()
    with contextlib.redirect_stdout(here):
        exec(compile(program, "<string>", "exec"), {"__name__": "__main__"})
    command = [sys.executable, "-c", program]
    there = subprocess.run(command, capture_output=True, text=True, check=True)
    assert there.stdout == here.getvalue()
    assert "0x" not in there.stdout

    def made(rate):
        return lambda step: rate / (step + 1)

    same = fingerprint(made(0.1), "f"), fingerprint(made(0.1), "f")
    assert same[0] == same[1]
    assert fingerprint(made(0.2), "f") != same[0]
    assert fingerprint(lambda step: 1 / (step + 2), "f") != fingerprint(lambda s: 1 / s, "f")
    assert fingerprint(torch.ones(3), "t") != fingerprint(torch.ones(3).double(), "t")
    looped = {"a": 1}
    looped["self"] = looped
    assert fingerprint(looped, "d")["d['self']"] == "itself"
