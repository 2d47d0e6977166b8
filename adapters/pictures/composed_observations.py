"""Observations composed of others: of the known pixels only, or a different one for each row."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from fixpoint.adapters.pictures.observations import Observation, RoundingCells, as_observation


class Masked(Observation):
    """An observation of the known pixels; the other pixels of x may have any values.

    To invert a crop, place it on a canvas of the original size and fill the rest, for example by
    repeating the border. The filling has no influence on the latent.

    Args:
        known: (height, width), True where x is known.
        observation: of the known pixels; by default `RoundingCells`.

    Raises:
        TypeError, ValueError: `known` is no mask (height, width), or no pixel is known.
    """

    hides = True

    def __init__(
        self,
        known: Bool[Tensor, "height width"],
        observation: Observation | Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        if not isinstance(known, Tensor) or known.dtype != torch.bool or known.dim() != 2:
            got = f"{known.dtype} of {tuple(known.shape)}" if isinstance(known, Tensor) else known
            raise TypeError(f"known must be a boolean tensor of shape (height, width), got {got}")
        if not bool(known.any()):
            raise ValueError("known marks no pixel as known")
        self.known = known
        self.indices = known.flatten().nonzero().flatten()
        self.observation = RoundingCells() if observation is None else as_observation(observation)
        self.noise_level = self.observation.noise_level
        self.deviation_level = self.observation.deviation_level

    def __call__(self, pictures: Tensor) -> Tensor:
        return torch.where(self._known(pictures), self.observation(pictures), 0)

    def observe(self, pictures: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        known = self._known(image)
        if self.observation.pixelwise:
            # By index: with a boolean mask a GPU would wait for the number of its pixels.
            chosen = self.indices.to(image.device)
            decoded, x = (each.flatten(-2).index_select(-1, chosen) for each in (pictures, image))
            seen, before = (
                image.flatten(-2).index_copy(-1, chosen, values.to(image.dtype))
                for values in self.observation.observe(decoded, x)
            )
            return seen.reshape(image.shape), before.reshape(image.shape)
        # Both have the filling of x, so that an observation of whole pictures sees no edge.
        seen, before = self.observation.observe(torch.where(known, pictures, image), image)
        return torch.where(known, seen, image), torch.where(known, before, image)

    def noise_levels(self, batch: int) -> Tensor:
        return self.observation.noise_levels(batch)

    def deviation_levels(self, batch: int) -> Tensor:
        return self.observation.deviation_levels(batch)

    def free_shares(self, image: Tensor) -> Tensor:
        of_known = image.flatten(-2).index_select(-1, self.indices.to(image.device))
        return self.observation.free_shares(of_known) * self._share()

    def select(self, rows: Tensor) -> Masked:
        selected = copy.copy(self)
        selected.observation = self.observation.select(rows)
        return selected

    def _share(self) -> float:
        return float(self.known.double().mean())

    def _known(self, pictures: Tensor) -> Tensor:
        if pictures.shape[-2:] != self.known.shape:
            raise ValueError(
                f"the mask has {tuple(self.known.shape)} pixels, the pictures "
                f"{tuple(pictures.shape[-2:])}"
            )
        return self.known.to(pictures.device)

    def __repr__(self) -> str:
        return f"Masked({int(self.known.sum())} of {self.known.numel()}, {self.observation!r})"


def each_row(observation: Observation, batch: int) -> Sequence[Observation]:
    """The observation of every row of a batch."""
    return observation.observations if isinstance(observation, PerRow) else [observation] * batch


class PerRow(Observation):
    """A different observation for each row: `PerRow((EightBit(), Jpeg(quality=90)))`."""

    def __init__(self, observations: Sequence[Observation | Callable[[Tensor], Tensor]]) -> None:
        self.observations = tuple(as_observation(observation) for observation in observations)
        self.hides = any(observation.hides for observation in self.observations)
        self.pixelwise = all(observation.pixelwise for observation in self.observations)

    def __call__(self, pictures: Tensor) -> Tensor:
        rows = zip(self._of(pictures), pictures.split(1), strict=True)
        return torch.cat([observation(row) for observation, row in rows])

    def observe(self, pictures: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        rows = zip(self._of(pictures), pictures.split(1), image.split(1), strict=True)
        seen, before = zip(*(each.observe(row, x) for each, row, x in rows), strict=True)
        return torch.cat(seen), torch.cat(before)

    def noise_levels(self, batch: int) -> Tensor:
        return torch.cat([observation.noise_levels(1) for observation in self.observations])

    def deviation_levels(self, batch: int) -> Tensor:
        return torch.cat([observation.deviation_levels(1) for observation in self.observations])

    def free_shares(self, image: Tensor) -> Tensor:
        rows = zip(self._of(image), image.split(1), strict=True)
        return torch.cat([observation.free_shares(row) for observation, row in rows])

    def select(self, rows: Tensor) -> PerRow:
        return PerRow([self.observations[row] for row in rows.tolist()])

    def _of(self, pictures: Tensor) -> tuple[Observation, ...]:
        if len(pictures) != len(self.observations):
            raise ValueError(f"{len(self.observations)} observations for {len(pictures)} pictures")
        return self.observations

    def __repr__(self) -> str:
        return f"PerRow({list(self.observations)})"
