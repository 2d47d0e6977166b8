"""The fused updates, checked and timed."""

import json

from benchmarks.speed import cold_timing, updates
from benchmarks.speed import kernels as kernel_speed


def test_every_update_is_checked_and_timed(monkeypatch):
    monkeypatch.setattr(kernel_speed, "LATENT", (2, 3, 5))
    monkeypatch.setattr(cold_timing, "COLD", 1)
    monkeypatch.setattr(kernel_speed, "call_overheads", lambda device: {"row sums": 1.5})
    monkeypatch.setattr(kernel_speed, "kernel_code", lambda: None)
    found = json.loads(json.dumps(kernel_speed.measure("cpu", quick=True), allow_nan=False))
    assert {entry["update"] for entry in found["accuracy"]} == set(updates.UPDATES)
    assert {entry["update"] for entry in found["speed"]} == set(updates.UPDATES)
    for entry in found["accuracy"]:
        assert entry["reference"] < 1e-5
        assert entry["kernel"] is None or entry["kernel"] < 1e-5  # None: without Triton
    text = kernel_speed.markdown(found)
    assert "There was no GPU" in text
    assert "nan" not in text.lower()
