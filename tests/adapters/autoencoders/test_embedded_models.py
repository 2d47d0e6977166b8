"""The diffusion model and the flow that ship with the package."""

from pathlib import Path

import pytest
import torch

from fixpoint.adapters import EightBit, LatentDiffusion, TreeRing, classify, nmse_db, recover_noise
from fixpoint.adapters.diffusion.latent_diffusion import EMBEDDED, MODELS
from fixpoint.adapters.diffusion.sampling import PAPER_TOLERANCE

pytestmark = pytest.mark.slow  # draws with the embedded diffusion model

PROMPTS = ["dead leaves", "a texture", "a photograph"]


@pytest.fixture(scope="module")
def diffusion():
    return LatentDiffusion.embedded("diffusion")


@pytest.fixture(scope="module")
def flow():
    return LatentDiffusion.embedded("flow")


def test_both_together_fit_in_16_megabytes():
    files = [
        path
        for name in EMBEDDED
        for path in (MODELS / name).rglob("*")
        if path.is_file() and not any(part.is_symlink() for part in (path, *path.parents))
    ]
    assert sum(path.stat().st_size for path in files) < 16e6


@pytest.mark.parametrize("name", EMBEDDED)
def test_every_model_has_a_card_and_says_how_it_was_trained(name):
    assert "benchmarks.training.diffusion " + name in (MODELS / name / "README.md").read_text()
    assert (MODELS / name / "training.json").is_file()


def test_diffusers_own_pipeline_draws_the_same_from_the_folder(diffusion, no_network):
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(
        Path(MODELS / "diffusion"), safety_checker=None, local_files_only=True
    )
    pipeline.set_progress_bar_config(disable=True)
    noise = diffusion.noise(1, seed=1)
    expected = pipeline(
        "dead leaves",
        latents=noise,
        num_inference_steps=3,
        guidance_scale=2.0,
        output_type="latent",
    ).images
    found = diffusion.sampling("dead leaves", steps=3, guidance=2.0).generate(noise)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_the_prompt_decides_what_is_drawn(diffusion):
    noise = diffusion.noise(1, seed=2)
    leaves, page = (
        diffusion.sampling(prompt, steps=8).generate(noise)
        for prompt in ("dead leaves", "a page of text")
    )
    assert float(nmse_db(leaves, page)) > -10


def test_anderson_needs_fewer_evaluations_than_the_published_rule(diffusion):
    sampling = diffusion.sampling(PROMPTS[:2], steps=10)
    noise = diffusion.noise(2, seed=3)
    latent = sampling.generate(noise)
    published = sampling.invert_by_paper(latent)
    ours = sampling.invert(latent, "backward-euler", atol=PAPER_TOLERANCE, rtol=0.0)
    assert bool((ours.evaluations < published.evaluations).all())
    assert bool((nmse_db(ours.noise, noise) < nmse_db(sampling.invert(latent).noise, noise)).all())


def test_a_flow_draws_in_one_step_and_solve_finds_a_zero(flow):
    noise = flow.noise(2, seed=0)
    sampling = flow.sampling("dead leaves", steps=1)
    latent = sampling.generate(noise)
    assert float(latent.std()) < 0.9 * float(noise.std())  # a picture, not noise
    back = sampling.invert(latent, "backward-euler", max_iterations=100)
    again = sampling.generate(back.noise)
    assert bool((nmse_db(again, latent) < -30).all())


def test_a_key_is_read_from_an_8_bit_picture(diffusion):
    keys = [TreeRing.paper(diffusion.latent_shape, key=key, channel=3) for key in (1, 2, 3)]
    noise = diffusion.noise(3, seed=4)
    marked = torch.cat([key.embed(noise[row : row + 1]) for row, key in enumerate(keys)])
    sampling = diffusion.sampling(PROMPTS, steps=10)
    picture = EightBit()(diffusion.decode(sampling.generate(marked)))
    found = recover_noise(
        diffusion, picture, PROMPTS, steps=10, decoder_inversion="encoder", value_range=(-1, 1)
    )
    assert classify(found.noise, keys).labels.tolist() == [0, 1, 2]
    assert bool((keys[0].detect(found.noise[:1]).log10_p < -3).all())
