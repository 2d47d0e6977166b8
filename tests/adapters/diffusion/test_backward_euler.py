import math

import pipelines
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fixpoint import Anderson, ForwardStep, Status, solve
from fixpoint.adapters.diffusion.backward_euler import BackwardEuler, OneStepFlow
from fixpoint.adapters.diffusion.latent_diffusion import LatentDiffusion
from fixpoint.adapters.diffusion.networks import PlainNetwork, ToldNetwork
from fixpoint.adapters.diffusion.plateau_step import PlateauStep
from fixpoint.adapters.diffusion.sampler_steps import NoiseSchedule, Step, schedule_of
from fixpoint.adapters.diffusion.sampling import Sampling
from fixpoint.monitors import Cocoercivity, ForwardStepTheorem
from fixpoint.monitors.certificate import Verdict
from fixpoint.testing import check_iterator, check_operator

SIZE = 6
HALF = Step(500, keep=1.0, take=-0.3, back_keep=1.0, back_take=0.3)


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def matrices(rows, norm, seed=0):
    """A matrix of that spectral norm for every row."""
    drawn = normal(rows, SIZE, SIZE, seed=seed)
    return norm * drawn / torch.linalg.matrix_norm(drawn, 2)[:, None, None]


def linear(x, timestep, matrix):
    return (matrix @ x.unsqueeze(2)).squeeze(2)


def curved(x, timestep):
    """Acts on every value by itself, so that rows agree bit for bit."""
    return torch.sin(2 * x + timestep / 1000) + 0.3 * x.abs()


def gentle(x, timestep):
    """So small a slope that every step has one inverse."""
    return 0.5 * torch.sin(x + timestep / 1000)


def sampling_with(network, steps=10):
    return Sampling(network, schedule_of(pipelines.scheduler(), steps))


def error(found, truth):
    return float((found - truth).norm() / truth.norm())


# Exactness.


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


@settings(max_examples=25, deadline=None)
@given(
    norm=st.floats(0.0, 0.9),
    keep=st.floats(0.8, 1.6),
    take=st.floats(-0.6, 0.6),
    seed=st.integers(0, 10**6),
)
def test_the_zero_is_the_latent_that_the_step_came_from(norm, keep, take, seed):
    before = normal(2, SIZE, seed=seed)
    network = PlainNetwork(linear, matrices(2, norm, seed))
    step = Step(500, keep, take, back_keep=1 / keep, back_take=-take / keep)
    operator = BackwardEuler(network, step(network, before), step)
    assert bool((operator(before) == 0).all())
    # Phi is keep I + take A with |take| ||A|| < keep: it has one zero.
    solution = solve(operator, operator.naive(), Anderson(mixing=1 / keep), rtol=1e-11)
    assert solution.success
    assert error(solution.z, before) < 1e-8


def test_the_naive_inversion_is_exact_where_the_network_does_not_vary():
    eps = normal(2, SIZE, seed=1)
    sampling = sampling_with(PlainNetwork(lambda x, timestep, eps: eps, eps))
    noise = normal(2, SIZE)
    assert error(sampling.invert(sampling.generate(noise)).noise, noise) < 1e-10


def test_a_one_step_flow_is_inverted_by_any_iterator():
    gain = torch.tensor([[0.2], [0.6]], dtype=torch.float64)

    def velocity(z, timestep, gain):
        assert timestep == 1000
        return gain * torch.sin(3 * z) / 3 - 0.1 * z

    noise = normal(2, SIZE)
    clean = noise + velocity(noise, 1000, gain)
    operator = OneStepFlow(velocity, clean, gain)
    assert torch.equal(operator(noise), torch.zeros_like(noise))
    for iterator in (ForwardStep(step_size=0.9), Anderson(), PlateauStep()):
        for start in (clean, operator.naive()):
            solution = solve(operator, start, iterator, rtol=1e-9)
            assert solution.success
            assert error(solution.z, noise) < 1e-7


def test_a_flow_pipeline_is_sampled_in_one_step_and_inverted():
    pipeline = pipelines.flow()
    model = LatentDiffusion.from_diffusers(pipeline)
    sampling, noise = model.sampling("a cat", steps=1), model.noise(2)
    latent = sampling.generate(noise)
    told = pipeline.encode_prompt("a cat", "cpu", 1, False)[0].expand(2, -1, -1)
    velocity = pipeline.unet(noise, 1000, told).sample
    assert error(latent, noise + velocity) < 1e-6
    opposite = LatentDiffusion.from_diffusers(pipeline, velocity="to noise")
    assert error(opposite.sampling("a cat", steps=1).generate(noise), noise - velocity) < 1e-6
    trajectory = sampling.invert(latent, "backward-euler")
    assert trajectory.status == (Status.CONVERGED,) * 2
    assert error(trajectory.noise, noise) < 1e-5
    assert error(sampling.invert(latent).noise, noise) > 1e-2


# Cost.


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
        network = ToldNetwork(function, gain, negative, 2.0, torch.float64)
        sampling = sampling_with(network, steps=4)
        assert sampling.invert(latent).evaluations.tolist() == [4 * each] * 3
        calls.clear()
        found = sampling.invert(latent, "backward-euler")
        asked = 4 + sum(solution.evaluations for solution in found.solutions)
        assert torch.equal(found.evaluations, each * asked)
        assert max(calls) == 3 * each  # one batched call
        assert int(found.evaluations.max()) >= 8 * each


# Rows.


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


def test_operators_select_what_their_rows_were_told():
    network = PlainNetwork(linear, matrices(3, 0.8))
    check_operator(BackwardEuler(network, normal(3, SIZE, seed=2), HALF), row_tolerance=1e-12,
                   z=normal(3, SIZE), rounding=1e-12, examples=6)  # fmt: skip
    gains = {"gain": torch.tensor([[0.1], [0.5], [0.9]], dtype=torch.float64)}
    told = ToldNetwork(
        lambda x, timestep, told: told["gain"] * x, gains, {"gain": 0 * gains["gain"][:1]}, 3.0,
        torch.float64,
    )  # fmt: skip
    operator = BackwardEuler(told, normal(3, SIZE, seed=2), HALF)
    check_operator(operator, normal(3, SIZE), examples=6)
    flow = OneStepFlow(linear, normal(3, SIZE, seed=2), matrices(3, 0.5))
    check_operator(flow, normal(3, SIZE), row_tolerance=1e-12, rounding=1e-12, examples=6)


def test_prompts_leave_the_batch_with_their_rows():
    """Rows of a real network that end at different times keep their own prompts."""
    model = LatentDiffusion.from_diffusers(pipelines.stable_diffusion())
    prompts = ["a cat", "two dogs"]
    noise = model.noise(2)
    sampling = model.sampling(prompts, steps=2, guidance=2.0)
    latent = sampling.generate(noise)
    latent[1] *= 1e-3  # far from what was drawn: it takes another number of iterations
    together = sampling.invert(latent, "backward-euler")
    assert any(len(set(solution.iterations.tolist())) == 2 for solution in together.solutions)
    for row, prompt in enumerate(prompts):
        alone = model.sampling(prompt, steps=2, guidance=2.0)
        found = alone.invert(latent[row : row + 1], "backward-euler")
        assert error(found.noise, together.noise[row : row + 1]) < 1e-4


# What is reported.


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


def test_guidance_makes_the_operator_non_cocoercive_and_the_monitors_say_so():
    """m = g x under guidance g: T = (1 - 0.3 g) x is cocoercive for g = 1, not for g = 7.5."""
    one = {"gain": torch.ones(1, 1, dtype=torch.float64)}
    none = {"gain": torch.zeros(1, 1, dtype=torch.float64)}

    def watched(guidance):
        network = ToldNetwork(
            lambda x, timestep, told: told["gain"] * x,
            one,
            none if guidance > 1 else None,
            guidance,
            torch.float64,
        )
        found = Sampling(network, NoiseSchedule((HALF, HALF), 1.0)).invert(
            normal(2, SIZE),
            "backward-euler",
            iterator=ForwardStep(step_size=0.5),
            monitors=(ForwardStepTheorem(step_size=0.5), Cocoercivity()),
        )
        assert len(found.certificates) == 2
        return found

    plain = watched(1.0)
    assert plain.status == (Status.CONVERGED,) * 2
    for certificate in plain.certificates:
        assert certificate["star-cocoercivity"].verdicts == (Verdict.SUPPORTED,) * 2
    guided = watched(7.5)
    claim = guided.certificates[-1]["star-cocoercivity"]
    assert claim.verdicts == (Verdict.REFUTED,) * 2
    assert bool((claim.margin < 0).all())
    assert bool((claim.iteration >= 0).all())
    ratios = guided.solutions[-1].monitors[1].pairwise
    assert ratios.tolist() == pytest.approx([1 / (1 - 0.3 * 7.5)] * 2, rel=1e-6)
    assert any("not cocoercive" in remark for remark in guided.certificates[-1].remarks)


def test_monitors_change_nothing():
    sampling = sampling_with(PlainNetwork(curved), steps=4)
    latent = sampling.generate(normal(2, SIZE))
    watched = sampling.invert(latent, "backward-euler", monitors=(Cocoercivity(),))
    assert torch.equal(watched.noise, sampling.invert(latent, "backward-euler").noise)


# The published rule.


def test_the_plateau_step_is_an_iterator_like_any_other():
    check_iterator(PlateauStep(), cocoercivity=1.0)


def test_the_plateau_step_warms_up_linearly():
    sizes = []
    state = None
    operator = OneStepFlow(lambda z, timestep: torch.zeros_like(z), torch.zeros(1, 1).double())
    iterator = PlateauStep(step_size=0.5, warmup=4)
    state = iterator.init(operator, torch.ones(1, 1).double())
    for _ in range(6):
        following = iterator.step(operator, state)
        sizes.append(float((state.z - following.z) / state.residual))
        state = following
    assert sizes == pytest.approx([0.125, 0.25, 0.375, 0.5, 0.5, 0.5])


def test_the_plateau_step_is_halved_for_the_row_that_stands_still():
    def stuck(z, timestep):  # T = -1 for the first row, wherever it stands
        return torch.where(torch.tensor([[True], [False]]), -1 - z, torch.zeros_like(z))

    operator = OneStepFlow(stuck, torch.zeros(2, 1).double())
    iterator = PlateauStep(step_size=0.5, warmup=1, patience=3)
    state = iterator.init(operator, torch.ones(2, 1).double())
    for _ in range(1 + 1 + 4):  # warm-up, a first value, patience and one
        state = iterator.step(operator, state)
    assert state.step_size.tolist() == [0.25, 0.5]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"step_size": 0.0}, "step_size must be above 0"),
        ({"warmup": 0}, "warmup"),
        ({"factor": 1.0}, "factor"),
        ({"patience": -1}, "patience"),
        ({"threshold": 1.0}, "threshold"),
    ],
)
def test_unusable_options_of_the_plateau_step_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        PlateauStep(**options)


# Refusals.


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


def test_an_operator_takes_any_function_and_nothing_else():
    assert BackwardEuler(curved, normal(2, SIZE), HALF)(normal(2, SIZE)).shape == (2, SIZE)
    with pytest.raises(TypeError, match="called with"):
        BackwardEuler(3, normal(2, SIZE), HALF)
