"""The scores of pictures that a model did not make, which attribution compares others with."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from fixpoint.adapters.autoencoders.autoencoder import EMBEDDED, Autoencoder
from fixpoint.adapters.autoencoders.bare_models import takes_models
from fixpoint.adapters.autoencoders.digest import digest_of_model as digest_of_model
from fixpoint.adapters.autoencoders.folder import MODELS
from fixpoint.adapters.inversion.invert_picture import invert_by_iteration
from fixpoint.adapters.pictures.composed_observations import PerRow
from fixpoint.adapters.pictures.observations import EightBit, Observation
from fixpoint.adapters.pictures.pictures import as_pictures, check_sides
from fixpoint.adapters.provenance.attribution_score import attribution_score
from fixpoint.adapters.provenance.observed_pictures import observation_of, observed, stable_repr
from fixpoint.adapters.reports.latent_files import write_json
from fixpoint.summary import Summarised

EVALUATIONS = 10
"""Limit on iterations: pictures on the range have arrived by then, others never do."""
REAL = "real"


@dataclass(frozen=True)
class Calibration(Summarised):
    """Scores of pictures that a model did not make.

    Attributes:
        groups: scores in dB, (pictures,), by kind of picture.
        observation: `stable_repr` of the observation that the pictures went through.
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
        """The p-value of a score above all others: 1 / (n + 1), with n the smallest group."""
        return 1 / (1 + min(len(scores) for scores in self.groups.values()))

    def p_value(self, score: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """The largest over the groups of (1 + number of scores at least as high) / (n + 1).

        Of pictures that are exchangeable with those of one group, a share of at most a has a
        p-value of a or less, for every size of the groups.
        """
        values = [
            (1 + (scores.to(score) >= score[:, None]).sum(1).double()) / (1 + len(scores))
            for scores in self.groups.values()
        ]
        return torch.stack(values).amax(0)

    def check_rate(self, false_positive_rate: float) -> None:
        """Check that a picture can be attributed at this rate.

        Raises:
            ValueError: it is no rate, or it is below `smallest_p_value`.
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

    def check_observation(self, observation: Observation) -> None:
        """Check that scores under this observation can be compared with these.

        Raises:
            ValueError: the calibration belongs to another observation.
        """
        if isinstance(observation, PerRow):
            raise ValueError(
                "the pictures were seen in different ways, and each needs a calibration of its "
                "own: attribute them apart"
            )
        asked = stable_repr(observation)
        if asked != self.observation:
            raise ValueError(
                f"the calibration holds for pictures seen through {_short(self.observation)}, "
                f"these were seen through {_short(asked)}: calibrate for that"
            )

    def check_model(self, autoencoder: Autoencoder) -> None:
        """Check that these are scores of this autoencoder.

        Raises:
            ValueError: they belong to another one, or to another dtype.
        """
        if digest_of_model(autoencoder) != self.model:
            raise ValueError(
                "the calibration belongs to another model, or to another dtype of this one: "
                "calibrate with this autoencoder"
            )

    def save(self, path: str | Path) -> None:
        """Write a JSON file, whole or not at all."""
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
        """Read a file that `save` wrote.

        Raises:
            ValueError: the file is missing or holds something else.
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
        """The calibration of an embedded autoencoder in float32, for 8-bit pictures.

        Its scores are those of 64 x 64 crops of the training pictures; `benchmarks/attribution.py`
        computed them.
        """
        if name not in EMBEDDED:
            raise ValueError(f"embedded autoencoders: {', '.join(EMBEDDED)}; got {name!r}")
        return cls.load(MODELS / name / "attribution.json")


@takes_models
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
    """The scores of pictures that the model did not make.

    Args:
        autoencoder: of the model in question.
        real: pictures like those in question, of about their size: a batch, or a list in which
            sizes may differ. 99 pictures allow a false positive rate of 1 %.
        others: further groups of pictures that the model did not make, by name; for example
            pictures of another model.
        observation: that of the pictures in question, as for `invert`; by default rounding to 8
            bits. It is applied to the pictures given here.
        max_iterations: of every inversion.
        batch: pictures inverted at a time.
        value_range: of float input, see `as_pictures`.
        progress: show a progress bar.

    Raises:
        TypeError, ValueError: the pictures or an option cannot be used; no model ran.
    """
    if not (isinstance(batch, int) and batch >= 1):
        raise ValueError(f"batch must be a whole number above 0, got {batch}")
    if not (isinstance(max_iterations, int) and max_iterations >= 1):
        raise ValueError(f"max_iterations must be a whole number above 0, got {max_iterations}")
    if REAL in (others or {}):
        raise ValueError(f"{REAL!r} is the name of a group already")
    check_medium(autoencoder)
    seen = observation_of(EightBit(), autoencoder.dtype, observation)
    kinds = {REAL: real, **(others or {})}
    groups = {name: _pictures(autoencoder, kind, value_range) for name, kind in kinds.items()}
    total = sum(len(group) for group in groups.values())
    bar = tqdm(total=total, disable=not progress, desc="calibration")
    scores: dict[str, Tensor] = {}
    for name, group in groups.items():
        found: list[Tensor] = []
        for rows in _batches(group, batch):
            shown = observed(seen, rows.to(autoencoder.device), seed=sum(map(len, found)))
            inversion = invert_by_iteration(
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
    return Calibration(scores, stable_repr(seen), digest_of_model(autoencoder), max_iterations)


def pictures_needed(false_positive_rate: float) -> int:
    """The number of pictures that every group needs for a verdict at this rate."""
    return math.ceil(1 / false_positive_rate - 1e-9) - 1


def check_medium(autoencoder: Autoencoder) -> None:
    """Check that the autoencoder is one of RGB pictures.

    Raises:
        ValueError: it is not.
    """
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
    """Each picture as a tensor (1, 3, height, width); sizes may differ."""
    if not isinstance(images, list | tuple):
        images = [images]
    pictures = [row for image in images for row in as_pictures(image, value_range).values.split(1)]
    for picture in pictures:
        check_sides(picture, autoencoder.factor)
        autoencoder.check_shape(picture.shape)
    if not pictures:
        raise ValueError("a calibration needs pictures, got none")
    return pictures


def _batches(pictures: list[Tensor], batch: int) -> Iterator[Tensor]:
    """Batches of at most `batch` consecutive pictures of one size."""
    rows: list[Tensor] = []
    for picture in pictures:
        if rows and (len(rows) == batch or rows[0].shape != picture.shape):
            yield torch.cat(rows)
            rows = []
        rows.append(picture)
    yield torch.cat(rows)
