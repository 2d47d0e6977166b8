"""Rates, sums and Fejer monotonicity, as a run shows them."""

import math

import torch
from monitored_runs import outside, start, watch
from problems import problem

from fixpoint import Anderson, ForwardStep, as_operator, synthetic
from fixpoint.monitors import Convergence, Fejer

# Convergence and Fejer


def test_the_observed_rate_of_a_geometric_run_is_its_factor():
    z0 = torch.ones(2, 3, dtype=torch.float64)
    slope = torch.tensor([[0.5], [0.1]], dtype=torch.float64)
    (report,) = watch(
        as_operator(lambda z, a: a * z, slope), z0, ForwardStep(), Convergence(), max_iterations=20
    ).monitors
    torch.testing.assert_close(report.rate, torch.tensor([0.5, 0.9]).double())
    distance = (torch.tensor([0.5, 0.9]).double() ** 20) * math.sqrt(3)
    torch.testing.assert_close(report.distance_to_limit, distance)
    torch.testing.assert_close(report.last_residual, slope[:, 0] * distance)


def test_the_sums_are_those_of_the_history():
    operator, _, z0 = problem()
    solution = watch(operator, z0, Anderson(), Convergence(), max_iterations=6)
    (report,) = solution.monitors
    torch.testing.assert_close(report.residual_sum, solution.history.residual_norm.square().sum(0))


@outside
def test_fejer_monotonicity_is_seen_and_its_loss_is_dated():
    zero, z0 = start()
    operator = synthetic.Cocoercive(0.5, zero)
    (inside,) = watch(operator, z0, ForwardStep(step_size=0.9), Fejer(zero=zero)).monitors
    assert inside.monotone.all()
    assert (inside.last_distance < inside.first_distance).all()
    (beyond,) = watch(operator, z0, ForwardStep(step_size=1.1), Fejer(zero=zero)).monitors
    assert beyond.iteration.tolist() == [1, 1, 1]
