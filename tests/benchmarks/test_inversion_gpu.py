"""An inversion against the limits of the machine."""

import json
from functools import partial

import torch

from benchmarks.shared import fresh_process
from benchmarks.speed import evaluation_cases, inversion_gpu, loop_cost


def test_the_limits_of_the_machine_are_shown_for_everything_that_was_measured(monkeypatch):
    monkeypatch.setattr(fresh_process, "measure", fresh_process.measure_here)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    monkeypatch.setattr(loop_cost, "LOOP", 3)
    plan = evaluation_cases.Plan(
        device=torch.device("cpu"),
        inputs={"16 x 16": (1, 3, 16, 16)},
        precisions=(evaluation_cases.Precision("bfloat16", torch.bfloat16),),
        matrix=32,
        calls=1,
        repeats=1,
        iterations=1,
        channels=(16,),
    )
    results = json.loads(json.dumps(inversion_gpu.measure(plan), allow_nan=False))
    text = inversion_gpu.markdown(results)
    assert text.startswith("## ")
    assert "nan" not in text.lower()
    assert text.count("| 16 x 16 | bfloat16 |") == 3 + 4
    plain, compiled, gradient = results["evaluations"]
    assert [plain["failed"], compiled["failed"], gradient["failed"]] == [None, None, None]
    assert plain["flop"] == compiled["flop"] > 0
    assert plain["floor_milliseconds"] == 1e3 * plain["flop"] / results["peak_flops"]["bfloat16"]
    assert gradient["flop"] != plain["flop"]
    failed = compiled | {"milliseconds": None, "failed": "no compiler"}
    text = inversion_gpu.markdown(results | {"evaluations": [plain, failed, gradient]})
    assert "16 x 16, bfloat16, evaluation, compiled: failed with `no compiler`." in text
