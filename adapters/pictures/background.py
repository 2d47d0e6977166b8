"""Pictures with transparent parts, laid on a colour."""

from __future__ import annotations

from typing import Any


def on_background(image: Any, colour: str) -> Any:
    """A PIL image without transparency: where it is transparent, the colour shows through.

    Args:
        image: in any mode; one that is opaque is returned as it is, with the settings of its file.
        colour: a name or a code, as "white" or "#ffffff".

    Raises:
        ValueError: there is no such colour.
    """
    from PIL import Image, ImageColor

    try:
        levels = ImageColor.getrgb(colour)[:3]
    except ValueError:
        raise ValueError(
            f'no colour {colour!r}: a name or a code is wanted, as "white" or "#ffffff"'
        ) from None
    if image.mode not in ("LA", "RGBA") and "transparency" not in image.info:
        return image
    layer = image.convert("RGBA")
    flat = Image.alpha_composite(Image.new("RGBA", layer.size, (*levels, 255)), layer)
    return flat.convert("RGB")
