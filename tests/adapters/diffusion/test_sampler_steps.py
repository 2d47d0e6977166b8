import pipelines
import pytest
import torch
from diffusers import (
    DDIMInverseScheduler,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
)
from hypothesis import given
from hypothesis import strategies as st

from fixpoint.adapters.diffusion.latent_diffusion import LatentDiffusion
from fixpoint.adapters.diffusion.sampler_steps import Level, Step, schedule_of

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
PROMPT = "a cat"


@pytest.fixture(scope="module")
def pipeline():
    return pipelines.stable_diffusion()


@pytest.fixture(scope="module")
def model(pipeline):
    return LatentDiffusion.from_diffusers(pipeline)


def error(found, truth):
    return float((found - truth).norm() / truth.norm())


@given(
    angles=st.tuples(st.floats(0.05, 1.5), st.floats(0.05, 1.5)),
    prediction=st.sampled_from(["epsilon", "sample", "v_prediction"]),
    stretches=st.tuples(st.floats(0.5, 20), st.floats(0.5, 20)),
)
def test_a_step_leads_along_x0_and_eps_and_its_naive_inverse_back(angles, prediction, stretches):
    """Where the network knows x_0 and eps, both directions are exact."""
    s, t = (
        Level(float(torch.tensor(a).cos()), float(torch.tensor(a).sin()), c)
        for a, c in zip(angles, stretches, strict=True)
    )
    x0, eps = torch.randn(2, 1, 5, generator=torch.Generator().manual_seed(0)).double()

    def at(level):
        return level.stretch * (level.alpha * x0 + level.sigma * eps)

    def output(level):
        velocity = level.alpha * eps - level.sigma * x0
        return {"epsilon": eps, "sample": x0, "v_prediction": velocity}[prediction]

    step = Step.between(s, t, prediction, 5, 3)
    forward = step(lambda x, timestep: output(s), at(s))
    assert torch.allclose(forward, at(t), rtol=1e-5, atol=1e-5)
    back = step.naive(lambda x, timestep: output(t), at(t))
    assert torch.allclose(back, at(s), rtol=1e-5, atol=1e-5)


def test_euler_is_ddim_after_scaling():
    """On the same timesteps, x of Euler is sqrt(1 + sigma^2) that of DDIM."""
    same = pipelines.scheduler(timestep_spacing="trailing", set_alpha_to_one=True)
    ddim = schedule_of(same, 5)
    euler = schedule_of(EulerDiscreteScheduler.from_config(same.config), 5)
    assert [step.timestep for step in euler.steps] == [step.timestep for step in ddim.steps]
    noise = torch.randn(2, 4, generator=torch.Generator().manual_seed(0)).double()

    def network(x, timestep):
        return torch.tanh(x) * (1 + timestep / 1000)

    x, y = noise / euler.steps[0].scale, noise
    for e, d in zip(euler.steps, ddim.steps, strict=True):
        x, y = e(network, x), d(network, y)
    assert torch.allclose(x, y, rtol=1e-4, atol=1e-4)


def test_the_naive_inversion_is_that_of_diffusers_ddim_inverse_scheduler(pipeline, model):
    """Since diffusers feeds the timestep of the noisier side, too, both agree."""
    sampling = model.sampling(PROMPT, steps=5)
    latent = sampling.generate(model.noise(1))
    scheduler = DDIMInverseScheduler.from_config(pipeline.scheduler.config)
    scheduler.set_timesteps(5)
    x = latent
    for timestep in scheduler.timesteps:
        noise = sampling.network(x, int(timestep))
        x = scheduler.step(noise, timestep, x).prev_sample
    naive = sampling.invert(latent)
    assert error(naive.noise, x) < 1e-5
    assert error(sampling.invert(latent, at_source=True).noise, x) > 1e-4


@pytest.mark.parametrize(
    ("scheduler", "kind", "words"),
    [
        (PNDMScheduler(), TypeError, "earlier ones.*DDIMScheduler.from_config"),
        (LCMScheduler(), TypeError, "adds noise at every step"),
        (DDIMScheduler(), ValueError, "clip_sample=True, which cuts values off"),
        (pipelines.scheduler(thresholding=True), ValueError, "thresholding=True"),
        (DPMSolverMultistepScheduler(), ValueError, "solver_order=2"),
        (
            DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++"),
            ValueError,
            "adds noise",
        ),
    ],
)
def test_samplers_without_an_inverse_are_refused_with_what_to_use_instead(
    pipeline, scheduler, kind, words
):
    with pytest.raises(kind, match=words):
        schedule_of(scheduler, 4)


def test_a_pipeline_with_such_a_sampler_is_refused():
    with pytest.raises(TypeError, match="PNDMScheduler is not supported"):
        LatentDiffusion.from_diffusers(pipelines.stable_diffusion(scheduled=PNDMScheduler()))


def test_noise_prediction_without_any_signal_is_refused():
    zero = pipelines.scheduler(rescale_betas_zero_snr=True, timestep_spacing="trailing")
    with pytest.raises(ValueError, match="v_prediction"):
        schedule_of(zero, 4)
