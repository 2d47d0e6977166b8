import hashlib
import json
import sys

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

from fixpoint import Status
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


# Sampling is that of the pipeline.


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


def test_steps_one_by_one_are_the_sampling(model):
    sampling, noise = model.sampling(PROMPT, steps=4, guidance=3.0), model.noise(2)
    latent = sampling.start(noise)
    for index in range(4):
        latent = sampling.step(latent, index)
    assert torch.equal(latent, sampling.generate(noise))
    assert len(sampling.timesteps) == 4
    with pytest.raises(IndexError, match="0 to 3"):
        sampling.step(latent, 4)


def test_prompts_and_guidance_change_what_is_drawn(model):
    noise = model.noise(1)

    def made(prompt, **options):
        return model.sampling(prompt, steps=2, **options).generate(noise)

    plain = made(PROMPT, guidance=3.0)
    assert not torch.equal(plain, made("a dog", guidance=3.0))
    assert not torch.equal(plain, made(PROMPT))
    assert not torch.equal(plain, made(PROMPT, guidance=3.0, negative_prompt="dark"))


def test_every_row_has_its_own_prompt(model):
    prompts = ["a cat", "two dogs", "a cat"]
    noise = model.noise(3)
    together = model.sampling(prompts, steps=3, guidance=3.0).generate(noise)
    for row, prompt in enumerate(prompts):
        alone = model.sampling(prompt, steps=3, guidance=3.0).generate(noise[row : row + 1])
        assert error(together[row : row + 1], alone) < 1e-5


# Noise.


def test_noise_is_that_of_the_generator_and_a_row_does_not_depend_on_their_number(model):
    expected = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(7))
    assert torch.equal(model.noise(3, seed=7), expected)
    assert torch.equal(model.noise(1, seed=7), expected[:1])
    assert model.noise(1, height=20, width=12).shape == (1, 4, 10, 6)
    with pytest.raises(ValueError, match="multiple of 2"):
        model.noise(1, height=17)
    with pytest.raises(ValueError, match="without frames"):
        model.noise(1, frames=3)


# Steps.


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


# Nothing of the user's is changed.


def state_of(pipeline):
    digest = hashlib.sha256()
    for _, part in sorted(pipeline.components.items()):
        if isinstance(part, torch.nn.Module):
            for key, value in sorted(part.state_dict().items()):
                digest.update(key.encode() + value.cpu().float().numpy().tobytes())
                digest.update(f"{value.dtype} {value.device}".encode())
            flags = [(m.training, len(m._forward_hooks)) for m in part.modules()]
            digest.update(repr([flags, [p.requires_grad for p in part.parameters()]]).encode())
            digest.update(repr(part.config).encode())
    scheduler = vars(pipeline.scheduler)
    digest.update(repr(sorted((key, repr(value)) for key, value in scheduler.items())).encode())
    return digest.hexdigest()


def test_neither_weights_nor_scheduler_nor_settings_of_the_pipeline_change(pipeline, model):
    pipeline.scheduler.set_timesteps(13)
    before = state_of(pipeline)
    sampling = model.sampling(PROMPT, steps=3, guidance=2.0)
    latent = sampling.generate(model.noise(1))
    sampling.invert(latent)
    sampling.invert(latent, "backward-euler")
    model.decode(latent)
    assert state_of(pipeline) == before
    pipeline.scheduler.set_timesteps(14)
    assert state_of(pipeline) != before


def test_a_bfloat16_pipeline_keeps_float32_latents():
    pipeline = pipelines.stable_diffusion().to(torch.bfloat16)
    model = LatentDiffusion.from_diffusers(pipeline)
    sampling = model.sampling(PROMPT, steps=3, guidance=2.0)
    noise = model.noise(1)
    latent = sampling.generate(noise)
    assert latent.dtype == torch.float32
    wide = LatentDiffusion.from_diffusers(pipelines.stable_diffusion())
    expected = wide.sampling(PROMPT, steps=3, guidance=2.0).generate(noise)
    assert 1e-5 < error(latent, expected) < 0.1
    assert pipeline.unet.dtype == torch.bfloat16


# Loading.


def test_a_folder_loads_without_the_network_and_draws_the_same(
    pipeline, model, tmp_path, no_network, capfd
):
    pipeline.save_pretrained(tmp_path / "model")
    capfd.readouterr()
    loaded = LatentDiffusion.from_pretrained(tmp_path / "model")
    assert capfd.readouterr().err == ""
    noise = model.noise(1)

    def made(by):
        return by.sampling(PROMPT, steps=2, guidance=2.0).generate(noise)

    assert torch.equal(made(loaded), made(model))
    half = LatentDiffusion.from_pretrained(tmp_path / "model", dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16


def test_a_video_folder_goes_the_same_way(tmp_path, no_network):
    pipelines.text_to_video().save_pretrained(tmp_path)
    model = LatentDiffusion.from_pretrained(tmp_path)
    noise = model.noise(1, frames=2)
    sampling = model.sampling(PROMPT, steps=2)
    latent = sampling.generate(noise)
    video = model.decode(latent)
    assert video.shape == (1, 3, 2, 8, 8)
    assert model.autoencoder.medium == "video"
    assert model.autoencoder.encode(video).shape == latent.shape
    trajectory = sampling.invert(latent, "backward-euler")
    assert trajectory.status == (Status.CONVERGED,)
    assert error(trajectory.noise, noise) < 1e-4


def test_what_a_folder_lacks_is_said_before_anything_is_loaded(pipeline, tmp_path, no_network):
    def refused(kind, words):
        with pytest.raises(kind, match=words):
            LatentDiffusion.from_pretrained(tmp_path / "model")

    refused(FileNotFoundError, "does not exist")
    (tmp_path / "model").mkdir()
    refused(FileNotFoundError, r"model_index\.json")
    (tmp_path / "model" / "model_index.json").write_text("[]")
    refused(ValueError, "names no diffusers pipeline")
    (tmp_path / "model" / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    refused(TypeError, "FluxPipeline is not supported; supported pipelines: LDMPipeline")
    pipeline.save_pretrained(tmp_path / "model")
    weights = tmp_path / "model" / "unet" / "diffusion_pytorch_model.safetensors"
    kept = weights.read_bytes()
    weights.unlink()
    refused(FileNotFoundError, "no safetensors weights")
    weights.write_bytes(kept[:100])
    refused(ValueError, "could not be loaded")
    index = json.loads((tmp_path / "model" / "model_index.json").read_text())
    index["text_encoder_2"] = ["transformers", "CLIPTextModel"]
    (tmp_path / "model" / "model_index.json").write_text(json.dumps(index))
    refused(FileNotFoundError, "no folder text_encoder_2")


def test_without_transformers_loading_says_what_to_install(pipeline, tmp_path, monkeypatch):
    pipeline.save_pretrained(tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModuleNotFoundError, match=r"fixpoint\[diffusers\]"):
        LatentDiffusion.from_pretrained(tmp_path)


def test_an_unknown_embedded_model_is_refused():
    with pytest.raises(ValueError, match="diffusion, flow"):
        LatentDiffusion.embedded("sd")


# Refusals.


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


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"steps": 0}, ValueError, "steps must be a whole number from 1 to 1000, got 0"),
        ({"steps": 2.0}, ValueError, "steps"),
        ({"guidance": 0.5}, ValueError, "at least 1"),
        ({"guidance": "3"}, TypeError, "number"),
        ({"prompt": 3}, TypeError, "prompt must be a string"),
        ({"prompt": []}, ValueError, "empty list"),
        ({"negative_prompt": "dark"}, ValueError, "guidance above 1"),
        (
            {"prompt": ["a", "b", "c"], "negative_prompt": ["d", "e"], "guidance": 2.0},
            ValueError,
            "2 in negative_prompt, but 3 rows",
        ),
    ],
)
def test_unusable_options_of_sampling_are_refused(model, options, kind, words):
    with pytest.raises(kind, match=words):
        model.sampling(**options)


def test_prompts_that_do_not_fit_the_rows_are_refused(model):
    with pytest.raises(ValueError, match="2 prompts for 3 rows"):
        model.sampling(["a", "b"], steps=2).generate(model.noise(3))


def test_a_network_that_drops_values_at_random_is_refused():
    pipeline = pipelines.stable_diffusion()
    pipeline.unet.mid_block.resnets[0].dropout.p = 0.1
    pipeline.unet.train()
    with pytest.raises(ValueError, match=r"pipeline\.unet\.eval\(\)"):
        LatentDiffusion.from_diffusers(pipeline).sampling(PROMPT)


def test_models_say_what_they_are(model):
    assert repr(model) == (
        "LatentDiffusion(StableDiffusionPipeline, DDIMScheduler, latents (4, 8, 8), float32, cpu)"
    )
    with pytest.raises(TypeError, match="int is not supported"):
        LatentDiffusion.from_diffusers(3)
