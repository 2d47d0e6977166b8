"""Pictures saved with what made them: in text chunks of a PNG, or in a file beside it.

Both hold the same: the latent as a safetensors file, with the hash of the pixels that it decodes
to, the digest of the model, and the caller's settings. Text chunks are base64 in parts, as readers
refuse long ones. What a file says is believed as far as it can be checked: that the latent has the
size of the picture, and, by decoding it, that it draws the picture.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint.checkpoints.whole_file import write_whole

Store = Literal["chunks", "sidecar"]
STORES = ("chunks", "sidecar")

KEY = "fixpoint-latent"
PART = 2**19
"""Letters of a text chunk: Pillow refuses those beyond 2^20."""

SUFFIX = ".latent.safetensors"
"""Of the file beside a picture: NAME.png has NAME.png.latent.safetensors."""


@dataclass(frozen=True)
class Stored:
    """What a file says of the picture's origin.

    Attributes:
        latent: (1, channels, rows, columns), in the pipeline's scaling.
        pixels: the hash of the picture that was saved.
        model: the digest of the autoencoder.
        settings: the caller's.
    """

    latent: Float[Tensor, "1 channels rows columns"]
    pixels: str
    model: str
    settings: Mapping[str, Any]

    def serialized(self) -> bytes:
        from safetensors.torch import save

        metadata = {
            "pixels": self.pixels,
            "model": self.model,
            "settings": json.dumps(dict(self.settings), allow_nan=False),
            "scaling": "pipeline",
        }
        return save({"latent": self.latent.detach().float().cpu().contiguous()}, metadata)

    @classmethod
    def parsed(cls, data: bytes) -> Stored:
        """What `serialized` made.

        Raises:
            ValueError: it is something else.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            size = int.from_bytes(data[:8], "little")
            metadata = json.loads(data[8 : 8 + size])["__metadata__"]
            latent = load(data)["latent"]
            settings = json.loads(metadata["settings"])
            found = cls(latent, metadata["pixels"], metadata["model"], settings)
        except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"no latent of a round trip: {error}") from error
        if latent.dim() != 4 or len(latent) != 1 or latent.dtype != torch.float32:
            raise ValueError(f"no latent of a round trip: {latent.dtype} {tuple(latent.shape)}")
        if not isinstance(settings, dict) or not bool(latent.isfinite().all()):
            raise ValueError("no latent of a round trip: it is not finite, or without settings")
        return found


def save_picture(path: Path, image: Any, stored: Stored | None, store: Store | None) -> None:
    """Write a PNG, and on request what made it.

    Args:
        path: of the PNG.
        image: a PIL image.
        stored: what made it.
        store: "chunks", "sidecar" or None for neither. A sidecar of an older picture of this name
            is removed where none is written.

    Raises:
        ValueError: the name is not that of a PNG. OSError: the folder cannot be written.
    """
    from PIL.PngImagePlugin import PngInfo

    if path.suffix.lower() != ".png":
        raise ValueError(f"only PNG keeps every pixel: give a name ending in .png, got {path.name}")
    information = PngInfo()
    if store == "chunks" and stored is not None:
        text = base64.b64encode(stored.serialized()).decode("ascii")
        for number, start in enumerate(range(0, len(text), PART)):
            information.add_text(f"{KEY}-{number}", text[start : start + PART])
    if store == "sidecar" and stored is not None:
        data = stored.serialized()
        write_whole(sidecar(path), lambda temporary: temporary.write_bytes(data))
    else:
        sidecar(path).unlink(missing_ok=True)
    write_whole(path, lambda temporary: image.save(temporary, "PNG", pnginfo=information))


def stored_with(image: Any, path: Path | None = None) -> Stored | None:
    """What made an opened picture, from its text chunks or from the file beside it.

    Returns:
        None where neither says anything that can be read.
    """
    texts = getattr(image, "text", None) or {}
    parts: list[str] = []
    while f"{KEY}-{len(parts)}" in texts:
        parts.append(texts[f"{KEY}-{len(parts)}"])
    try:
        if parts:
            return Stored.parsed(base64.b64decode("".join(parts), validate=True))
        if path is not None and sidecar(path).is_file():
            return Stored.parsed(sidecar(path).read_bytes())
    except (ValueError, binascii.Error, OSError):
        return None
    return None


def sidecar(path: Path) -> Path:
    """The name of the file beside a picture."""
    return path.with_name(path.name + SUFFIX)
