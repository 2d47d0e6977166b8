import pipelines
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from network_cases import SIZE, curved, error, linear, matrices, normal

from fixpoint import Anderson, ForwardStep, Status, solve
from fixpoint.adapters.diffusion.backward_euler import BackwardEuler, OneStepFlow
from fixpoint.adapters.diffusion.latent_diffusion import LatentDiffusion
from fixpoint.adapters.diffusion.networks import ConditionedNetwork, PlainNetwork
from fixpoint.adapters.diffusion.plateau_step import PlateauStep
from fixpoint.adapters.diffusion.sampler_steps import NoiseSchedule, Step
from fixpoint.adapters.diffusion.sampling import Sampling
from fixpoint.monitors import Cocoercivity, ForwardStepTheorem
from fixpoint.monitors.certificate import Verdict
from fixpoint.testing import check_operator

HALF = Step(500, keep=1.0, take=-0.3, back_keep=1.0, back_take=0.3)


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


def test_operators_select_what_their_rows_were_told():
    network = PlainNetwork(linear, matrices(3, 0.8))
    check_operator(BackwardEuler(network, normal(3, SIZE, seed=2), HALF), row_tolerance=1e-12,
                   z=normal(3, SIZE), rounding=1e-12, examples=6)  # fmt: skip
    gains = {"gain": torch.tensor([[0.1], [0.5], [0.9]], dtype=torch.float64)}
    told = ConditionedNetwork(
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


def test_guidance_makes_the_operator_non_cocoercive_and_the_monitors_say_so():
    """m = g x under guidance g: T = (1 - 0.3 g) x is cocoercive for g = 1, not for g = 7.5."""
    one = {"gain": torch.ones(1, 1, dtype=torch.float64)}
    none = {"gain": torch.zeros(1, 1, dtype=torch.float64)}

    def watched(guidance):
        network = ConditionedNetwork(
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


def test_an_operator_takes_any_function_and_nothing_else():
    assert BackwardEuler(curved, normal(2, SIZE), HALF)(normal(2, SIZE)).shape == (2, SIZE)
    with pytest.raises(TypeError, match="called with"):
        BackwardEuler(3, normal(2, SIZE), HALF)
