import pipelines
import pytest
import torch

from fixpoint import Anderson, Status
from fixpoint.adapters import EightBit, Inversion, invert
from fixpoint.adapters.diffusion.latent_diffusion import LatentDiffusion
from fixpoint.adapters.diffusion.noise_recovery import recover_noise

pytestmark = pytest.mark.slow  # draws with a diffusion model

PROMPT = "a cat"
STEPS = 3


@pytest.fixture(scope="module")
def pipeline():
    """Tiny random networks around the embedded autoencoder, whose decoder can be inverted."""
    from fixpoint.adapters import Autoencoder

    made = pipelines.stable_diffusion(smoothness=2.0, scheduled=pipelines.mild_scheduler())
    made.register_modules(vae=Autoencoder.embedded().model)
    return made


@pytest.fixture(scope="module")
def model(pipeline):
    return LatentDiffusion.from_diffusers(pipeline)


@pytest.fixture(scope="module")
def made(model, photograph):
    """Noise and the 8-bit pictures drawn from it: a noise that leads to crops of a photograph."""
    crops = torch.cat((photograph[..., :32, :32], photograph[..., 32:, 32:]))
    sampling = model.sampling(PROMPT, steps=STEPS, guidance=2.0)
    with torch.no_grad():
        noise = sampling.invert(model.autoencoder.encode(crops), "backward-euler").noise
    latent = sampling.generate(noise)
    return noise, latent, EightBit()(model.decode(latent))


def error(found, truth):
    return float((found - truth).norm() / truth.norm())


def test_the_noise_comes_back_from_8_bit_pictures(model, made):
    noise, latent, picture = made
    found = recover_noise(
        model, picture, PROMPT, steps=STEPS, guidance=2.0, method="backward-euler"
    )
    assert isinstance(found.inversion, Inversion)
    assert found.trajectory.status == (Status.CONVERGED,) * 2
    assert torch.equal(found.latent, found.inversion.latent)
    assert found.seconds > found.inversion.seconds
    assert bool((found.nmse_db(noise) < -15).all())
    by_encoder = recover_noise(
        model,
        picture,
        PROMPT,
        steps=STEPS,
        guidance=2.0,
        method="backward-euler",
        decoder_inversion="encoder",
    )
    assert error(found.latent, latent) < error(by_encoder.latent, latent)
    assert bool((found.nmse_db(noise) < by_encoder.nmse_db(noise)).all())


def test_a_pipeline_is_taken_as_it_is_and_left_as_it_was(pipeline, model, made):
    picture = made[2]
    pipeline.scheduler.set_timesteps(11)
    options = {"steps": STEPS, "guidance": 2.0}
    found = recover_noise(pipeline, picture, PROMPT, **options)
    assert pipeline.scheduler.num_inference_steps == 11
    assert torch.equal(found.noise, recover_noise(model, picture, PROMPT, **options).noise)
    assert found.evaluations.tolist() == [2 * STEPS] * 2
    assert found.trajectory.status == ()


def test_a_known_latent_takes_the_place_of_the_picture(model, made):
    noise, latent, _ = made
    found = recover_noise(
        model, latent=latent, prompt=PROMPT, steps=STEPS, guidance=2.0, method="backward-euler"
    )
    assert found.inversion is None
    assert error(found.noise, noise) < 1e-4


@pytest.mark.parametrize("name", ["ours", "encoder", "gradient"])
def test_decoder_inversions_are_named(model, made, name, monkeypatch):
    picture = made[2][:1]
    found = recover_noise(model, picture, steps=2, decoder_inversion=name)
    assert found.noise.shape == (1, 4, 8, 8)
    assert bool(found.noise.isfinite().all())


def test_a_decoder_inversion_can_be_any_function(model, made):
    noise, latent, picture = made
    seen = []

    def exact(autoencoder, image):
        seen.append((autoencoder, image))
        return latent

    options = {"steps": STEPS, "guidance": 2.0, "method": "backward-euler"}
    found = recover_noise(model, picture, PROMPT, decoder_inversion=exact, **options)
    assert seen == [(model.autoencoder, picture)]
    assert found.inversion is None
    assert error(found.noise, noise) < 1e-4
    by_ours = recover_noise(model, picture, PROMPT, decoder_inversion=invert, **options)
    assert isinstance(by_ours.inversion, Inversion)


def test_every_picture_has_its_own_prompt(model):
    prompts, noise = ["a cat", "two dogs"], model.noise(2)
    latent = model.sampling(prompts, steps=STEPS).generate(noise)
    right = recover_noise(
        model, latent=latent, prompt=prompts, steps=STEPS, method="backward-euler"
    )
    assert error(right.noise, noise) < 1e-4
    wrong = recover_noise(
        model, latent=latent, prompt=prompts[::-1], steps=STEPS, method="backward-euler"
    )
    assert error(wrong.noise, noise) > 10 * error(right.noise, noise)


def test_the_callback_sees_every_step(model, made):
    seen = []
    found = recover_noise(
        model,
        latent=made[1],
        steps=STEPS,
        callback=lambda index, latent: seen.append((index, latent)),
    )
    assert [index for index, _ in seen] == [2, 1, 0]
    assert torch.equal(seen[-1][1], found.noise)


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"image": None}, ValueError, "give an image, or its latent"),
        ({"latent": torch.ones(1, 4, 8, 8)}, ValueError, "give an image, or its latent"),
        ({"method": "exact"}, ValueError, "methods: naive"),
        ({"iterator": Anderson()}, ValueError, "iterator: options of method='backward-euler'"),
        ({"decoder_inversion": "best"}, ValueError, "decoder inversions: ours, encoder, gradient"),
        ({"decoder_inversion": 3}, TypeError, "a name or a function"),
        ({"prompt": ["a", "b", "c"]}, ValueError, "3 in prompt, but 2 rows"),
        ({"steps": 0}, ValueError, "steps"),
        ({"guidance": 0.0}, ValueError, "guidance"),
        ({"image": torch.zeros(2, 3, 33, 32) - 0.5}, ValueError, "33"),
        ({"image": None, "latent": torch.ones(1, 3, 8, 8)}, ValueError, r"latents of this model"),
        ({"image": None, "latent": torch.full((1, 4, 8, 8), torch.nan)}, ValueError, "NaN"),
    ],
)
def test_unusable_arguments_are_refused_before_any_model_runs(
    pipeline, made, options, kind, words, monkeypatch
):
    def refuse(*arguments, **keywords):
        pytest.fail("a model ran")

    for part in (pipeline.unet, pipeline.text_encoder, pipeline.vae):
        monkeypatch.setattr(part, "forward", refuse)
    monkeypatch.setattr(pipeline.vae, "encode", refuse)
    with pytest.raises(kind, match=words):
        recover_noise(pipeline, **({"image": made[2], "prompt": PROMPT, "steps": STEPS} | options))
