"""Models are loaded as diffusers loads them, and never from the network unasked."""

import shutil
from fnmatch import fnmatch

import diffusers
import pytest
import torch

from fixpoint.adapters import Autoencoder, LatentDiffusion, invert
from fixpoint.adapters.autoencoders.bare_models import as_autoencoder
from fixpoint.adapters.autoencoders.folder import MODELS
from fixpoint.adapters.autoencoders.hub import Source
from fixpoint.adapters.autoencoders.placement import dtype_of

pytestmark = pytest.mark.usefixtures("no_network")
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache of the hub that holds acme/tiny, a pipeline, under main."""
    folder = tmp_path_factory.mktemp("hub")
    repository = folder / "models--acme--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("a" * 40)
    shutil.copytree(MODELS / "diffusion", repository / "snapshots" / ("a" * 40))
    return folder


def test_a_name_of_the_hub_is_taken_from_the_local_cache(cache):
    for options in ({}, {"subfolder": "vae"}, {"revision": "a" * 40}):
        pair = Autoencoder.from_pretrained("acme/tiny", cache_dir=cache, **options)
        assert pair.name == "AutoencoderKL"
    assert LatentDiffusion.from_pretrained("acme/tiny", cache_dir=cache).network is not None


@pytest.mark.parametrize("kind", [Autoencoder, LatentDiffusion])
def test_a_name_that_the_cache_does_not_have_is_refused_with_the_nearest(kind, cache):
    with pytest.raises(FileNotFoundError, match=r"local_files_only=False.*did you mean acme/tiny"):
        kind.from_pretrained("acme/tinny", cache_dir=cache)
    with pytest.raises(FileNotFoundError, match="at revision v2"):
        kind.from_pretrained("acme/tiny", cache_dir=cache, revision="v2")


def test_the_network_is_asked_only_where_the_caller_says_so(monkeypatch):
    asked = []

    def recorded(repo_id, *, local_files_only, **options):
        asked.append(local_files_only)
        raise OSError("unreachable")

    monkeypatch.setattr("huggingface_hub.snapshot_download", recorded)
    with pytest.raises(FileNotFoundError):
        Autoencoder.from_pretrained("acme/tiny")
    with pytest.raises(ValueError, match="acme/tiny could not be fetched from the hub: unreach"):
        Autoencoder.from_pretrained("acme/tiny", local_files_only=False)
    assert asked == [True, False]


@pytest.mark.parametrize(
    ("variant", "weights"), [(None, WEIGHTS), ("fp16", "diffusion_pytorch_model.fp16.safetensors")]
)
def test_of_a_pipeline_on_the_hub_the_autoencoder_alone_is_fetched(monkeypatch, variant, weights):
    there = {f"vae/{WEIGHTS}", f"unet/{WEIGHTS}", "v1-5-pruned.safetensors", "model_index.json"}
    there |= {"vae/diffusion_pytorch_model.fp16.safetensors", "vae/config.json"}
    fetched = set()

    def recorded(*, allow_patterns, ignore_patterns, **options):
        fetched.update(
            name
            for name in there
            if any(fnmatch(name, each) for each in allow_patterns)
            and not any(fnmatch(name, each) for each in ignore_patterns)
        )
        return "."

    monkeypatch.setattr("huggingface_hub.snapshot_download", recorded)
    Source("acme/tiny", variant=variant, local_files_only=False).autoencoder()
    assert fetched == {"model_index.json", "vae/config.json", f"vae/{weights}"}


def test_a_folder_goes_before_a_name_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(MODELS / "kl", tmp_path / "acme" / "tiny")
    assert Autoencoder.from_pretrained("acme/tiny").factor == 4


@pytest.mark.parametrize("given", [torch.bfloat16, "bfloat16", "torch.bfloat16"])
@pytest.mark.parametrize("name", ["dtype", "torch_dtype"])
def test_a_dtype_is_one_of_torch_or_its_name(given, name):
    assert Autoencoder.from_pretrained(MODELS / "kl", **{name: given}).dtype == torch.bfloat16
    assert Autoencoder.embedded(dtype=given).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("rubbish", "got 'rubbish'"),
        ("fp16", "did you mean float16"),
        ("bflaot16", "did you mean bfloat16"),
        (torch.int8, "torch.int8"),
        (16, "got 16"),
    ],
)
def test_any_other_dtype_is_refused_with_what_was_meant(given, meant):
    for load in (
        lambda: Autoencoder.embedded(dtype=given),
        lambda: Autoencoder.from_pretrained(MODELS / "kl", torch_dtype=given),
        lambda: LatentDiffusion.embedded(dtype=given),
        lambda: Autoencoder.embedded().to(dtype=given),
    ):
        with pytest.raises(TypeError, match=meant):
            load()


def test_two_names_of_the_dtype_may_not_differ():
    assert dtype_of("float16", torch.float16) == torch.float16
    with pytest.raises(ValueError, match="mean the same, and differ"):
        dtype_of("float16", "float32")


def test_one_file_is_loaded_with_the_configuration_beside_it_or_the_one_given(tmp_path, photograph):
    whole = Autoencoder.embedded()
    beside = Autoencoder.from_single_file(MODELS / "kl" / WEIGHTS)
    shutil.copy(MODELS / "kl" / WEIGHTS, tmp_path / "weights.safetensors")
    given = Autoencoder.from_single_file(
        tmp_path / "weights.safetensors", config=MODELS / "diffusion", torch_dtype="float32"
    )
    for pair in (beside, given):
        assert torch.equal(pair.encode(photograph), whole.encode(photograph))


def test_a_file_that_does_not_say_what_it_is_needs_a_configuration(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        Autoencoder.from_single_file(tmp_path / "none.safetensors")
    (tmp_path / "weights.ckpt").touch()
    with pytest.raises(ValueError, match="pickled weights are never loaded"):
        Autoencoder.from_single_file(tmp_path / "weights.ckpt")
    shutil.copy(MODELS / "kl" / WEIGHTS, tmp_path / "weights.safetensors")
    with pytest.raises(FileNotFoundError, match="give config="):
        Autoencoder.from_single_file(tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match="could not be loaded as AutoencoderKL"):
        Autoencoder.from_single_file(
            tmp_path / "weights.safetensors", config=MODELS / "adversarial"
        )
    with pytest.raises(FileNotFoundError, match="from_single_file loads a file"):
        Autoencoder.from_pretrained(tmp_path / "weights.safetensors")


def test_to_moves_and_converts_the_model_itself():
    pair = Autoencoder.embedded()
    assert pair.to("cpu", torch.bfloat16) is pair
    assert pair.dtype == pair.model.dtype == torch.bfloat16
    assert pair.to(torch.float32).to("float16").dtype == torch.float16
    with pytest.raises(ValueError, match="did you mean cuda"):
        pair.to("gpu")
    model = LatentDiffusion.embedded()
    assert model.to(dtype="bfloat16") is model
    assert model.dtype == model.autoencoder.dtype == torch.bfloat16


def test_functions_stay_where_they_are():
    def encode(x):
        return x[:, :, ::2, ::2]

    def decode(z):
        return z.repeat_interleave(2, 2).repeat_interleave(2, 3)

    pair = Autoencoder.from_functions(encode, decode)
    assert pair.to("cpu", "float32") is pair
    with pytest.raises(ValueError, match="call from_functions again"):
        pair.to(dtype="float16")


def test_the_five_lines_of_a_diffusers_user_work_on_a_pipeline_in_16_bits(photograph):
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(
        MODELS / "diffusion", torch_dtype=torch.bfloat16, local_files_only=True
    )
    found = invert(pipe.vae, photograph, max_iterations=3)
    assert torch.equal(
        found.latent, invert(as_autoencoder(pipe.vae), photograph, max_iterations=3).latent
    )
    assert pipe.vae.dtype == torch.bfloat16
    with pytest.raises(TypeError, match=r"got StableDiffusionPipeline; give its \.vae"):
        invert(pipe, photograph)


def test_a_wrong_keyword_is_answered_with_the_one_that_was_meant(photograph):
    with pytest.raises(TypeError, match="no argument 'max_iters'; did you mean max_iterations"):
        invert(Autoencoder.embedded(), photograph, max_iters=3)
