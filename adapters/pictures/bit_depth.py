"""Whether a picture file has more bits for each channel than the 8 that Pillow reads.

Pillow has no mode for colours of 16 bits. It opens such files as RGB and keeps the upper 8 bits of
every value. Before a picture is loaded, the arguments of the decoder tell its depth; afterwards
the file has to be opened again.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

HEADER = 1 << 16
"""Length in bytes of the beginning of a file that contains the depth."""
WIDE = re.compile(r";(16[BLN]|12|32|64)")
"""Raw modes of decoders with deep channels; "BGR;16" and "BGR;15" have 16 and 15 bits a pixel."""


def more_than_8_bits(image: Any) -> bool:
    """Whether a PIL image has, or had in its file, more than 8 bits for each channel.

    False if it cannot be known: the image was loaded and has no file, like the results of
    `convert`, `crop` and `fromarray`.
    """
    from PIL import Image

    tiles = getattr(image, "tile", None)
    name = getattr(image, "filename", "")
    if tiles:
        return _deep(image, tiles, _beginning(image.fp))
    if name and getattr(image, "format", None):  # loaded from the file and not changed
        with suppress(OSError, SyntaxError, ValueError), Image.open(name) as again:
            if (again.format, again.size) == (image.format, image.size):
                return _deep(again, again.tile, _beginning(again.fp))
    return False


def _deep(image: Any, tiles: Any, beginning: bytes) -> bool:
    for tile in tiles:
        arguments = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        if any(isinstance(each, str) and WIDE.search(each) for each in arguments):
            return True
        if image.format == "PPM" and any(isinstance(n, int) and n > 255 for n in arguments):
            return True  # the largest value
    if image.format == "JPEG2000":
        return _jpeg_2000_bits(beginning) > 8
    return image.format == "AVIF" and _avif_is_deep(beginning)


def _beginning(file: Any) -> bytes:
    with suppress(AttributeError, OSError, ValueError):
        at = file.tell()
        file.seek(0)
        found: bytes = file.read(HEADER)
        file.seek(at)
        return found
    return b""


def _jpeg_2000_bits(beginning: bytes) -> int:
    """Bits of the deepest component, from the SIZ segment (ISO 15444-1, A.5.1); 0 without one."""
    at = beginning.find(b"\xff\x4f\xff\x51")
    if at < 0:
        return 0
    count = int.from_bytes(beginning[at + 40 : at + 42], "big")
    depths = beginning[at + 42 : at + 42 + 3 * count : 3]
    return max(((depth & 0x7F) + 1 for depth in depths), default=0)


def _avif_is_deep(beginning: bytes) -> bool:
    """The flag high_bitdepth in the AV1 configuration box."""
    at = beginning.find(b"av1C")
    return 0 <= at < len(beginning) - 6 and bool(beginning[at + 6] & 0x40)
