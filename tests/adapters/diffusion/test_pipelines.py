import pipelines
import pytest
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
)

from fixpoint.adapters.diffusion.latent_diffusion import LatentDiffusion

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


def drawn(pipeline, noise, guidance, steps=4, **options):
    """What the pipeline itself makes of a noise."""
    return pipeline(
        [PROMPT] * len(noise),
        latents=noise,
        num_inference_steps=steps,
        guidance_scale=guidance,
        output_type="latent",
        **options,
    )[0]


SCHEDULERS = {
    "ddim": pipelines.scheduler(),
    "ddim, alpha to one": pipelines.scheduler(set_alpha_to_one=True),
    "ddim, trailing": pipelines.scheduler(timestep_spacing="trailing"),
    "ddim, linspace": pipelines.scheduler(timestep_spacing="linspace"),
    "ddim, v": pipelines.scheduler(prediction_type="v_prediction"),
    "ddim, sample": pipelines.scheduler(prediction_type="sample"),
    "ddim, zero snr": pipelines.scheduler(
        prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing"
    ),
    "dpm++": DPMSolverMultistepScheduler(solver_order=1, beta_schedule="scaled_linear"),
    "dpm++, karras, v": DPMSolverMultistepScheduler(
        solver_order=1, use_karras_sigmas=True, prediction_type="v_prediction"
    ),
    "euler": EulerDiscreteScheduler(beta_schedule="scaled_linear"),
    "euler, leading, v": EulerDiscreteScheduler(
        timestep_spacing="leading", steps_offset=1, prediction_type="v_prediction"
    ),
    "euler, karras, sigma_min": EulerDiscreteScheduler(
        use_karras_sigmas=True, final_sigmas_type="sigma_min"
    ),
}


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_sampling_is_that_of_the_pipeline_under_every_scheduler(name, guidance):
    pipeline = pipelines.stable_diffusion(scheduled=SCHEDULERS[name])
    model = LatentDiffusion.from_diffusers(pipeline)
    noise = model.noise(2, seed=1)
    found = model.sampling(PROMPT, steps=4, guidance=guidance).generate(noise)
    assert error(found, drawn(pipeline, noise, guidance)) < 1e-5


def test_sampling_is_that_of_the_sdxl_pipeline():
    pipeline = pipelines.sdxl()
    model = LatentDiffusion.from_diffusers(pipeline)
    noise = model.noise(2, seed=1)
    found = model.sampling(PROMPT, steps=3, guidance=3.0).generate(noise)
    assert error(found, drawn(pipeline, noise, 3.0, 3)) < 1e-5


def test_sampling_is_that_of_the_text_to_video_pipeline():
    pipeline = pipelines.text_to_video()
    model = LatentDiffusion.from_diffusers(pipeline)
    noise = model.noise(2, seed=1, frames=3)
    assert noise.shape == (2, 4, 3, 4, 4)
    sampling = model.sampling(PROMPT, steps=3, guidance=3.0)
    size = {"num_frames": 3, "height": 8, "width": 8}
    assert error(sampling.generate(noise), drawn(pipeline, noise, 3.0, 3, **size)) < 1e-5


def test_sampling_is_that_of_the_wan_pipeline():
    pipeline = pipelines.wan()
    model = LatentDiffusion.from_diffusers(pipeline)
    size = {"height": 32, "width": 32}
    noise = model.noise(2, seed=1, frames=5, **size)
    assert noise.shape == (2, 16, 2, 4, 4)
    sampling = model.sampling(PROMPT, steps=3, guidance=3.0)
    assert error(sampling.generate(noise), drawn(pipeline, noise, 3.0, 3, num_frames=5, **size)) < (
        1e-5
    )


def test_sampling_is_that_of_the_unconditional_pipeline():
    pipeline = pipelines.unconditional()
    model = LatentDiffusion.from_diffusers(pipeline)
    latent = model.sampling(steps=3).generate(model.noise(2, seed=5))
    seen = pipeline(
        batch_size=2,
        generator=torch.Generator().manual_seed(5),
        num_inference_steps=3,
        output_type="np",
    ).images
    found = model.decode(latent).permute(0, 2, 3, 1) / 2 + 0.5
    assert (found - torch.from_numpy(seen)).abs().max() < 1e-5
    with pytest.raises(ValueError, match="neither a prompt nor guidance"):
        model.sampling(PROMPT)
