"""What the compiler makes of the kernels for a GPU that is not there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # compiles every kernel

pytest.importorskip("triton")

ROOT = Path(__file__).parents[2]
# Bytes per element of float32 that each operator must read and write, with all it can be asked
# for: two points, and memory 5. Anderson's differences are 5 tensors each.
READ = {
    "row_dot": 8,
    "row_sums": 16,
    "forward_step": 16,
    "inertial_km": 20,
    "adam": 24,
    "anderson_mix": 48,
    "gram_row": 28,
    "halpern": 12,
    "broyden_direction": 44,
    "broyden_products": 52,
}
WRITTEN = {
    "forward_step": 4,
    "inertial_km": 8,
    "adam": 12,
    "anderson_mix": 8,
    "gram_row": 4,
    "halpern": 4,
    "broyden_direction": 4,
}


def run(folder, *options):
    """`python -m benchmarks.speed.kernel_code`, in a process without the interpreter."""
    environment = {**os.environ, "TRITON_CACHE_DIR": str(folder / "cache"), "PYTHONPATH": str(ROOT)}
    environment.pop("TRITON_INTERPRET", None)
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.speed.kernel_code"]
    command += ["--arch", "90", *options]
    return subprocess.run(
        command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    folder = tmp_path_factory.mktemp("code")
    run(folder, "--json", str(folder / "code.json"))
    return json.loads((folder / "code.json").read_text())


def rows_of(code):
    return [entry for entry in code if entry["kernel"] != "_totals_kernel"]


def test_every_operator_compiles_and_none_spills(code):
    assert {entry["operator"] for entry in code} == set(READ)
    assert all(entry["spilt"] == 0 for entry in code)
    assert max(entry["registers"] for entry in code) <= 168  # three blocks of 128 threads an SM


def test_rows_are_read_and_written_sixteen_bytes_at_a_time(code):
    for entry in rows_of(code):
        single = [width for width in entry["loads"] if width != 16]
        # What is not of that width is read once a block: flags, steps, weights.
        assert len(single) <= 8, entry
        assert sum(width == 16 for width in entry["loads"]) > 0


def test_the_code_moves_the_least_that_the_update_needs(code):
    for entry in rows_of(code):
        if entry["values"] != "float32":
            continue
        name = entry["operator"]
        # 128 threads take 2048 elements: one access of 16 bytes a thread is one byte an element.
        assert sum(width == 16 for width in entry["loads"]) == READ[name], entry
        stores = sum(width == 16 for width in entry["stores"])
        # Stores stand twice in the code, for rows that are done and for the others.
        assert stores in (WRITTEN.get(name, 0), 2 * WRITTEN.get(name, 0)), entry


def test_every_operator_compiles_for_odd_sizes_strides_and_dtypes(tmp_path):
    # Four pairs of tensors; all that an operator can be asked for, and seven times no more than it
    # must be.
    assert run(tmp_path, "--awkward").stdout.count("compiled") == 4 * (len(READ) + 7)
