"""A small context for the benchmarks, and what their sections measure in it."""

import json
from importlib import import_module
from pathlib import Path

import pytest
import torch

from benchmarks.shared import context, fresh_process, stable_diffusion_shape
from benchmarks.shared import stored as stored_results
from fixpoint.adapters import Autoencoder
from fixpoint.adapters.commands.demonstration import photograph

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "adapters" / "models" / "adversarial"


@pytest.fixture(scope="session")
def small():
    """Two crops of 32 pixels, the second one darker."""
    crop = photograph(32)
    return context.Context(
        {"small": MODEL},
        {"small": Autoencoder.from_pretrained(MODEL)},
        torch.cat((crop, crop - 0.2)).clamp(-1, 1),
        "the bundled photograph",
        quick=True,
    )


class Measured(dict):
    """Results by the name of their section, as JSON gives them back; measured when asked for.

    No process is started for them.
    """

    def __init__(self, context):
        super().__init__()
        self.context = context

    def __missing__(self, name):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fresh_process, "measure", fresh_process.measure_here)
            patch.setattr(stable_diffusion_shape, "CHANNELS", (16, 16, 16, 16))
            found = import_module(f"benchmarks.paper.{name}").measure(self.context)
        text = json.dumps(stored_results.ready_for_json(found), allow_nan=False)
        self[name] = json.loads(text)
        return self[name]


@pytest.fixture(scope="session")
def measured(small):
    return Measured(small)


@pytest.fixture
def row():
    """Makes a row of table S1."""
    return row_of_table_s1


def row_of_table_s1(family, kind, steps, nmse, clock, curve, dtype="float32"):
    return {
        "family": family,
        "kind": kind,
        "steps": steps,
        "dtype": dtype,
        "nmse_db": nmse,
        "interval_db": 0.5,
        "milliseconds": clock[-1],
        "clock": clock,
        "curve": curve,
        "memory": family,
    }
