"""Generated problems whose zeros, or their absence, are known."""

import pytest
import torch

from benchmarks.solvers import generated, problems


@pytest.mark.parametrize("family", generated.FAMILIES, ids=lambda family: family.name)
def test_a_generated_operator_keeps_its_residual_where_it_has_no_zero(family):
    batch = generated.Batch.drawn(family, 50, torch.float64, seed=1)
    scale = batch.data[0]
    residuals = torch.stack(
        [
            batch.residual_norm(scale * shift * problems.Draws(2).normal(50, generated.WIDTH))
            for shift in (0, 1, 10, 100)
        ]
    )
    least = (residuals / scale[:, 0]).amin()
    assert residuals.isfinite().all() or family.name == "exp(z) - 1"
    if not family.solvable:
        assert least > 0.09


def test_generated_problems_expose_a_success_that_is_none():
    family = next(family for family in generated.FAMILIES if not family.solvable)
    batch = generated.Batch.drawn(family, 4, torch.float32, seed=1)

    def boast(operator, z0, **_):
        return type("Boast", (), {"z": z0, "status": [Claimed] * 4, "evaluations": torch.ones(4)})

    Claimed = type("Claimed", (), {"success": True})
    counts = batch.judged(boast, 10)
    assert counts == {"claimed": 4, "solved": 0, "false": 4, "beyond": 4, "evaluations": 4}
