"""What a round trip remembers: pictures by their pixels, and the latents behind them."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from fixpoint.adapters.pictures.observations import Observation, from_levels, to_levels

ALIKE = 0.1
"""Share of pixels that a picture has in common with one that is remembered, from which on it counts
as an edited copy of it."""

NEAR = 2
"""Levels of 8 bits up to which a decoding counts as what was wanted."""


@dataclass(frozen=True)
class Remembered:
    """A picture and its latent.

    Attributes:
        latent: in the pipeline's scaling, on the CPU.
        levels: of the picture that it decodes to, or that it was found for.
        wanted: of the picture that it was to decode to: what pixels were before any loss. Those of
            an edited picture that did not change are fitted to these, so that losses do not add up.
        settings: the caller's, as names and words.
    """

    latent: Float[Tensor, "channels rows columns"]
    levels: UInt8[Tensor, "3 height width"]
    wanted: UInt8[Tensor, "3 height width"]
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def values(self) -> Float[Tensor, "1 3 height width"]:
        """The picture on [-1, 1]."""
        return from_levels(self.levels[None].float())


class Memory:
    """The last pictures, by the hash of their pixels.

    Args:
        capacity: pictures that are kept, at least 1; the oldest is forgotten first.
    """

    def __init__(self, capacity: int) -> None:
        if isinstance(capacity, bool) or not isinstance(capacity, int) or capacity < 1:
            raise ValueError(f"a memory holds at least 1 picture, got {capacity!r}")
        self.capacity = capacity
        self._entries: OrderedDict[str, Remembered] = OrderedDict()
        self._wanted: OrderedDict[str, tuple[Tensor, Tensor]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def keep(self, entry: Remembered) -> None:
        """Remember a picture; one with the same pixels is replaced."""
        key = pixel_hash(entry.levels)
        self._entries.pop(key, None)
        self._entries[key] = entry
        while len(self._entries) > self.capacity:
            self._entries.popitem(last=False)

    def want(
        self,
        latent: Tensor,
        levels: UInt8[Tensor, "3 height width"],
        firm: Bool[Tensor, "height width"],
    ) -> None:
        """Remember that this latent is to decode to this picture; see `wanted`."""
        self._wanted[latent_hash(latent)] = levels, firm
        while len(self._wanted) > self.capacity:
            self._wanted.popitem(last=False)

    def wanted(
        self, latent: Tensor, decoded: UInt8[Tensor, "3 height width"]
    ) -> UInt8[Tensor, "3 height width"]:
        """What this latent is to decode to: where that is firm or nearly reached, what was wanted;
        elsewhere the decoder could not draw it, and what it drew will do from now on."""
        levels, firm = self._wanted.get(latent_hash(latent), (decoded, None))
        near = ((levels.int() - decoded.int()).abs() <= NEAR).all(0)
        return torch.where(near if firm is None else firm | near, levels, decoded)

    def restored(
        self, latent: Tensor, decoded: UInt8[Tensor, "3 height width"]
    ) -> UInt8[Tensor, "3 height width"]:
        """What this latent decodes to, with pixels that no edit touched as they were."""
        levels, firm = self._wanted.get(latent_hash(latent), (decoded, None))
        return decoded if firm is None else torch.where(firm, levels, decoded)

    def recall(
        self, levels: UInt8[Tensor, "3 height width"], observation: Observation
    ) -> Remembered | None:
        """The picture with these pixels, or one that the observation makes them of, as JPEG does of
        a picture that was saved with the file's settings."""
        found = self._entries.get(pixel_hash(levels))
        if found is not None or observation.pixelwise:
            return found
        for entry in self.of_size(levels.shape):
            if torch.equal(levels_of(observation(entry.values))[0], levels):
                return entry
        return None

    def nearest(self, levels: UInt8[Tensor, "3 height width"]) -> Remembered | None:
        """The picture that most pixels are those of; None where none shares `ALIKE` of them."""
        best, share = None, ALIKE
        for entry in self.of_size(levels.shape):
            common = float((~changed_pixels(entry.levels, levels)).double().mean())
            if common >= share:
                best, share = entry, common
        return best

    def of_size(self, shape: torch.Size) -> list[Remembered]:
        """Pictures of this shape, the latest first."""
        return [each for each in reversed(self._entries.values()) if each.levels.shape == shape]


def changed_pixels(
    one: UInt8[Tensor, "3 height width"], other: UInt8[Tensor, "3 height width"]
) -> Bool[Tensor, "height width"]:
    """Pixels of which a colour differs."""
    return (one != other).any(0)


def levels_of(pictures: Float[Tensor, "batch 3 height width"]) -> UInt8[Tensor, "batch 3 h w"]:
    """Pictures on [-1, 1] as 8 bits, on the CPU."""
    return to_levels(pictures.detach()).to(torch.uint8).cpu()


def latent_hash(latent: Float[Tensor, "channels rows columns"]) -> str:
    """A digest of the bits of a latent, in hexadecimal."""
    return hashlib.sha256(latent.detach().float().cpu().contiguous().numpy().tobytes()).hexdigest()


def pixel_hash(levels: UInt8[Tensor, "3 height width"]) -> str:
    """A digest of size and pixels, in hexadecimal."""
    digest = hashlib.sha256(f"{tuple(levels.shape)}".encode())
    digest.update(levels.contiguous().numpy().tobytes())
    return digest.hexdigest()
