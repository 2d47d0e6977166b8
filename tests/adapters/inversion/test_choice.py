"""Which method `invert` takes for a row, and that no row comes to harm by it."""

import io
from contextlib import contextmanager

import pytest
import torch
from PIL import Image, features
from real_pairs import KODAK, needs_kodak, needs_taef2, taef2
from refuted_pairs import generated, halves, refuted_pair

from fixpoint import ForwardStep, Status
from fixpoint.adapters import (
    Autoencoder,
    Clip,
    EightBit,
    Identity,
    Masked,
    PerRow,
    as_pictures,
    invert,
    nmse_db,
    to_pil,
)
from fixpoint.adapters.autoencoders.calibration import example_photographs
from fixpoint.adapters.inversion import choice, gradient_plan, settle
from fixpoint.adapters.inversion.choice import can_be_settled
from fixpoint.adapters.inversion.decoder_inversion import DecoderInversion
from fixpoint.adapters.inversion.invert_picture import invert_by_iteration
from fixpoint.adapters.inversion.judgement import InversionOutcome
from fixpoint.adapters.inversion.problem import InversionProblem
from fixpoint.adapters.pictures.observations import CallableObservation
from fixpoint.adapters.pictures.pictures import Pictures

HARM_DB = 0.3


def inverted(autoencoder, picture, **options):
    return invert(autoencoder, picture, value_range=(-1, 1), **options)


@torch.no_grad()
def gains(found, autoencoder, truth):
    """By how many dB each row is nearer to the truth than E(x)."""
    return nmse_db(autoencoder.encode(found.picture), truth) - found.nmse_db(truth)


@pytest.fixture(scope="module")
def apart():
    """A pair whose halves were made apart."""
    return refuted_pair()


@pytest.fixture(scope="module")
def apart_case(apart):
    truth, decoded = generated(apart)
    return truth, EightBit()(decoded)


@pytest.fixture(scope="module")
def crops(autoencoder):
    """Three latents of the embedded pair, and what it decodes them to, not yet observed."""
    return generated(autoencoder, side=64)


# Pairs whose halves were made apart


def test_the_pair_is_one_on_which_the_iteration_does_not_contract(apart, apart_case):
    _, picture = apart_case
    run = invert_by_iteration(apart, picture, value_range=(-1, 1))
    residual = run.solution.history.residual_norm
    assert float((residual[1:4] / residual[0]).amin(0).min()) > 0.3


def test_refuted_rows_go_by_gradients_and_are_explained(apart, apart_case):
    truth, picture = apart_case
    found = inverted(apart, picture)
    assert float(gains(found, apart, truth).min()) > 20
    assert found.solution.status == (Status.REFUTED,) * 3
    assert found.outcome == (InversionOutcome.EXPLAINED,) * 3
    assert found.status == (Status.NOISE_FLOOR,) * 3
    assert found.success == (True,) * 3
    assert set(found.method) == {"whitened L-BFGS"}
    for sentence in found.verdict:
        assert sentence.startswith("explained by the observation")
        assert "condition refuted" in sentence
    assert (found.evaluations > found.solution.evaluations.cpu()).all()


def test_without_gradients_no_refuted_row_is_worse_than_the_encoders(apart, apart_case):
    truth, picture = apart_case
    found = inverted(apart, picture, gradients="never")
    assert float(gains(found, apart, truth).min()) > 3
    assert found.outcome == (InversionOutcome.REFUTED,) * 3
    assert found.status == (Status.REFUTED,) * 3
    assert found.success == (False,) * 3
    assert all("refuted" in sentence for sentence in found.verdict)


@pytest.mark.parametrize("noise", [0.02, 0.1])
@pytest.mark.parametrize("gradients", ["auto", "never"])
def test_no_refuted_row_with_unannounced_noise_is_worse_than_the_encoders(
    apart, apart_case, gradients, noise
):
    truth, _ = apart_case
    decoded = apart.decode(truth)
    draws = torch.Generator().manual_seed(0)
    picture = EightBit()(decoded + noise * torch.randn(decoded.shape, generator=draws))
    found = inverted(apart, picture, gradients=gradients)
    assert float(gains(found, apart, truth).min()) > -HARM_DB
    assert InversionOutcome.EXPLAINED not in found.outcome


def test_a_pair_without_gradients_falls_back_to_calibrated_steps(apart, apart_case):
    truth, picture = apart_case
    plain = refuted_pair(gradients=False)
    found = inverted(plain, picture)
    assert set(found.method) == {"calibrated steps"}
    assert float(gains(found, plain, truth).min()) > 3
    never = inverted(apart, picture, gradients="never")
    torch.testing.assert_close(found.latent, never.latent)


def test_always_is_refused_for_a_pair_without_gradients(apart_case):
    plain = refuted_pair(gradients=False)
    with pytest.raises(ValueError, match="decoder without gradients: gradients='always' needs one"):
        inverted(plain, apart_case[1], gradients="always")


def test_gradients_always_run_without_the_iteration(apart, apart_case):
    truth, picture = apart_case
    found = inverted(apart, picture, gradients="always")
    assert found.solution is None
    assert found.outcome == (InversionOutcome.EXPLAINED,) * 3
    assert found.status == (Status.NOISE_FLOOR,) * 3
    assert set(found.method) == {"whitened L-BFGS"}
    assert not any("refuted" in sentence for sentence in found.verdict)
    assert float(gains(found, apart, truth).min()) > 20


def test_refuted_rows_leave_the_weights_as_they_were():
    class Scaled(torch.nn.Module):
        def __init__(self, half):
            super().__init__()
            self.gain = torch.nn.Parameter(torch.ones(()))
            self.half = half

        def forward(self, x):
            return self.half(self.gain * x)

    encoder, decoder = (Scaled(half) for half in halves())
    pair = Autoencoder.from_functions(encoder, decoder)
    truth, decoded = generated(pair, count=1)
    found = inverted(pair, EightBit()(decoded))
    assert found.solution.status == (Status.REFUTED,)
    assert float(gains(found, pair, truth).min()) > 20
    assert not found.latent.requires_grad
    for module in (encoder, decoder):
        assert module.gain.requires_grad
        assert module.gain.grad is None


# Memory


class TenBytes:
    """A measurement in the place of `PeakMemory`: a step adds ten bytes a row."""

    added = 10

    def __init__(self, device):
        self.device = device

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None


@pytest.fixture
def ten_bytes(monkeypatch):
    """The sizes of the groups of rows that went through gradient steps together."""
    groups = []
    by_gradient = choice.by_gradient

    def counted(task):
        groups.append(len(task.image))
        return by_gradient(task)

    monkeypatch.setattr(settle, "GRADIENT_STEPS", 50)
    monkeypatch.setattr(gradient_plan, "PeakMemory", TenBytes)
    monkeypatch.setattr(choice, "by_gradient", counted)
    return groups


def test_rows_share_the_memory_budget(apart, apart_case, ten_bytes):
    _, picture = apart_case
    whole = inverted(apart, picture)
    assert ten_bytes == [3]
    ten_bytes.clear()
    halved = inverted(apart, picture, memory_budget=29)
    assert ten_bytes == [2, 1]
    torch.testing.assert_close(halved.latent, whole.latent, rtol=1e-2, atol=1e-2)
    ten_bytes.clear()
    inverted(apart, picture, memory_budget=10)
    assert ten_bytes == [1, 1, 1]


def test_a_budget_below_one_row_falls_back_to_calibrated_steps(apart, apart_case, ten_bytes):
    found = inverted(apart, apart_case[1], memory_budget=9)
    assert ten_bytes == []
    assert set(found.method) == {"calibrated steps"}


def test_a_budget_below_one_row_is_refused_where_gradients_are_demanded(
    apart, apart_case, ten_bytes
):
    with pytest.raises(ValueError, match="more than the memory_budget"):
        inverted(apart, apart_case[1], memory_budget=9, gradients="always")
    assert ten_bytes == []


@pytest.mark.slow
def test_a_step_beyond_the_budget_computes_activations_anew(autoencoder, crops, monkeypatch):
    """Ten bytes as it is, and five with activations computed anew."""
    _, decoded = crops
    used = []
    real = gradient_plan.checkpointed

    @contextmanager
    def counted(pair):
        used.append(pair)
        with real(pair):
            yield

    def needed(task, pair, *, checkpoints=False):
        return 5 if checkpoints else 10

    monkeypatch.setattr(settle, "GRADIENT_STEPS", 5)
    monkeypatch.setattr(gradient_plan, "checkpointed", counted)
    monkeypatch.setattr(gradient_plan, "_bytes_of_a_step", needed)
    seen = EightBit()(decoded[:2])
    saving = inverted(autoencoder, seen, gradients="always", memory_budget=5)
    assert len(used) == 2  # a row at a time
    plain = inverted(autoencoder, seen, gradients="always", memory_budget=10)
    assert len(used) == 2
    torch.testing.assert_close(saving.latent, plain.latent, rtol=1e-3, atol=1e-3)


# What is refused


def counting():
    """A pair, and the list that every call of one of its halves is put into."""
    calls = []
    encode, decode = halves()

    def counted(half):
        def call(x):
            calls.append(len(x))
            return half(x)

        return call

    pair = Autoencoder.from_functions(counted(encode), counted(decode))
    calls.clear()
    return pair, calls


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"gradients": "sometimes"}, "gradients must be one of auto, never, always; got 'some"),
        ({"gradients": True}, "gradients must be one of auto, never, always; got True"),
        ({"memory_budget": 0}, "memory_budget must be a whole number of bytes, got 0"),
        ({"memory_budget": -5}, "memory_budget must be a whole number of bytes, got -5"),
        ({"memory_budget": 1e9}, "memory_budget must be a whole number of bytes"),
        ({"memory_budget": True}, "memory_budget must be a whole number of bytes, got True"),
        ({"gradients": "always", "iterator": ForwardStep()}, "runs no iterator"),
        ({"gradients": "always", "stop": ()}, "runs no iterator"),
        ({"gradients": "always", "keep": "last"}, "runs no iterator"),
    ],
)
def test_what_cannot_be_done_is_refused_before_any_model_runs(options, words):
    pair, calls = counting()
    with pytest.raises(ValueError, match=words):
        inverted(pair, torch.zeros(1, 3, 32, 32), **options)
    assert calls == []


def test_always_is_refused_for_hidden_pictures(autoencoder):
    known = torch.ones(64, 64, dtype=torch.bool)
    known[:8] = False
    with pytest.raises(ValueError, match="gradients='always' is for RGB pictures, and not for Ma"):
        inverted(
            autoencoder, torch.zeros(1, 3, 64, 64), observation=Masked(known), gradients="always"
        )


# The embedded pair, on which the theorem holds


def test_pictures_of_the_pair_are_explained_by_the_iteration(autoencoder, crops):
    truth, decoded = crops
    found = inverted(autoencoder, EightBit()(decoded))
    assert found.outcome == (InversionOutcome.EXPLAINED,) * 3
    assert found.method == ("fixed-point iteration",) * 3
    assert found.status == (Status.NOISE_FLOOR,) * 3
    assert found.latent.equal(found.solution.z)
    assert found.evaluations.equal(found.solution.evaluations.cpu())
    assert float(gains(found, autoencoder, truth).min()) > 15


@pytest.mark.slow
def test_gradients_always_explain_pictures_of_the_embedded_pair(autoencoder, crops):
    truth, decoded = crops
    found = inverted(autoencoder, EightBit()(decoded[:1]), gradients="always")
    assert found.outcome == (InversionOutcome.EXPLAINED,)
    assert found.method == ("whitened L-BFGS",)
    assert float(gains(found, autoencoder, truth[:1]).min()) > 10


def noisy(decoded):
    draws = torch.Generator().manual_seed(0)
    return EightBit()(decoded + 0.02 * torch.randn(decoded.shape, generator=draws))


def compressed(kind, quality):
    def observe(decoded):
        rows = []
        for row in decoded:
            buffer = io.BytesIO()
            to_pil(row).save(buffer, kind, quality=quality)
            rows.append(as_pictures(Image.open(buffer).convert("RGB")).values)
        return torch.cat(rows)  # in 8 bits, as a PNG of it would be

    return observe


@pytest.mark.parametrize(
    ("observe", "least"),
    [
        pytest.param(noisy, 3.0, id="noise"),
        pytest.param(
            compressed("WEBP", 75),
            0.0,
            id="webp",
            marks=pytest.mark.skipif(not features.check("webp"), reason="Pillow without WebP"),
        ),
    ],
)
def test_what_no_observation_announces_does_no_harm(autoencoder, crops, observe, least):
    truth, decoded = crops
    found = inverted(autoencoder, observe(decoded))
    gained = gains(found, autoencoder, truth)
    assert float(gained.min()) > -HARM_DB
    assert float(gained.median()) > least
    assert InversionOutcome.EXPLAINED not in found.outcome
    assert set(found.method) == {"the most probable latent"}


def test_without_gradients_such_pictures_take_one_calibrated_step(autoencoder, crops):
    truth, decoded = crops
    found = inverted(autoencoder, noisy(decoded), gradients="never")
    assert float(gains(found, autoencoder, truth).median()) > 2
    assert set(found.method) == {"one calibrated step"}


@pytest.mark.parametrize("gradients", ["auto", "always"])
def test_jpeg_is_found_in_the_pixels_and_explains_them(autoencoder, crops, gradients):
    truth, decoded = crops
    found = inverted(autoencoder, compressed("JPEG", 80)(decoded), gradients=gradients)
    gained = gains(found, autoencoder, truth)
    assert float(gained.min()) > 0
    assert float(gained.median()) > 2
    assert set(found.outcome) == {InversionOutcome.EXPLAINED}
    assert set(found.method) == {"the most probable latent"}
    assert found.success


def test_a_picture_with_traces_of_jpeg_has_the_same_latent_alone_and_beside_others(
    autoencoder, crops
):
    _, decoded = crops
    mixed = torch.cat((compressed("JPEG", 80)(decoded[:1]), EightBit()(decoded[1:2])))
    together = inverted(autoencoder, mixed)
    for row in range(2):
        alone = inverted(autoencoder, mixed[row : row + 1])
        # Convolutions of other batches differ in the last digits, and a descent carries them on.
        assert torch.allclose(alone.latent[0], together.latent[row], atol=2e-3)
        assert alone.method[0] == together.method[row]


def test_photographs_that_no_decoder_made_are_not_explained(autoencoder):
    found = inverted(autoencoder, example_photographs(64, count=2))
    assert set(found.outcome) <= {InversionOutcome.FOREIGN, InversionOutcome.NOISE}
    assert InversionOutcome.FOREIGN in found.outcome


def test_an_empty_batch_is_refused_by_the_call_and_settled_into_nothing(apart):
    empty = torch.zeros(0, 3, 32, 32)
    for gradients in choice.GRADIENTS:
        with pytest.raises(ValueError, match="the picture is empty"):
            inverted(apart, empty, gradients=gradients)
    operator = DecoderInversion(apart.encode, apart.decode, empty, EightBit())
    problem = InversionProblem(
        apart, Pictures(empty, EightBit()), empty, EightBit(), EightBit(), operator, started=0.0
    )
    rows = choice.by_gradients_alone(problem, None, progress=False)
    assert rows.latent.shape == operator.start.shape
    assert rows.latent.shape[0] == len(rows.evaluations) == len(rows.judgements) == 0


@pytest.mark.parametrize(
    "options",
    [{"iterator": ForwardStep()}, {"stop": ()}, {"keep": "last"}],
    ids=lambda options: next(iter(options)),
)
def test_a_method_that_the_caller_names_is_judged_but_not_replaced(apart, apart_case, options):
    found = inverted(apart, apart_case[1], max_iterations=6, **options)
    assert found.latent.equal(found.solution.z)
    assert Status.REFUTED not in found.solution.status
    assert set(found.method) == {"fixed-point iteration"}
    assert len(found.verdict) == 3
    assert InversionOutcome.EXPLAINED not in found.outcome


def test_no_iterations_leave_the_encoders_latent(apart, apart_case):
    _, picture = apart_case
    found = inverted(apart, picture, max_iterations=0)
    torch.testing.assert_close(found.latent, apart.encode(picture))
    assert set(found.method) == {"fixed-point iteration"}
    assert not any(found.success)


def test_a_run_cut_off_is_said_to_be_unfinished(autoencoder, crops):
    found = inverted(autoencoder, EightBit()(crops[1][:1]), max_iterations=1)
    assert found.outcome == (InversionOutcome.UNFINISHED,)
    assert found.status == (Status.MAX_ITERATIONS,)
    assert "still coming nearer" in found.verdict[0]


def test_rows_of_one_batch_go_different_ways(apart, apart_case):
    _, picture = apart_case
    flat = torch.zeros_like(picture[:1])
    found = inverted(apart, torch.cat((picture[:1], flat)))
    assert "condition refuted" in found.verdict[0]
    assert found.outcome[0] is InversionOutcome.EXPLAINED
    alone = inverted(apart, picture[:1])
    torch.testing.assert_close(found.latent[:1], alone.latent, rtol=1e-2, atol=1e-2)


# What can be settled at all


def test_only_what_is_known_pixel_by_pixel_is_settled(autoencoder):
    known = torch.ones(64, 64, dtype=torch.bool)
    known[0] = False
    assert can_be_settled(autoencoder, EightBit())
    assert can_be_settled(autoencoder, PerRow((EightBit(), Clip())))
    for observation in (
        Masked(known),
        PerRow((EightBit(), Masked(known))),
        CallableObservation(torch.sin),
        PerRow((Identity(), CallableObservation(torch.sin))),
    ):
        assert not can_be_settled(autoencoder, observation)


def test_an_unknown_observation_is_iterated_and_not_judged(autoencoder, crops):
    picture = crops[1][:1].clamp(-1, 1)
    found = inverted(autoencoder, picture, observation=lambda x: x, max_iterations=4)
    assert found.outcome == (InversionOutcome.UNJUDGED,)
    assert found.verdict[0].startswith("not judged; the iteration ended: ")
    assert found.latent.equal(found.solution.z)


# FLUX.2's tiny autoencoder: its halves were distilled apart


@pytest.fixture(scope="module")
def distilled():
    autoencoder = taef2()
    paths = sorted(KODAK.glob("*.png"))[:2]
    photographs = [as_pictures(path).values[..., 200:264, 300:364] for path in paths]
    with torch.no_grad():
        truth = autoencoder.encode(torch.cat(photographs))
        return autoencoder, truth, EightBit()(autoencoder.decode(truth))


@needs_taef2
@needs_kodak
@pytest.mark.slow
def test_latents_of_taef2_are_found_well_below_the_encoders(distilled):
    autoencoder, truth, picture = distilled
    found = inverted(autoencoder, picture)
    assert float(gains(found, autoencoder, truth).min()) > 6
    assert all("condition refuted" in sentence for sentence in found.verdict)


@needs_taef2
@needs_kodak
@pytest.mark.slow
def test_latents_of_taef2_are_below_the_encoders_without_gradients(distilled):
    autoencoder, truth, picture = distilled
    found = inverted(autoencoder, picture, gradients="never")
    assert float(gains(found, autoencoder, truth).min()) > 0
    assert all("refuted" in sentence for sentence in found.verdict)
