import hashlib

import pipelines
import pytest
import torch

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


def test_noise_is_that_of_the_generator_and_a_row_does_not_depend_on_their_number(model):
    expected = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(7))
    assert torch.equal(model.noise(3, seed=7), expected)
    assert torch.equal(model.noise(1, seed=7), expected[:1])
    assert model.noise(1, height=20, width=12).shape == (1, 4, 10, 6)
    with pytest.raises(ValueError, match="multiple of 2"):
        model.noise(1, height=17)
    with pytest.raises(ValueError, match="without frames"):
        model.noise(1, frames=3)


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


def test_an_unknown_embedded_model_is_refused():
    with pytest.raises(ValueError, match="diffusion, flow"):
        LatentDiffusion.embedded("sd")


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
