"""Measurements in a process of their own."""

import sys
from pathlib import Path

from benchmarks.shared import fresh_process
from fixpoint.adapters import to_pil
from fixpoint.adapters.commands.demonstration import photograph

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "adapters" / "models" / "adversarial"


def test_a_fresh_process_measures_and_a_failure_is_told(tmp_path):
    line = {"family": "encoder alone", "kind": "encoder"}
    found = fresh_process.measure(
        "benchmarks.paper.table_s1:one_picture", folder="nowhere", line=line, picture=""
    )
    assert found["peak_bytes"] is None
    assert "nowhere does not exist" in found["failed"]
    picture = tmp_path / "picture.png"
    to_pil(photograph(128)[0]).save(picture)
    found = fresh_process.measure(
        "benchmarks.paper.table_s1:one_picture", folder=str(MODEL), line=line, picture=str(picture)
    )
    assert found["failed"] is None
    if sys.platform == "linux":
        assert found["peak_bytes"] > picture.stat().st_size
