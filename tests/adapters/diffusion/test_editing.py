import pipelines
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fixpoint.adapters import Autoencoder, EightBit, to_pil
from fixpoint.adapters.autoencoders.diffusers_autoencoder import DiffusersAutoencoder
from fixpoint.adapters.diffusion.editing import edit, latent_mask, read_mask
from fixpoint.adapters.diffusion.latent_diffusion import LatentDiffusion
from fixpoint.adapters.pictures.pictures import read_picture

OLD, NEW, STEPS = "a cat", "a dog", 3
SHORT = {"new_prompt": NEW, "steps": STEPS, "value_range": (-1, 1)}


@pytest.fixture(scope="module")
def pipeline():
    """Tiny random networks around the embedded autoencoder, whose decoder can be inverted."""
    made = pipelines.stable_diffusion(smoothness=2.0, scheduled=pipelines.mild_scheduler())
    made.register_modules(vae=Autoencoder.embedded().model)
    return made


@pytest.fixture(scope="module")
def model(pipeline):
    return LatentDiffusion.from_diffusers(pipeline)


@pytest.fixture(scope="module")
def pictures(model, photograph):
    """Two 8-bit pictures on the range of the decoder: (2, 3, 32, 32)."""
    crops = torch.cat((photograph[..., :32, :32], photograph[..., 32:, 32:]))
    with torch.no_grad():
        return EightBit()(model.decode(model.autoencoder.encode(crops)))


@pytest.fixture(scope="module")
def mask():
    """A block of 14 x 13 pixels that does not lie on the grid of latents."""
    marked = torch.zeros(32, 32, dtype=torch.bool)
    marked[9:23, 6:19] = True
    return marked


@pytest.fixture(scope="module")
def edited(model, pictures, mask):
    return edit(model, pictures, mask, OLD, refine=0, **SHORT)


def test_background_latents_are_those_of_the_recovered_trajectory(
    model, pictures, mask, edited, monkeypatch
):
    seen = {}
    found = edit(
        model,
        pictures,
        mask,
        OLD,
        refine=0,
        callback=lambda index, latent: seen.update({index: latent}),
        **SHORT,
    )
    kept = ~latent_mask(mask[None], 4)[0]
    trajectory = found.recovered.trajectory
    assert sorted(seen) == list(range(STEPS))
    for index, latent in seen.items():
        assert torch.equal(latent[..., kept], trajectory.latents[index + 1][..., kept])
        assert not torch.equal(latent[..., ~kept], trajectory.latents[index + 1][..., ~kept])
    assert torch.equal(found.latent, edited.latent)
    assert torch.equal(seen[STEPS - 1], found.latent)


def test_the_new_prompt_changes_what_lies_under_the_mask_alone(model, pictures, mask, edited):
    other = edit(model, pictures, mask, OLD, refine=0, **(SHORT | {"new_prompt": "a house"}))
    cells = latent_mask(mask[None], 4)[0]
    assert not torch.equal(other.latent[..., cells], edited.latent[..., cells])
    assert torch.equal(other.latent[..., ~cells], edited.latent[..., ~cells])


def test_guidance_changes_the_drawing(model, pictures, mask, edited):
    other = edit(model, pictures, mask, OLD, refine=0, guidance=1.0, **SHORT)
    assert not torch.equal(other.latent, edited.latent)
    assert (other.evaluations == edited.evaluations - STEPS).all()


def test_every_evaluation_of_the_network_is_counted(edited):
    assert edited.evaluations.tolist() == [STEPS + 2 * STEPS] * 2  # with guidance, two a step


def test_exact_inversion_keeps_the_background_better_than_the_encoder(
    model, pictures, mask, edited
):
    by_encoder = edit(model, pictures, mask, OLD, decoder_inversion="encoder", refine=0, **SHORT)
    assert (edited.background_nmse_db < by_encoder.background_nmse_db - 1).all()


def test_refining_keeps_the_background_better_still(model, pictures, mask, edited):
    found = edit(model, pictures, mask, OLD, refine=4, **SHORT)
    assert (found.background_nmse_db < edited.background_nmse_db - 3).all()
    assert found.refinement is not None
    assert edited.refinement is None
    assert (found.refinement.iterations <= 4).all()
    drawn = mask[None, None].expand_as(pictures)
    change = (found.picture - edited.picture)[drawn].square().mean()
    assert change < 4e-4  # of pictures on [-1, 1]: 40 dB


def test_background_errors_are_those_of_the_pixels_outside_the_mask(edited, pictures, mask):
    kept = ~mask
    error = ((edited.picture - pictures) / 2)[..., kept].flatten(1).square()
    whole = ((pictures + 1) / 2)[..., kept].flatten(1).square()
    nmse = 10 * (error.sum(1) / whole.sum(1)).log10()
    psnr = -10 * error.mean(1).log10()
    assert torch.allclose(edited.background_nmse_db, nmse.double(), atol=1e-4)
    assert torch.allclose(edited.background_psnr_db, psnr.double(), atol=1e-4)


def test_rows_have_masks_and_prompts_of_their_own(model, pictures, mask):
    masks = torch.stack((mask, mask.flip(0)))
    told = SHORT | {"new_prompt": [NEW, "a house"]}
    together = edit(model, pictures, masks, [OLD, ""], refine=2, **told)
    for row in range(2):
        alone = edit(
            model,
            pictures[row],
            masks[row],
            [OLD, ""][row],
            refine=2,
            **(told | {"new_prompt": told["new_prompt"][row]}),
        )
        assert torch.allclose(together.latent[row], alone.latent[0], atol=2e-3)
        assert torch.equal(together.background[row], ~masks[row])


def test_the_pipeline_stays_as_it_was(pipeline, pictures, mask):
    before = {name: value.clone() for name, value in pipeline.unet.state_dict().items()}
    timesteps = pipeline.scheduler.timesteps.clone()
    edit(pipeline, pictures[:1], mask, OLD, refine=1, **SHORT)
    for name, value in pipeline.unet.state_dict().items():
        assert torch.equal(value, before[name])
    assert torch.equal(pipeline.scheduler.timesteps, timesteps)


def test_a_mask_is_read_from_files_and_images(mask, tmp_path):
    grey = Image.fromarray(mask.mul(255).to(torch.uint8).numpy())
    grey.save(tmp_path / "mask.png")
    shape = torch.Size((2, 3, 32, 32))
    expected = mask.expand(2, 32, 32)
    for given_mask in (tmp_path / "mask.png", grey, grey.convert("1"), mask, expected):
        assert torch.equal(read_mask(given_mask, shape), expected)
    opened = read_picture(tmp_path / "mask.png").convert("RGB")
    assert torch.equal(read_mask(opened, shape), expected)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 8), st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**31))
def test_a_latent_cell_is_background_where_all_its_pixels_are(factor, rows, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(2, rows * factor, columns * factor, generator=generator) < 0.1
    cells = latent_mask(mask, factor)
    pooled = torch.nn.functional.max_pool2d(mask[:, None].float(), factor)[:, 0] > 0
    assert torch.equal(cells, pooled)


def test_bad_input_is_refused_before_a_model_runs(model, pictures, mask, monkeypatch):
    def run(*arguments, **options):
        pytest.fail("a model ran")

    monkeypatch.setattr(DiffusersAutoencoder, "encode", run)
    empty, full = torch.zeros_like(mask), torch.ones_like(mask)
    hidden = torch.zeros_like(mask)
    hidden[::4, ::4] = True  # one pixel of every cell
    for given_mask, options, words in (
        (empty, {}, "nothing to draw"),
        (full, {}, "no latent cell of background"),
        (hidden, {}, "no latent cell of background"),
        (mask[:16], {}, "16 x 32"),
        (mask.expand(3, 32, 32), {}, "3 x 32 x 32"),
        (mask, {"guidance": 0.5}, "guidance"),
        (mask, {"refine": -1}, "refine"),
        (mask, {"new_prompt": ["a", "b", "c"]}, "3 in prompt"),
        (mask, {"steps": 0}, "steps"),
        (mask, {"decoder_inversion": "magic"}, "magic"),
        (mask, {"method": "magic"}, "magic"),
    ):
        with pytest.raises(ValueError, match=words):
            edit(model, pictures, given_mask, OLD, **(SHORT | options))
    with pytest.raises(TypeError, match="boolean"):
        edit(model, pictures, mask.float(), OLD, **SHORT)
    with pytest.raises(ValueError, match="multiples of 4"):
        edit(model, pictures[..., :30], mask[:, :30], OLD, **SHORT)


def test_results_become_pil_images(edited):
    first, second = edited.to_pil()
    assert first.size == second.size == (32, 32)
    assert first.tobytes() == to_pil(edited.picture[0]).tobytes()
