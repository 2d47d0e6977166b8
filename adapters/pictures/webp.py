"""Pictures that were WebP files: the codec, and what the file says of its settings."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from fixpoint.adapters.pictures.observations import (
    EIGHT_BIT_NOISE,
    Observation,
    saved_and_opened,
)

HALF = 0.5
"""Of an index: segments are told apart a little otherwise at the second time."""


@dataclass(frozen=True)
class WebP(Observation):
    """Compressed and decompressed by lossy WebP, as Pillow does it.

    Args:
        quality: 0 to 100, in the scale of libwebp.
    """

    noise_level = EIGHT_BIT_NOISE

    quality: int = 80

    def __post_init__(self) -> None:
        if not 0 <= self.quality <= 100:
            raise ValueError(f"WebP quality must lie in [0, 100], got {self.quality}")

    @classmethod
    def of(cls, image: Any) -> WebP | None:
        """The observation with the estimated quality of an opened WebP file; None where the file
        is lossless.

        A file holds its quantiser and not its quality, which is the least at which the picture,
        compressed again, gets no coarser a quantiser.

        Args:
            image: a `PIL.WebPImagePlugin.WebPImageFile`, opened from a file that is still there.

        Raises:
            TypeError: it is no opened WebP file.
        """
        from PIL import WebPImagePlugin

        if not isinstance(image, WebPImagePlugin.WebPImageFile):
            raise TypeError(f"not an opened WebP file: {image!r}")
        index = quantiser_index(_bytes_of(image))
        if index is None:
            return None
        picture = image.convert("RGB")
        low, high = 0, 100
        while low < high:
            middle = (low + high) // 2
            fine = _step_of(picture, middle) <= index + HALF
            low, high = (low, middle) if fine else (middle + 1, high)
        return cls(low)

    def __call__(self, pictures: Tensor) -> Tensor:
        return saved_and_opened(pictures, "WEBP", quality=self.quality)


def _step_of(picture: Any, quality: int) -> float:
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=quality)
    return quantiser_index(buffer.getvalue()) or 0.0


def _bytes_of(image: Any) -> bytes:
    """The file of an opened picture; empty where it is gone."""
    source = image.filename or image.fp
    try:
        if hasattr(source, "read"):
            source.seek(0)
            return bytes(source.read())
        return Path(source).read_bytes()
    except (OSError, TypeError, ValueError):  # gone or closed
        return b""


def quantiser_index(file: bytes) -> float | None:
    """The mean index of the quantiser over the segments of a lossy WebP file (RFC 6386, sections
    9.1, 9.3 and 9.6); None where there is no lossy picture in it."""
    place = 12  # after RIFF, size, WEBP
    while place + 8 <= len(file):
        name, size = file[place : place + 4], int.from_bytes(file[place + 4 : place + 8], "little")
        if name == b"VP8 ":
            return _index(file[place + 18 : place + 8 + size])  # after tag, start code and sides
        place += 8 + size + size % 2
    return None


def _index(header: bytes) -> float:
    bits = _Bits(header)
    bits.number(2)  # colour space, clamping
    absolute, segments = False, [0, 0, 0, 0]
    if bits.number(1):
        has_map = bits.number(1)
        if bits.number(1):
            absolute = bool(bits.number(1))
            segments = [bits.signed(7) for _ in range(4)]
            for _ in range(4):
                bits.signed(6)  # levels of the loop filter
        if has_map:
            for _ in range(3):
                bits.number(8) if bits.number(1) else None
    bits.number(10)  # the loop filter: type, level, sharpness
    if bits.number(1) and bits.number(1):
        for _ in range(8):
            bits.signed(6)
    bits.number(2)  # partitions
    base = bits.number(7)
    return sum(each if absolute else base + each for each in segments) / len(segments)


class _Bits:
    """Bits of equal chances from the boolean entropy decoder of RFC 6386, section 7."""

    def __init__(self, data: bytes) -> None:
        self.data = iter(data)
        self.value = (next(self.data, 0) << 8) | next(self.data, 0)
        self.range, self.shifted = 255, 0

    def number(self, bits: int) -> int:
        """An unsigned number."""
        found = 0
        for _ in range(bits):
            found = 2 * found + self._bit()
        return found

    def signed(self, bits: int) -> int:
        """An optional number with a sign behind it; 0 where it is left out."""
        if not self._bit():
            return 0
        size = self.number(bits)
        return -size if self._bit() else size

    def _bit(self) -> int:
        split = 1 + ((self.range - 1) >> 1)
        bit = int(self.value >= split << 8)
        self.range, self.value = (
            (self.range - split, self.value - (split << 8)) if bit else (split, self.value)
        )
        while self.range < 128:
            self.value, self.range, self.shifted = (
                self.value << 1,
                self.range << 1,
                self.shifted + 1,
            )
            if self.shifted == 8:
                self.shifted = 0
                self.value |= next(self.data, 0)
        return bit
