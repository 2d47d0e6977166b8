"""`invert` with its defaults: what it chooses by what it sees, and that it ends near its best."""

import dataclasses
import io
import math

import pytest
import torch
from PIL import Image

from fixpoint import Anderson, ForwardStep, Status
from fixpoint.adapters import (
    Autoencoder,
    Clip,
    EightBit,
    Identity,
    Inversion,
    Jpeg,
    Masked,
    PerRow,
    RoundingCells,
    WhiteNoise,
    invert,
    nmse_db,
    to_pil,
)
from fixpoint.adapters.inversion.defaults import default_iterator, default_observation, default_stop
from fixpoint.adapters.pictures.observations import EIGHT_BIT_NOISE, CallableObservation
from fixpoint.adapters.pictures.pictures import Pictures
from fixpoint.stop import Divergence, NoiseFloor, Stagnation

SIXTEEN = (torch.float16, torch.bfloat16)
KNOWN = torch.eye(64, dtype=torch.bool).repeat_interleave(2, 0)[:64]


class HarderRounding(EightBit):
    """A user's own."""


# What it chooses


def test_rounding_becomes_cells_in_32_bits_and_stays_in_16():
    assert default_observation(EightBit(), torch.float32) == RoundingCells()
    assert default_observation(EightBit(), torch.float64) == RoundingCells()
    for dtype in SIXTEEN:
        assert type(default_observation(EightBit(), dtype)) is EightBit


@pytest.mark.parametrize("dtype", [torch.float32, *SIXTEEN])
@pytest.mark.parametrize(
    "observation",
    [
        Identity(),
        Clip(),
        Jpeg(quality=80),
        HarderRounding(),
        RoundingCells(tolerance=0.5),
        WhiteNoise(level=0.1),
        Masked(KNOWN, EightBit()),
        CallableObservation(torch.sin),
    ],
    ids=lambda observation: type(observation).__name__,
)
def test_every_other_observation_is_left_as_it_is(observation, dtype):
    assert default_observation(observation, dtype) is observation


def test_rows_are_chosen_one_by_one():
    rows = PerRow((EightBit(), Jpeg(quality=80), HarderRounding(), Clip(), EightBit()))
    chosen = default_observation(rows, torch.float32).observations
    assert [type(each) for each in chosen] == [
        RoundingCells,
        Jpeg,
        HarderRounding,
        Clip,
        RoundingCells,
    ]
    kept = default_observation(rows, torch.bfloat16).observations
    assert [type(each) for each in kept] == [type(each) for each in rows.observations]


def test_the_method_is_chosen_by_dtype_and_by_what_is_hidden():
    full, half = default_iterator(RoundingCells()), default_iterator(EightBit(), torch.bfloat16)
    assert isinstance(full, Anderson)
    assert isinstance(half, Anderson)
    assert full.minimize == half.minimize == "deviation"
    assert full.memory > half.memory
    assert full.mixing > half.mixing
    assert default_iterator(EightBit(), torch.float16) == full
    for hidden in (Masked(KNOWN), PerRow((Masked(KNOWN), Masked(KNOWN, Clip())))):
        for dtype in (torch.float32, torch.bfloat16):
            assert default_iterator(hidden, dtype) == ForwardStep()
    with pytest.raises(ValueError, match="invert them apart"):
        default_iterator(PerRow((EightBit(), Masked(KNOWN))))


def shown(*observations):
    observation = observations[0] if len(observations) == 1 else PerRow(observations)
    return Pictures(torch.zeros(len(observations), 3, 64, 64), observation)


def floors(*arguments):
    """The levels of the noise floors among the default stop rules, by what they watch."""
    rules = [rule for rule in default_stop(*arguments) if isinstance(rule, NoiseFloor)]
    found = {rule.quantity: rule.level.tolist() for rule in rules}
    assert len(found) == len(rules)
    return found


def test_cells_stop_a_little_below_what_they_leave_of_rounding():
    for tolerance in (0.8, 0.5):
        cells = RoundingCells(tolerance=tolerance)
        level = 0.9 * cells.deviation_level
        assert floors(cells, shown(EightBit())) == {"deviation_level": [pytest.approx(level)]}
    assert floors(RoundingCells(tolerance=1.0), shown(EightBit())) == {}


@pytest.mark.parametrize("observation", [Identity(), Clip()])
def test_rounding_that_is_left_out_is_not_fitted(observation):
    level = [pytest.approx(EIGHT_BIT_NOISE)]
    assert floors(observation, shown(EightBit())) == {"misfit": level}
    assert floors(observation, shown(Jpeg(quality=75))) == {"misfit": level}
    assert floors(observation, shown(Clip())) == floors(observation, shown(Identity())) == {}


@pytest.mark.parametrize(
    "observation",
    [EightBit(), Jpeg(quality=75), WhiteNoise(level=0.02), CallableObservation(torch.sin)],
    ids=lambda observation: type(observation).__name__,
)
def test_rounding_that_is_repeated_or_covered_has_no_floor(observation):
    assert floors(observation, shown(EightBit())) == {}


def test_what_a_mask_hides_is_not_taken_for_rounding_left_out():
    for mask in (KNOWN, torch.ones_like(KNOWN)):
        masked = Masked(mask)
        share = float(mask.float().mean()) ** 0.5
        level = [pytest.approx(0.9 * share * masked.deviation_level)]
        assert floors(masked, shown(EightBit())) == {"deviation_level": level}


def test_rounding_left_out_of_a_mask_is_at_the_level_of_its_share():
    share = math.sqrt(float(KNOWN.float().mean()))
    level = [pytest.approx(share * EIGHT_BIT_NOISE)]
    assert floors(Masked(KNOWN, Clip()), shown(EightBit())) == {"misfit": level}


def test_clipped_values_carry_no_noise():
    half_white = Pictures(torch.ones(1, 3, 64, 64), Clip())
    half_white.values[..., :32] = 0
    (level,) = floors(RoundingCells(), half_white)["deviation_level"]
    assert level == pytest.approx(0.9 * 0.5**0.5 * RoundingCells().deviation_level)


def test_every_row_has_its_own_floor():
    rows = PerRow((RoundingCells(), Clip(), EightBit()))
    found = floors(rows, shown(EightBit(), EightBit(), EightBit()))
    assert found["misfit"] == pytest.approx([0, EIGHT_BIT_NOISE, 0])
    assert found["deviation_level"] == pytest.approx([0.9 * RoundingCells().deviation_level, 0, 0])


@pytest.mark.parametrize("dtype", [torch.float32, *SIXTEEN])
def test_divergence_and_stagnation_end_every_run(dtype):
    for observation in (Identity(), RoundingCells(), EightBit()):
        rules = default_stop(observation, shown(EightBit()), dtype)
        assert Divergence(factor=10) in rules
        watched = [rule.quantity for rule in rules if isinstance(rule, Stagnation)]
        assert watched == ["residual"] + ["deviation_level"] * (dtype != torch.bfloat16)


def test_bfloat16_is_given_less_time_to_stagnate():
    def window(dtype):
        rules = default_stop(EightBit(), shown(EightBit()), dtype)
        rule = next(rule for rule in rules if isinstance(rule, Stagnation))
        return rule.window

    assert window(torch.bfloat16) < window(torch.float32) == window(torch.float16)


# Semi-convergence


@pytest.fixture(scope="module")
def truth(autoencoder, photograph):
    """A latent and what it decodes to, not yet observed."""
    with torch.no_grad():
        latent = autoencoder.encode(photograph)
        return latent, autoencoder.decode(latent)


@dataclasses.dataclass(frozen=True)
class Run:
    """An inversion, its error in dB, and the error and deviation of every point on its way."""

    inversion: Inversion
    error: float
    errors: list[float]
    levels: list[float]
    points: list[torch.Tensor]

    @property
    def lost(self):
        """What the returned latent is worse than the best of the run, in dB."""
        return self.error - min(self.errors)


def run(autoencoder, picture, latent, **options):
    errors, levels, points = [], [], []

    def watch(iterate):
        errors.append(float(nmse_db(iterate.state.point, latent)))
        levels.append(float(iterate.measured["deviation_level"]))
        points.append(iterate.state.point)

    if torch.is_tensor(picture):
        options["value_range"] = (-1, 1)
    inversion = invert(autoencoder, picture, callback=watch, **options)
    return Run(inversion, float(inversion.nmse_db(latent)), errors, levels, points)


def rounded(decoded):
    return EightBit()(decoded), {}


def compressed(decoded):
    """An opened JPEG file, which shows its own settings."""
    buffer = io.BytesIO()
    to_pil(decoded[0]).save(buffer, "JPEG", quality=75)
    return Image.open(buffer), {}


def noisy(decoded):
    generator = torch.Generator().manual_seed(0)
    noise = 0.02 * torch.randn(decoded.shape, generator=generator)
    return (decoded + noise).clamp(-1, 1), {"observation": WhiteNoise(level=0.02)}


@pytest.mark.parametrize("observe", [rounded, compressed, noisy])
def test_invert_returns_about_the_best_latent_of_its_own_run(observe, autoencoder, truth):
    latent, decoded = truth
    picture, options = observe(decoded)
    ours = run(autoencoder, picture, latent, **options)
    assert ours.lost < 0.5
    plain = run(autoencoder, picture, latent, observation=Identity(), stop=(), max_iterations=59)
    assert len(plain.errors) <= 60
    assert plain.errors[-1] > min(plain.errors) + 3  # it fits what is no part of the latent
    assert ours.error < plain.error - 3


def test_invert_in_bfloat16_returns_about_the_best_latent_of_its_own_run(truth):
    half = Autoencoder.embedded(dtype=torch.bfloat16)
    latent, _ = truth
    with torch.no_grad():
        picture = EightBit()(half.decode(latent))
    ours = run(half, picture, latent)
    assert type(ours.inversion.observation) is EightBit
    assert ours.lost < 1
    assert int(ours.inversion.evaluations) < 20


def test_cells_are_at_least_as_accurate_as_rounding(autoencoder, truth):
    latent, decoded = truth
    picture = EightBit()(decoded)
    cells = run(autoencoder, picture, latent, max_iterations=25)
    assert cells.inversion.observation == RoundingCells()
    rounding = run(autoencoder, picture, latent, max_iterations=25, observation=EightBit())
    assert cells.error < rounding.error
    assert min(cells.errors) < min(rounding.errors)


def test_invert_returns_the_point_of_least_deviation(autoencoder, truth):
    latent, decoded = truth
    ours = run(autoencoder, EightBit()(decoded), latent, max_iterations=12, stop=())
    assert ours.inversion.solution.status == (Status.MAX_ITERATIONS,)
    least = min(range(len(ours.levels)), key=ours.levels.__getitem__)
    assert torch.equal(ours.inversion.latent, ours.points[least])


def test_pictures_of_different_kinds_are_inverted_as_they_would_be_alone(autoencoder, truth):
    _, decoded = truth
    pictures = torch.cat([EightBit()(decoded), decoded.clamp(-0.99, 0.99)])
    options = {"value_range": (-1, 1), "max_iterations": 6}
    together = invert(autoencoder, pictures, **options)
    assert [type(each) for each in together.observation.observations] == [RoundingCells, Identity]
    for row in range(2):
        alone = invert(autoencoder, pictures[row : row + 1], **options)
        assert alone.status[0] is together.status[row]
        torch.testing.assert_close(alone.latent[0], together.latent[row], rtol=1e-2, atol=1e-2)
