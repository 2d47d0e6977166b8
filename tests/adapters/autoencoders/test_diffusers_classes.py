"""Every encoder/decoder class of diffusers, as a tiny random instance."""

import copy
import inspect

import pytest
import torch
from autoencoders import TINY, decoded, residuals, taught, tiny

import fixpoint
from fixpoint.adapters import Autoencoder, DecoderInversion, Identity, Jpeg, invert
from fixpoint.adapters.autoencoders.diffusers_classes import (
    CLASSES,
    Convention,
    autoencoder_classes,
)
from fixpoint.adapters.autoencoders.sizes import Rule, multiples_of
from fixpoint.status import Status
from fixpoint.stop import Divergence

NAMES = sorted(TINY)
TAKEN = sorted(name for name, entry in CLASSES.items() if isinstance(entry, Convention))
every_class = pytest.mark.parametrize("name", NAMES)
MANY_SIZES = {"AutoencoderKLAllegro": (24, 40), "AutoencoderKLLTX2Video": (64, 128)}


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def example(name, rows=2, seed=2):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(rows, *TINY[name].shape, generator=generator) * 2 - 1


def wrapped(name, **options):
    return Autoencoder.from_diffusers(tiny(name), **options)


# The table.


def test_every_class_that_diffusers_exports_is_in_the_table():
    from diffusers.models import autoencoders

    exported = {
        name
        for name, entry in vars(autoencoders).items()
        if inspect.isclass(entry) and issubclass(entry, torch.nn.Module)
    }
    unknown = sorted(exported - set(CLASSES))
    assert not unknown, (
        f"diffusers exports {', '.join(unknown)}, which adapters/autoencoders/diffusers_classes.py "
        "does not know. Read its encode and decode and the pipelines that use it, add a Convention "
        "(or a Refused with the reason) to CLASSES and a tiny instance to tests/autoencoders.py"
    )
    gone = sorted(set(CLASSES) - exported)
    assert not gone, f"diffusers no longer exports {', '.join(gone)}: take them out of CLASSES"


def test_every_pair_is_taken_or_refused_with_its_reason():
    from diffusers.models import autoencoders

    assert NAMES == TAKEN
    for line in autoencoder_classes():
        exported = getattr(autoencoders, line.name)
        if line.taken:
            assert hasattr(exported, "encode")
            assert hasattr(exported, "decode")
            assert line.medium in ("picture", "video", "audio")
            assert line.reason is None
        else:
            assert line.medium is None
            refused = object.__new__(exported)  # only its name is asked
            with pytest.raises(TypeError, match=f"{line.name} is not supported: .*{line.reason}"):
                Autoencoder.from_diffusers(refused)


# What a pipeline computes, written out again for each class that scales.


def statistics(model, dims):
    shape = (1, -1, *[1] * (dims - 2))
    mean, std = (torch.tensor(model.config[key]) for key in ("latents_mean", "latents_std"))
    return mean.reshape(shape), std.reshape(shape)


def standardised(model, raw):
    mean, std = statistics(model, raw.dim())
    return (raw - mean) / std


def flux2(model, raw):
    from diffusers import Flux2Pipeline

    packed = Flux2Pipeline._patchify_latents(raw)
    mean = model.bn.running_mean.view(1, -1, 1, 1)
    std = torch.sqrt(model.bn.running_var.view(1, -1, 1, 1) + model.config.batch_norm_eps)
    return (packed - mean) / std


def refiner(model, raw):
    from diffusers import HunyuanImageRefinerPipeline

    return HunyuanImageRefinerPipeline._reorder_image_tokens(raw) * model.config.scaling_factor


def ltx(model, raw):
    from diffusers import LTXPipeline

    return LTXPipeline._normalize_latents(
        raw, model.latents_mean, model.latents_std, model.config.scaling_factor
    )


def ltx2_audio(model, raw):
    from diffusers import LTX2Pipeline

    packed = LTX2Pipeline._pack_audio_latents(raw)
    packed = LTX2Pipeline._normalize_audio_latents(packed, model.latents_mean, model.latents_std)
    return LTX2Pipeline._unpack_audio_latents(packed, raw.shape[2], raw.shape[3])


def cosmos(model, raw):
    shape = (1, model.config.latent_channels, -1, 1, 1)
    mean, std = (torch.tensor(model.config[key]) for key in ("latents_mean", "latents_std"))
    frames = raw.shape[2]
    return (raw - mean.view(shape)[:, :, :frames]) / std.view(shape)[:, :, :frames]


def scaled(model, raw):
    return raw * (model.config.scaling_factor or 1)


PIPELINES = {
    "AutoencoderKL": lambda model, raw: (raw - 0.11) * 0.37,
    "AutoencoderKLCosmos": cosmos,
    "AutoencoderKLFlux2": flux2,
    "AutoencoderKLHunyuanImageRefiner": refiner,
    "AutoencoderKLLTX2Audio": ltx2_audio,
    "AutoencoderKLLTX2Video": ltx,
    "AutoencoderKLLTXVideo": ltx,
    "AutoencoderKLMiniMaxH3": standardised,
    "AutoencoderKLMiniMaxH3Audio": standardised,
    "AutoencoderKLMochi": lambda model, raw: standardised(model, raw) * 0.9,
    "AutoencoderKLQwenImage": standardised,
    "AutoencoderKLQwenImage21": standardised,
    "AutoencoderKLWan": standardised,
    **dict.fromkeys(
        (
            "AsymmetricAutoencoderKL",
            "AutoencoderDC",
            "AutoencoderKLAllegro",
            "AutoencoderKLCogVideoX",
            "AutoencoderKLHunyuanImage",
            "AutoencoderKLHunyuanVideo",
            "AutoencoderKLHunyuanVideo15",
            "AutoencoderKLMagvit",
            "AutoencoderKLTemporalDecoder",
            "AutoencoderTiny",
            "ConsistencyDecoderVAE",
            "Kandinsky6SRVAE",
            "MMAudioVAE",
        ),
        scaled,
    ),
}
UNSCALED = set(NAMES) - set(PIPELINES)


def with_statistics(name):
    """The tiny model, with numbers in its buffers that change something."""
    model = tiny(name)
    generator = torch.Generator().manual_seed(3)
    for buffer, values in model.named_buffers():
        if buffer in ("latents_mean", "latents_std", "bn.running_mean", "bn.running_var"):
            values.copy_(0.5 + torch.rand(values.shape, generator=generator))
    return model


def raw_by_the_model(name, model, x):
    """The mode of the posterior by the model's own call, on the pixels that it wants."""
    if name == "AutoencoderKLMiniMaxH3":
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        x = ((x + 1) / 2 - mean.reshape(1, 3, 1, 1, 1)) / std.reshape(1, 3, 1, 1, 1)
    if name == "Kandinsky6SRVAE":
        x = (x + 1) * (127.5 / 128) - 1
    if name == "AutoencoderRAE":
        x = (x + 1) / 2
    if name == "MMAudioVAE":
        return model.vae.encode(x).chunk(2, dim=1)[0]
    if name == "LongCatAudioDiTVae":
        return model.encode(x, sample_posterior=False).latents
    if name == "AutoencoderKLTemporalDecoder":
        frames = [model.encode(frame).latent_dist.mode() for frame in x.unbind(2)]
        return torch.stack(frames, dim=2)
    if name in ("AutoencoderKLQwenImage", "AutoencoderKLQwenImage21") or "Refiner" in name:
        x = x.unsqueeze(2)
    if name == "AutoencoderVidTok":  # what its forward does
        x = torch.cat((x[:, :, :1],) * (model.temporal_compression_ratio - 1) + (x,), dim=2)
    rows = [model.encode(row) for row in x.split(1)]
    for found in ("latent", "latents"):
        if hasattr(rows[0], found):
            return torch.cat([getattr(row, found) for row in rows])
    return torch.cat([row.latent_dist.mode() for row in rows])


@every_class
def test_latents_are_the_posteriors_mode_in_the_pipelines_scaling(name):
    model = with_statistics(name)
    autoencoder = Autoencoder.from_diffusers(model)
    x = example(name)
    raw = raw_by_the_model(name, model, x)
    expected = raw if name in UNSCALED else PIPELINES[name](model, raw)
    latent = autoencoder.encode(x)
    assert latent.dtype == torch.float32
    assert latent.shape[1] == autoencoder.channels
    torch.testing.assert_close(latent, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(autoencoder.raw(latent), raw, rtol=1e-4, atol=1e-5)
    assert torch.equal(autoencoder.encode(x), latent)  # nothing is sampled
    back = autoencoder.decode(latent)
    assert back.shape == x.shape
    assert back.dtype == torch.float32
    assert torch.equal(autoencoder.decode(latent), back)


@every_class
def test_rows_are_computed_apart(name):
    autoencoder = wrapped(name)
    x = example(name) * torch.tensor([1.0, 0.3]).reshape(2, *[1] * len(TINY[name].shape))
    latent = autoencoder.encode(x)
    back = autoencoder.decode(latent)
    assert not torch.allclose(latent[0], latent[1])  # or there would be nothing to tell apart
    assert not torch.allclose(back[0], back[1])
    for row in range(2):
        alone = autoencoder.encode(x[row : row + 1])
        torch.testing.assert_close(alone[0], latent[row], rtol=1e-3, atol=1e-4)
        alone = autoencoder.decode(latent[row : row + 1])
        torch.testing.assert_close(alone[0], back[row], rtol=1e-3, atol=1e-4)


@every_class
def test_bfloat16_models_take_and_give_float32(name):
    model = tiny(name).to(torch.bfloat16)
    dtypes = [tensor.dtype for tensor in model.state_dict().values()]
    autoencoder = Autoencoder.from_diffusers(model)
    if name == "AutoencoderKLCosmos":  # torch has no such pooling on a CPU
        with pytest.raises(NotImplementedError, match=r"avg_pool3d.*BFloat16"):
            autoencoder.encode(example(name, rows=1))
        return
    latent = autoencoder.encode(example(name, rows=1))
    back = autoencoder.decode(latent)
    assert latent.dtype == back.dtype == torch.float32
    assert bool(back.isfinite().all())
    assert [tensor.dtype for tensor in model.state_dict().values()] == dtypes


# Nothing of the model is changed.


def caches(model):
    """How many tensors lie on the modules beside their weights, whatever they are called."""
    count = 0
    for module in model.modules():
        for value in vars(module).values():
            held = value if isinstance(value, list | tuple) else [value]
            count += sum(isinstance(each, torch.Tensor) for each in held)
    return count


def fingerprint(model):
    flags = ("use_tiling", "use_slicing", "use_framewise_encoding", "use_framewise_decoding")
    return {
        "weights": {name: tensor.clone() for name, tensor in model.state_dict().items()},
        "places": [tensor.data_ptr() for tensor in (*model.parameters(), *model.buffers())],
        "strides": [tensor.stride() for tensor in model.parameters()],
        "training": [module.training for module in model.modules()],
        "gradients": [(weight.requires_grad, weight.grad) for weight in model.parameters()],
        "config": copy.deepcopy(dict(model.config)),
        "flags": {flag: getattr(model, flag, None) for flag in flags},
        "hooks": [
            (len(module._forward_hooks), len(module._forward_pre_hooks))
            for module in model.modules()
        ],
        "caches": caches(model),
        "scheduler": dict(vars(getattr(model, "decoder_scheduler", object.__new__(Rule)))),
    }


def assert_same(before, after):
    for name, tensor in before.pop("weights").items():
        assert torch.equal(tensor, after["weights"][name]), name
    after.pop("weights")
    scheduler, again = before.pop("scheduler"), after.pop("scheduler")
    assert scheduler.keys() == again.keys()
    assert all(scheduler[key] is again[key] for key in scheduler)
    assert before == after


@every_class
def test_inverting_leaves_the_model_as_it_was_and_never_claims_what_is_not_so(name):
    model = tiny(name)
    next(model.parameters()).requires_grad_(False)
    if name == "AutoencoderRAE":  # transformers hooks its encoder at the first call
        model.encode(example(name))
    before = fingerprint(model)
    generators = torch.random.get_rng_state()
    autoencoder = Autoencoder.from_diffusers(model)
    x = decoded(autoencoder, name)
    inversion = invert(
        autoencoder,
        x,
        observation=Identity(),
        iterator=fixpoint.Anderson(),
        max_iterations=3,
        rtol=1e-3,
        keep="best",
        value_range=None if autoencoder.medium == "audio" else (-1, 1),
    )
    assert torch.equal(torch.random.get_rng_state(), generators)
    assert_same(before, fingerprint(model))
    true = residuals(autoencoder, x, inversion.latent)
    start = residuals(autoencoder, x, autoencoder.encode(x))
    size = autoencoder.encode(x).flatten(1).norm(dim=1)
    for row, status in enumerate(inversion.status):
        assert float(true[row]) <= 1.001 * float(start[row])
        assert (status is Status.CONVERGED) == bool(true[row] <= 1.001e-3 * size[row])
    assert inversion.reconstruction.shape == x.shape
    assert inversion.psnr_db.shape == (2,)
    if autoencoder.medium == "picture" and autoencoder.sample_channels == 3:
        assert len(inversion.to_pil()) == 2
    else:
        with pytest.raises(ValueError, match="only RGB pictures become PIL"):
            inversion.to_pil()


EASY = {  # classes by steps of training after which 60 iterations reach 20 dB
    "AutoencoderKL": 120,
    "AutoencoderKLTemporalDecoder": 40,
    "AutoencoderOobleck": 60,
}


@pytest.mark.parametrize("name", sorted(EASY))
def test_the_residual_of_a_near_inverse_falls_by_20_db(name):
    autoencoder = wrapped(name)
    with torch.enable_grad():
        taught(autoencoder, name, EASY[name])
    x = decoded(autoencoder, name)
    inversion = invert(
        autoencoder,
        x,
        observation=Identity(),
        iterator=fixpoint.Anderson(),
        max_iterations=60,
        stop=(Divergence(factor=10),),
        rtol=1e-5,
        keep="best",
        value_range=None if autoencoder.medium == "audio" else (-1, 1),
    )
    fell = residuals(autoencoder, x, autoencoder.encode(x))
    fell = fell / residuals(autoencoder, x, inversion.latent)
    assert float(20 * fell.log10().min()) >= 20


# Sizes.


@every_class
def test_sizes_that_a_rule_allows_come_back_and_those_it_forbids_do_not(name):
    autoencoder = wrapped(name)
    for axis, rule in enumerate(autoencoder.sizes.rules):
        own = TINY[name].shape[1 + axis]
        near = rule.near(own)
        first = near[0] if near else own
        for size in sorted({own, *near, *range(max(1, own - 2), own + 3)}):
            shape = [1, *TINY[name].shape]
            shape[2 + axis] = size
            if torch.Size(shape).numel() > 50_000:
                continue
            x = torch.full(shape, 0.1)
            if rule.holds(size):
                autoencoder.check_shape(x.shape)
                assert autoencoder.decode(autoencoder.encode(x)).shape == x.shape, size
            else:
                with pytest.raises(ValueError, match=f"got {size}"):
                    autoencoder.check_shape(x.shape)
                if name not in MANY_SIZES and not comes_back_as_something_else(autoencoder, x):
                    pytest.fail(f"{name} gives {size} back, and the rule {rule.words} forbids it")
        assert rule.holds(first)


def comes_back_as_something_else(autoencoder, x):
    try:
        return autoencoder.decode(autoencoder.encode(x)).shape != x.shape
    except (RuntimeError, ValueError, AssertionError, IndexError):
        return True


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("AutoencoderKLWan", (3, 7, 16, 16), r"frames must be 4k \+ 1, got 7 \(5 or 9 would do\)"),
        ("AutoencoderKLCogVideoX", (3, 5, 16, 16), r"8k or 8k \+ 1, got 5 \(1 or 8 would do\)"),
        ("AutoencoderOobleck", (2, 65), r"samples must be a multiple of 8, got 65 \(64 or 72"),
        ("AutoencoderKLWan", (3, 5, 17, 16), r"height must be a multiple of 8, got 17 \(16 or 24"),
        ("AutoencoderRAE", (3, 12, 16), r"height must be 16, got 12 \(16 would do\)"),
        ("AutoencoderKL", (3, 17, 16), r"multiples of 2 .* got 16 x 17"),
        ("AutoencoderKLWan", (4, 5, 16, 16), r"\(batch, 3, \.\.\.\), got \(1, 4, 5, 16, 16\)"),
        ("AutoencoderKLWan", (3, 16, 16), r"tensors of 5 axes"),
    ],
)
def test_what_would_not_come_back_is_refused_before_the_model_runs(name, shape, words, monkeypatch):
    model = tiny(name)
    for call in ("encode", "decode"):
        monkeypatch.setattr(model, call, lambda *_, **__: pytest.fail("the model ran"))
    with pytest.raises(ValueError, match=words):
        invert(Autoencoder.from_diffusers(model), torch.full((1, *shape), -0.1))


def test_the_nearest_sizes_are_named():
    assert multiples_of(8).near(17) == (16, 24)
    assert multiples_of(8).near(3) == (8,)
    assert multiples_of(32, least=2).near(40) == (64,)


# Videos and sound.


def test_eight_bit_videos_are_seen_as_pictures_are():
    from fixpoint.adapters import RoundingCells

    autoencoder = wrapped("AutoencoderKLWan")
    levels = ((example("AutoencoderKLWan") + 1) * 127.5).round().to(torch.uint8)
    inversion = invert(autoencoder, levels, max_iterations=1)
    assert isinstance(inversion.observation, RoundingCells)
    torch.testing.assert_close(inversion.picture, levels / 127.5 - 1)
    with pytest.raises(ValueError, match=r"value_range=\(0, 1\)"):
        invert(autoencoder, levels / 255)
    again = invert(autoencoder, levels / 255, value_range=(0, 1), max_iterations=1)
    torch.testing.assert_close(again.picture, inversion.picture)


@pytest.mark.parametrize(
    ("name", "given", "error", "words"),
    [
        ("AutoencoderKLWan", [1.0], TypeError, "not a picture"),
        ("AutoencoderOobleck", torch.zeros(1, 2, 64, dtype=torch.uint8), TypeError, "floating"),
        ("AutoencoderOobleck", torch.full((1, 2, 64), torch.nan), ValueError, "audio contains NaN"),
    ],
)
def test_other_videos_and_sounds_are_refused(name, given, error, words):
    with pytest.raises(error, match=words):
        invert(wrapped(name), given)


@pytest.mark.parametrize("name", ["AutoencoderKLWan", "AutoencoderOobleck"])
def test_jpeg_is_an_observation_of_pictures_alone(name):
    with pytest.raises(ValueError, match="JPEG is an observation of RGB pictures"):
        invert(wrapped(name), example(name), observation=Jpeg(quality=90))


def test_frames_are_decoded_in_the_generators_chunks():
    model = tiny("AutoencoderKLTemporalDecoder")
    whole, chunked = (
        Autoencoder.from_diffusers(model, decode_chunk_size=size) for size in (None, 2)
    )
    latent = whole.encode(example("AutoencoderKLTemporalDecoder"))
    assert not torch.allclose(whole.decode(latent), chunked.decode(latent), atol=1e-4)
    from diffusers import StableVideoDiffusionPipeline

    pipeline = object.__new__(StableVideoDiffusionPipeline)
    vars(pipeline)["vae"] = model
    frames_first = latent.transpose(1, 2)
    for autoencoder, size in ((whole, 4), (chunked, 2)):
        for row in range(2):
            expected = pipeline.decode_latents(frames_first[row : row + 1], 4, size)
            torch.testing.assert_close(autoencoder.decode(latent[row : row + 1]), expected)
    with pytest.raises(ValueError, match="belongs to AutoencoderKLTemporalDecoder, not to"):
        wrapped("AutoencoderKLWan", decode_chunk_size=2)
    with pytest.raises(ValueError, match="above 0, got 0"):
        Autoencoder.from_diffusers(model, decode_chunk_size=0)


def _fail(module, arguments):
    raise RuntimeError("on purpose")


@pytest.mark.parametrize("name", ["AutoencoderKLMagvit", "AutoencoderKLWan", "AutoencoderVidTok"])
def test_a_failed_pass_leaves_no_frames_behind(name):
    model = tiny(name)
    autoencoder = Autoencoder.from_diffusers(model)
    before, x = caches(model), example(name)
    latent = autoencoder.encode(x)
    for part, call, given in (
        (model.encoder, autoencoder.encode, x),
        (model.decoder, autoencoder.decode, latent),
    ):
        hook = part.conv_out.register_forward_pre_hook(_fail)
        with pytest.raises(RuntimeError, match="on purpose"):
            call(given)
        hook.remove()
        assert caches(model) == before
    torch.testing.assert_close(autoencoder.encode(x), latent)


# Noise, timesteps, codes, precision.


def test_a_decoder_with_noise_in_it_repeats_it_for_every_call_and_row():
    autoencoder, other = (wrapped("ConsistencyDecoderVAE", seed=seed) for seed in (None, 1))
    latent = autoencoder.encode(example("ConsistencyDecoderVAE", rows=1)).repeat(2, 1, 1, 1)
    back = autoencoder.decode(latent)
    torch.testing.assert_close(back[0], back[1])
    assert not torch.allclose(other.decode(latent), back, atol=1e-3)


def test_ltx_decoders_get_their_timestep_and_repeat_their_noise():
    import diffusers

    config = TINY["AutoencoderKLLTXVideo"].config | {
        "timestep_conditioning": True,
        "decoder_inject_noise": (True,) * 5,
    }
    torch.manual_seed(0)
    model = diffusers.AutoencoderKLLTXVideo(**config).eval()
    for name, weight in model.named_parameters():
        if "per_channel_scale" in name:
            weight.fill_(0.5)
    first = Autoencoder.from_diffusers(model)
    latent = first.encode(example("AutoencoderKLLTXVideo"))
    back = first.decode(latent)
    state = torch.random.get_rng_state()
    torch.rand(7)
    assert torch.equal(first.decode(latent), back)
    torch.random.set_rng_state(state)
    for options in ({"decode_timestep": 0.5}, {"seed": 1}):
        other = Autoencoder.from_diffusers(model, **options)
        assert not torch.allclose(other.decode(latent), back, atol=1e-4)
    with pytest.raises(ValueError, match=r"decode_timestep must lie in \[0, 1\]"):
        Autoencoder.from_diffusers(model, decode_timestep=2.0)


def test_quantising_is_left_out():
    model = tiny("VQModel")
    autoencoder = Autoencoder.from_diffusers(model)
    latent = autoencoder.encode(example("VQModel"))
    moved = latent + 1e-3
    assert not torch.equal(autoencoder.decode(moved), autoencoder.decode(latent))
    assert torch.equal(model.decode(moved).sample, model.decode(latent).sample)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("VQModel", {"lookup_from_codebook": True}, "codes"),
        (
            "AutoencoderVidTok",
            {"regularizer": "fsq", "double_z": False, "z_channels": 6},
            "codes",
        ),
        ("Cosmos3AVAEAudioTokenizer", {"encoder_enabled": False}, "without its encoder"),
        ("AutoencoderKLWan", {"out_channels": 6}, "in_channels 3 and out_channels 6"),
    ],
)
def test_models_whose_configuration_makes_no_pair_are_refused(name, change, words):
    import diffusers

    model = getattr(diffusers, name)(**(TINY[name].config | change))
    with pytest.raises(ValueError, match=words):
        Autoencoder.from_diffusers(model)


def test_allegro_wants_tiling_switched_on():
    model = tiny("AutoencoderKLAllegro")
    model.disable_tiling()
    with pytest.raises(ValueError, match="enable_tiling"):
        Autoencoder.from_diffusers(model)
    assert not model.use_tiling


@pytest.mark.parametrize("name", ["AutoencoderKL", "AutoencoderKLTemporalDecoder"])
def test_upcasting_is_asked_for_and_happens_on_a_copy(name):
    model = tiny(name).to(torch.float16)
    assert Autoencoder.from_diffusers(model).dtype == torch.float16
    upcast = Autoencoder.from_diffusers(model, upcast=True)
    assert upcast.dtype == torch.float32
    assert upcast.model is not model
    assert model.dtype == torch.float16
    x = example(name)
    expected = Autoencoder.from_diffusers(copy.deepcopy(model).float()).encode(x)
    torch.testing.assert_close(upcast.encode(x), expected)
    model.register_to_config(force_upcast=False)
    assert Autoencoder.from_diffusers(model, upcast=True).model is model
    half = tiny(name).to(torch.bfloat16)
    assert Autoencoder.from_diffusers(half, upcast=True).model is half


def test_upcasting_is_for_classes_whose_pipelines_do_it():
    model = tiny("AutoencoderKLCogVideoX").to(torch.float16)
    assert model.config.force_upcast
    assert Autoencoder.from_diffusers(model, upcast=True).model is model


# Folders, copies.


@pytest.mark.parametrize(
    "name",
    [
        "AutoencoderDC",
        "AutoencoderKLAllegro",
        "AutoencoderKLFlux2",
        "AutoencoderKLTemporalDecoder",
        "AutoencoderKLWan",
        "AutoencoderOobleck",
        "AutoencoderTiny",
        "VQModel",
    ],
)
def test_each_kind_is_loaded_from_a_folder(name, tmp_path, no_network):
    model = tiny(name)
    model.save_pretrained(tmp_path)
    x = example(name, rows=1)
    loaded = Autoencoder.from_pretrained(tmp_path)
    latent = Autoencoder.from_diffusers(model).encode(x)
    torch.testing.assert_close(loaded.encode(x), latent)
    assert loaded.medium == CLASSES[name].medium
    assert not any(weight.requires_grad for weight in loaded.model.parameters())


def test_a_pipeline_folder_may_call_its_autoencoder_movq(tmp_path, no_network):
    tiny("VQModel").save_pretrained(tmp_path / "movq")
    (tmp_path / "model_index.json").write_text("{}")
    assert Autoencoder.from_pretrained(tmp_path).channels == 3


def test_refused_classes_are_refused_in_a_folder_too(tmp_path):
    (tmp_path / "config.json").write_text('{"_class_name": "MMAudioVocoder"}')
    with pytest.raises(TypeError, match="holds a MMAudioVocoder, which is not supported: it makes"):
        Autoencoder.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("AutoencoderKLWan", "keeps frames on the model"),
        ("AutoencoderKLHunyuanVideo15", "rows one by one"),
        ("ConsistencyDecoderVAE", "noise in it"),
    ],
)
def test_what_cannot_be_compiled_says_why_and_goes_on(name, words):
    autoencoder = wrapped(name)
    x = example(name)
    with pytest.warns(UserWarning, match=words):
        operator = DecoderInversion(autoencoder.encode, autoencoder.decode, x, compile=True)
    plain = DecoderInversion(autoencoder.encode, autoencoder.decode, x)
    torch.testing.assert_close(operator(operator.start), plain(plain.start))


@pytest.mark.parametrize("name", ["AutoencoderKLWan", "AutoencoderKLTemporalDecoder"])
def test_videos_are_inverted_in_another_dtype_on_a_copy(name):
    autoencoder = wrapped(name)
    x = example(name)
    operator = DecoderInversion(autoencoder.encode, autoencoder.decode, x, dtype=torch.bfloat16)
    assert operator(operator.start).shape == operator.start.shape
    assert autoencoder.dtype == torch.float32
    copied = autoencoder.copy(channels_last=True)
    torch.testing.assert_close(copied.encode(x), autoencoder.encode(x), rtol=1e-3, atol=1e-4)
