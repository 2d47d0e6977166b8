"""Did this model make this picture? Attribution without a watermark, by exact inversion.

A picture that a decoder D made lies on its range: once z is found, what was observed of D(z) agrees
with the picture x. A photograph, or the picture of another model, stays off that range however z is
chosen. But a smooth picture is near to the range of every decoder, and JPEG brings others near. So
the score compares the decoder with a code that knows nothing, L, which keeps the low frequencies of
x, as many numbers as there are in z:

    20 log10(||Q(L x) - x|| / ||Q(D(z)) - x||)    in dB,

with the observation Q (rounding to 8 bits, JPEG, ...). An autoencoder does better than L on most
pictures, by a few dB; on its own decoder's pictures by far more. Where the line is comes from
pictures that the model did not make, seen through the same Q: conformal prediction (Vovk, Gammerman
& Shafer, Algorithmic Learning in a Random World, 2005) makes p-values of their scores. LatentTracer
(Wang et al., ICML 2024) asks the same with an inversion by gradients and its error alone.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import interpolate
from tqdm import tqdm

from fixpoint import kernels
from fixpoint.adapters.autoencoders.autoencoder import EMBEDDED, Autoencoder
from fixpoint.adapters.autoencoders.folder import MODELS
from fixpoint.adapters.inversion.defaults import default_observation
from fixpoint.adapters.inversion.invert_picture import invert
from fixpoint.adapters.inversion.reading import readable
from fixpoint.adapters.inversion.result import Inversion
from fixpoint.adapters.pictures.composed_observations import Masked, PerRow
from fixpoint.adapters.pictures.observations import (
    EIGHT_BIT_NOISE,
    EightBit,
    Observation,
    RoundingCells,
    WhiteNoise,
    as_observation,
)
from fixpoint.adapters.pictures.pictures import as_pictures, check_sides
from fixpoint.adapters.reports.latent_files import write_json
from fixpoint.checkpoints.tree_file import digest_of
from fixpoint.summary import Summarised

EVALUATIONS = 10
"""Limit on iterations: pictures on the range are there by then, and others never arrive."""
FLOOR = EIGHT_BIT_NOISE / 3
"""What an exact inversion of an 8-bit picture may leave: about what its rounding cells allow."""
LOWEST = -100.0
"""dB, of an inversion that failed."""
REAL = "real"


@dataclass(frozen=True)
class Calibration(Summarised):
    """Scores of pictures that a model did not make, and what they hold for.

    Attributes:
        groups: by kind of picture, its scores in dB: (pictures,).
        observation: what the pictures were seen through, in words.
        model: digest of the weights.
        max_iterations: of every inversion.

    Raises:
        ValueError: a group is empty, or holds a score that is not finite.
    """

    groups: Mapping[str, Float[Tensor, " pictures"]]
    observation: str
    model: str
    max_iterations: int = EVALUATIONS

    def __post_init__(self) -> None:
        if not self.groups:
            raise ValueError("a calibration needs at least one group of scores")
        for name, scores in self.groups.items():
            if scores.dim() != 1 or not len(scores) or not bool(scores.isfinite().all()):
                raise ValueError(f"group {name!r} must hold finite scores, got {scores.tolist()}")

    @property
    def smallest_p_value(self) -> float:
        """What a picture beyond all others gets: 1 / (n + 1), n of the smallest group."""
        return 1 / (1 + min(len(scores) for scores in self.groups.values()))

    def p_value(self, score: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """The largest over the groups of (1 + how many score as high) / (n + 1).

        At most a share a of the pictures of any kind that is exchangeable with one of the groups
        gets a p-value of a or less, whatever the kind is, and however small the groups.
        """
        values = [
            (1 + (scores.to(score) >= score[:, None]).sum(1).double()) / (1 + len(scores))
            for scores in self.groups.values()
        ]
        return torch.stack(values).amax(0)

    def check_rate(self, false_positive_rate: float) -> None:
        """Make sure that a verdict is possible at this rate.

        Raises:
            ValueError: it is no rate, or so low that no picture could be attributed.
        """
        if not 0 < false_positive_rate < 1:
            raise ValueError(
                f"false_positive_rate must lie between 0 and 1, got {false_positive_rate}"
            )
        if false_positive_rate < self.smallest_p_value:
            count = pictures_needed(false_positive_rate)
            fewest = min(len(scores) for scores in self.groups.values())
            raise ValueError(
                f"a false positive rate of {false_positive_rate:g} needs a calibration on at "
                f"least {count} pictures, this one has {fewest}; calibrate on more, or ask for a "
                f"rate of {self.smallest_p_value:.3g}"
            )

    def save(self, path: str | Path) -> None:
        """Write it as JSON, whole or not at all."""
        rounded = {
            name: [round(score, 3) for score in scores.tolist()]
            for name, scores in self.groups.items()
        }
        write_json(
            Path(path),
            {
                "kind": "fixpoint calibration of attribution",
                "observation": self.observation,
                "model": self.model,
                "max_iterations": self.max_iterations,
                "groups": rounded,
            },
        )

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """Read what `save` wrote.

        Raises:
            ValueError: the file is missing, or something else.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            groups = {
                str(name): torch.tensor(scores, dtype=torch.float64)
                for name, scores in content["groups"].items()
            }
            words, limit = (content["observation"], content["model"]), content["max_iterations"]
            if not (all(isinstance(word, str) for word in words) and isinstance(limit, int)):
                raise TypeError("a field of another type")
            return cls(groups, *words, limit)
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise ValueError(f"{path} is not a calibration of attribution: {error!r}") from error

    @classmethod
    def embedded(cls, name: str = "kl") -> Calibration:
        """That of an embedded autoencoder in float32, for 8-bit pictures.

        Of 64 x 64 crops of its training pictures; made by `benchmarks/attribution.py`.
        """
        if name not in EMBEDDED:
            raise ValueError(f"embedded autoencoders: {', '.join(EMBEDDED)}; got {name!r}")
        return cls.load(MODELS / name / "attribution.json")


@dataclass(frozen=True)
class Attribution(Summarised):
    """The verdict on a batch of pictures; rows in the order of the pictures.

    Attributes:
        score: in dB, see the head of this file.
        p_value: how usual such a score is among pictures that the model did not make.
        made_by_model: whether `p_value` is at most `false_positive_rate`.
        false_positive_rate: that was asked for.
        inversion: what the score was read from; `inversion.latent` is the latent behind it.
    """

    score: Float[Tensor, " batch"]
    p_value: Float[Tensor, " batch"]
    made_by_model: Bool[Tensor, " batch"]
    false_positive_rate: float
    inversion: Inversion = field(repr=False)


def attribute(
    autoencoder: Autoencoder,
    image: Any,
    reference: Calibration,
    *,
    false_positive_rate: float = 0.01,
    observation: Observation | Callable[[Tensor], Tensor] | None = None,
    value_range: tuple[float, float] | None = None,
    progress: bool = False,
) -> Attribution:
    """Whether the decoder made these pictures, each judged on its own.

    Args:
        autoencoder: of the model in question.
        image: as for `invert`.
        reference: `calibrate` of this autoencoder, for the same observation.
        false_positive_rate: how often a picture like those of the calibration may be called the
            model's; between 0 and 1, at least 1 / (n + 1) for n pictures in each group.
        observation: what happened to the decoder's output, as for `invert`; by default what the
            pictures show.
        value_range: of float input, see `as_pictures`.

    Raises:
        TypeError, ValueError: the pictures are not usable, or the calibration is another model's
            or holds for another observation; no model ran.
    """
    reference.check_rate(false_positive_rate)
    pictures = readable(autoencoder, image, value_range)
    _check_medium(autoencoder)
    seen = observation_of(pictures.observation, autoencoder.dtype, observation)
    check_observation(reference, seen)
    if digest_of_model(autoencoder) != reference.model:
        raise ValueError(
            "the calibration belongs to another model, or to another dtype of this one: calibrate "
            "with this autoencoder"
        )
    inversion = invert(
        autoencoder,
        pictures.values,
        observation=seen,
        max_iterations=reference.max_iterations,
        value_range=(-1, 1),
        progress=progress,
    )
    score = attribution_score(inversion)
    p_value = reference.p_value(score)
    return Attribution(
        score, p_value, p_value <= false_positive_rate, false_positive_rate, inversion
    )


def calibrate(
    autoencoder: Autoencoder,
    real: Any,
    *,
    others: Mapping[str, Any] | None = None,
    observation: Observation | Callable[[Tensor], Tensor] | None = None,
    max_iterations: int = EVALUATIONS,
    batch: int = 16,
    value_range: tuple[float, float] | None = None,
    progress: bool = False,
) -> Calibration:
    """Scores of pictures that the model did not make, to judge others by.

    Args:
        autoencoder: of the model in question.
        real: pictures like those in question, of about their size: a batch, or a list in which
            sizes may differ. 99 of them allow for a false positive rate of 1 %.
        others: further kinds of pictures that are not the model's, by name, say of another model.
        observation: what the pictures in question are seen through, as for `invert`; by default
            rounding to 8 bits. The pictures here are put through it, whatever they went through
            before.
        max_iterations: of every inversion.
        batch: pictures inverted at a time.
        value_range: of float input, see `as_pictures`.
        progress: show a progress bar.

    Raises:
        TypeError, ValueError: the pictures or an option are not usable; no model ran.
    """
    if not (isinstance(batch, int) and batch >= 1):
        raise ValueError(f"batch must be a whole number above 0, got {batch}")
    if not (isinstance(max_iterations, int) and max_iterations >= 1):
        raise ValueError(f"max_iterations must be a whole number above 0, got {max_iterations}")
    if REAL in (others or {}):
        raise ValueError(f"{REAL!r} is the name of a group already")
    _check_medium(autoencoder)
    seen = observation_of(EightBit(), autoencoder.dtype, observation)
    kinds = {REAL: real, **(others or {})}
    groups = {name: _pictures(autoencoder, kind, value_range) for name, kind in kinds.items()}
    total = sum(len(group) for group in groups.values())
    bar = tqdm(total=total, disable=not progress, desc="calibration")
    scores: dict[str, Tensor] = {}
    for name, group in groups.items():
        found: list[Tensor] = []
        for rows in _batches(group, batch):
            shown = as_seen(seen, rows.to(autoencoder.device), seed=sum(map(len, found)))
            inversion = invert(
                autoencoder,
                shown,
                observation=seen,
                max_iterations=max_iterations,
                value_range=(-1, 1),
            )
            found.append(attribution_score(inversion))
            bar.update(len(rows))
        scores[name] = torch.cat(found)
    bar.close()
    return Calibration(scores, in_words(seen), digest_of_model(autoencoder), max_iterations)


@torch.no_grad()
def attribution_score(inversion: Inversion) -> Float[Tensor, " batch"]:
    """The score of each row in dB, see the head of the file; of any inversion that knows Q.

    Both errors are mean squares over the values that Q looks at. White noise cannot be repeated:
    its variance is taken off them, over the values that are not clipped. To both is added what even
    an exact inversion may leave: `FLOOR`, and the chance of the noise, three standard deviations of
    the mean of its squares. A picture that L explains as well, say an empty one, scores 0.

    Raises:
        ValueError: the rows have observations of their own.
    """
    observation = _repeatable(inversion.observation)
    if isinstance(observation, PerRow):
        raise ValueError("scores compare pictures of one observation: invert the others apart")
    image, count = inversion.picture, inversion.latent[0].numel()
    inner, known, counted = observation, None, torch.ones_like(image, dtype=torch.bool)
    if isinstance(observation, Masked):
        inner, known = observation.observation, observation.known
        counted = counted & known.to(image.device)
    if isinstance(inner, WhiteNoise):
        counted = counted & (image.abs() < 1)
    values = counted.flatten(1).double().sum(1).clamp(min=1)
    noise = inner.level**2 if isinstance(inner, WhiteNoise) else 0.0
    allowed = FLOOR**2 + 3 * noise * (2 / values).sqrt()

    def error(pictures: Tensor) -> Float[Tensor, " batch"]:
        seen, before = observation.observe(pictures, image)
        left = ((before if noise else seen) - image).double() * counted
        return (kernels.row_dot(left, left) / values - noise).clamp(min=0) + allowed

    code = low_frequencies(image, count, known)
    score = 10 * (error(code) / error(inversion.reconstruction)).log10()
    return score.nan_to_num(nan=LOWEST, neginf=LOWEST).cpu()


def low_frequencies(
    pictures: Float[Tensor, "batch 3 height width"],
    count: int,
    known: Bool[Tensor, "height width"] | None = None,
) -> Float[Tensor, "batch 3 height width"]:
    """L: pictures shrunk to about `count` numbers each, and enlarged again.

    Where pixels are not known, the mean of the known ones around stands in for them, so that what
    they hold does not matter.
    """
    height, width = sides = list(pictures.shape[-2:])
    side = math.sqrt(count / (3 * height * width))
    small = [max(1, round(side * length)) for length in sides]
    if known is not None:
        weight = known.to(pictures)[None, None]
        mean = (weight * pictures).sum((2, 3), keepdim=True) / weight.sum()
        around, share = (
            interpolate(values, small, mode="bilinear", antialias=True)
            for values in (weight * (pictures - mean), weight)
        )
        filling = mean + interpolate(around / share.clamp(min=1e-3), sides, mode="bilinear")
        pictures = torch.where(known.to(pictures.device), pictures, filling)
    shrunk = interpolate(pictures, small, mode="bicubic", antialias=True)
    return interpolate(shrunk, sides, mode="bicubic").clamp(-1, 1)


def observation_of(
    shown: Observation,
    dtype: torch.dtype,
    told: Observation | Callable[[Tensor], Tensor] | None = None,
) -> Observation:
    """What an inversion is told: what the user says, else what the pictures show."""
    return default_observation(shown, dtype) if told is None else as_observation(told)


def check_observation(reference: Calibration, observation: Observation) -> None:
    """Make sure that scores seen through this observation can be compared with the calibration's.

    Raises:
        ValueError: it holds for another one.
    """
    if isinstance(observation, PerRow):
        raise ValueError(
            "the pictures were seen in different ways, and each needs a calibration of its own: "
            "attribute them apart"
        )
    asked = in_words(observation)
    if asked != reference.observation:
        raise ValueError(
            f"the calibration holds for pictures seen through {_short(reference.observation)}, "
            f"these were seen through {_short(asked)}: calibrate for that"
        )


def in_words(observation: Observation) -> str:
    """Its repr, in words that two processes agree on."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(observation))


def digest_of_model(autoencoder: Autoencoder) -> str:
    """A digest of the weights and of the dtype, in hexadecimal."""
    digest = hashlib.sha256(str(autoencoder.dtype).encode())
    for name, weight in sorted(autoencoder.model.state_dict().items()):
        digest.update(f"{name} {digest_of(weight)}\n".encode())
    return digest.hexdigest()


def pictures_needed(false_positive_rate: float) -> int:
    """How many pictures a group must hold for a verdict at this rate."""
    return math.ceil(1 / false_positive_rate - 1e-9) - 1


def as_seen(
    observation: Observation, pictures: Float[Tensor, "batch 3 height width"], seed: int = 0
) -> Float[Tensor, "batch 3 height width"]:
    """Pictures put through an observation; the noise of row i is drawn from `seed + i`."""
    if isinstance(observation, Masked):
        seen = as_seen(observation.observation, pictures, seed)
        return torch.where(observation.known.to(pictures.device), seen, pictures)
    if isinstance(observation, WhiteNoise):
        draws = [
            torch.randn(row.shape, generator=torch.Generator().manual_seed(seed + index))
            for index, row in enumerate(pictures)
        ]
        return (pictures + observation.level * torch.stack(draws).to(pictures)).clamp(-1, 1)
    return _repeatable(observation)(pictures)


def _repeatable(observation: Observation) -> Observation:
    """The observation as it acts on a picture, rather than as it helps an inversion."""
    if isinstance(observation, RoundingCells):
        return EightBit()
    if isinstance(observation, Masked):
        return Masked(observation.known, _repeatable(observation.observation))
    return observation


def _check_medium(autoencoder: Autoencoder) -> None:
    if autoencoder.medium != "picture" or autoencoder.sample_channels != 3:
        raise ValueError(
            f"attribution is of RGB pictures; {autoencoder!r} takes {autoencoder.medium}s with "
            f"{autoencoder.sample_channels} channels"
        )


def _short(words: str) -> str:
    return words if len(words) <= 60 else f"{words[:57]}..."


def _pictures(
    autoencoder: Autoencoder, images: Any, value_range: tuple[float, float] | None
) -> list[Tensor]:
    """Pictures as tensors (1, 3, height, width), each of a size of its own."""
    if not isinstance(images, list | tuple):
        images = [images]
    pictures = [row for image in images for row in as_pictures(image, value_range).values.split(1)]
    for picture in pictures:
        check_sides(picture, autoencoder.factor)
    if not pictures:
        raise ValueError("a calibration needs pictures, got none")
    return pictures


def _batches(pictures: list[Tensor], batch: int) -> Iterator[Tensor]:
    """Neighbours of one size together, at most `batch` of them."""
    rows: list[Tensor] = []
    for picture in pictures:
        if rows and (len(rows) == batch or rows[0].shape != picture.shape):
            yield torch.cat(rows)
            rows = []
        rows.append(picture)
    yield torch.cat(rows)
