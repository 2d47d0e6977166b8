import math

import pipelines
import pytest
import torch
from network_cases import SIZE, curved, error, linear, matrices, normal

from fixpoint import Anderson, Status
from fixpoint.adapters.diffusion.networks import ConditionedNetwork, PlainNetwork
from fixpoint.adapters.diffusion.sampler_steps import schedule_of
from fixpoint.adapters.diffusion.sampling import Sampling
from fixpoint.monitors import Cocoercivity


def gentle(x, timestep):
    """So small a slope that every step has one inverse."""
    return 0.5 * torch.sin(x + timestep / 1000)


def sampling_with(network, steps=10):
    return Sampling(network, schedule_of(pipelines.scheduler(), steps))


def test_backward_euler_inverts_sampling_with_a_linear_network_and_the_naive_inversion_does_not():
    network = PlainNetwork(linear, matrices(3, 0.9))
    sampling, noise = sampling_with(network), normal(3, SIZE)
    latent = sampling.generate(noise)
    exact = sampling.invert(latent, "backward-euler", rtol=1e-10, atol=0.0)
    assert exact.status == (Status.CONVERGED,) * 3
    assert error(exact.noise, noise) < 1e-6
    assert error(sampling.generate(exact.noise), latent) < 1e-6
    naive = sampling.invert(latent)
    assert error(naive.noise, noise) > 1e-2
    assert error(sampling.generate(naive.noise), latent) > 1e-2


def test_the_naive_inversion_is_exact_where_the_network_does_not_vary():
    eps = normal(2, SIZE, seed=1)
    sampling = sampling_with(PlainNetwork(lambda x, timestep, eps: eps, eps))
    noise = normal(2, SIZE)
    assert error(sampling.invert(sampling.generate(noise)).noise, noise) < 1e-10


def test_anderson_needs_fewer_evaluations_than_the_published_rule_and_gets_nearer():
    sampling, noise = sampling_with(PlainNetwork(curved), steps=20), normal(4, SIZE)
    latent = sampling.generate(noise)
    ours = sampling.invert(latent, "backward-euler")
    paper = sampling.invert_by_paper(latent)
    assert ours.status == paper.status == (Status.CONVERGED,) * 4
    assert bool((ours.evaluations < paper.evaluations).all())
    assert error(ours.noise, noise) < error(paper.noise, noise) / 10


def test_guidance_counts_as_two_evaluations():
    gain = {"gain": torch.full((1, 1), 0.3, dtype=torch.float64)}

    def function(x, timestep, told):
        calls.append(len(x))
        return told["gain"] * x

    latent, calls = normal(3, SIZE), []
    for negative, each in ((None, 1), (gain, 2)):
        network = ConditionedNetwork(function, gain, negative, 2.0, torch.float64)
        sampling = sampling_with(network, steps=4)
        assert sampling.invert(latent).evaluations.tolist() == [4 * each] * 3
        calls.clear()
        found = sampling.invert(latent, "backward-euler")
        asked = 4 + sum(solution.evaluations for solution in found.solutions)
        assert torch.equal(found.evaluations, each * asked)
        assert max(calls) == 3 * each  # one batched call
        assert int(found.evaluations.max()) >= 8 * each


def test_rows_are_independent_bit_for_bit():
    network = PlainNetwork(curved)
    sampling, noise = sampling_with(network), normal(4, SIZE)
    latent = sampling.generate(noise)
    together = sampling.invert(latent, "backward-euler")
    for row in range(4):
        alone = sampling.invert(latent[row : row + 1], "backward-euler")
        assert torch.equal(alone.noise, together.noise[row : row + 1])
        assert alone.evaluations[0] == together.evaluations[row]
        assert alone.status[0] == together.status[row]


def test_a_row_of_which_the_network_makes_nan_harms_no_other():
    def broken(x, timestep):
        bad = x[:, :1] > 10
        return torch.where(bad, torch.nan, curved(x, timestep))

    latent = normal(3, SIZE)
    latent[1, 0] = 20.0
    found = sampling_with(PlainNetwork(broken)).invert(latent, "backward-euler")
    assert found.status[1] is Status.NONFINITE
    sound = sampling_with(PlainNetwork(curved)).invert(latent, "backward-euler")
    for row in (0, 2):
        assert torch.equal(found.noise[row], sound.noise[row])
        assert found.status[row] is sound.status[row]


def test_a_trajectory_holds_every_latent_and_residual():
    sampling, noise = sampling_with(PlainNetwork(gentle), steps=5), normal(2, SIZE)
    passed = [sampling.start(noise)]
    for index in range(5):
        passed.append(sampling.step(passed[-1], index))
    seen = []
    found = sampling.invert(
        passed[-1], "backward-euler", callback=lambda index, latent: seen.append((index, latent))
    )
    assert found.timesteps == sampling.timesteps == (801.0, 601.0, 401.0, 201.0, 1.0)
    assert len(found.latents) == 6
    for latent, expected in zip(found.latents, passed, strict=True):
        assert error(latent, expected) < 1e-4
    assert [index for index, _ in seen] == [4, 3, 2, 1, 0]
    assert torch.equal(seen[-1][1], found.latents[0])
    assert found.residuals.shape == (5, 2)
    assert torch.allclose(found.residuals, sampling.residuals(found), atol=1e-12)
    naive = sampling.invert(passed[-1])
    assert naive.residuals is None
    assert naive.status == ()
    assert naive.certificates == ()
    assert bool((sampling.residuals(naive) > 100 * found.residuals).all())


def test_a_step_that_is_not_solved_is_not_called_converged():
    sampling = sampling_with(PlainNetwork(curved), steps=5)
    latent = sampling.generate(normal(2, SIZE))
    found = sampling.invert(latent, "backward-euler", max_iterations=1)
    assert found.status == (Status.MAX_ITERATIONS,) * 2
    tolerance = 1e-8 + 1e-6 * found.latents[0].norm(dim=1)
    assert bool((sampling.residuals(found)[0] > tolerance).all())


def test_monitors_change_nothing():
    sampling = sampling_with(PlainNetwork(curved), steps=4)
    latent = sampling.generate(normal(2, SIZE))
    watched = sampling.invert(latent, "backward-euler", monitors=(Cocoercivity(),))
    assert torch.equal(watched.noise, sampling.invert(latent, "backward-euler").noise)


@pytest.mark.parametrize(
    ("latent", "options", "kind", "words"),
    [
        (torch.ones(1, SIZE), {"method": "exact"}, ValueError, "methods: naive, backward-euler"),
        (torch.ones(1, SIZE), {"rtol": 1e-3}, ValueError, "rtol: options of method='backward-eu"),
        (torch.ones(1, SIZE), {"iterator": Anderson()}, ValueError, "iterator"),
        (torch.ones(1, SIZE), {"monitors": (Cocoercivity(),)}, ValueError, "monitors"),
        (torch.ones(1, SIZE).long(), {}, TypeError, "floating-point"),
        ([1.0], {}, TypeError, "floating-point tensor, got list"),
        (torch.ones(SIZE), {}, ValueError, "batch first"),
        (torch.full((1, SIZE), math.nan), {}, ValueError, "NaN"),
    ],
)
def test_unusable_arguments_are_refused_before_the_network_is_called(latent, options, kind, words):
    def network(x, timestep):
        pytest.fail("the network was called")

    with pytest.raises(kind, match=words):
        sampling_with(PlainNetwork(network)).invert(latent, **options)


def test_a_last_step_that_keeps_nothing_is_refused():
    scheduler = pipelines.scheduler(prediction_type="sample", set_alpha_to_one=True)
    sampling = Sampling(PlainNetwork(curved), schedule_of(scheduler, 4))
    assert sampling.generate(normal(1, SIZE)).isfinite().all()
    with pytest.raises(ValueError, match="keeps nothing of its latent"):
        sampling.invert(normal(1, SIZE))
