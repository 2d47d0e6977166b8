"""Files of latents and JSON reports, written whole or not at all."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from fixpoint.checkpoints.whole_file import write_whole


def json_text(content: Mapping[str, Any]) -> str:
    """A mapping as indented JSON; NaN and infinity are refused."""
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a mapping as indented JSON; NaN and infinity are refused."""
    text = json_text(content)
    write_whole(path, lambda temporary: temporary.write_text(text))


def finite_or_none(value: float) -> float | None:
    """The number, or None for NaN and infinity, which JSON does not have."""
    return value if math.isfinite(value) else None


def write_latent(
    path: Path, latent: Tensor, metadata: dict[str, str], *, name: str = "latent"
) -> None:
    """Write latents as a safetensors file, under this name."""
    from safetensors.torch import save_file

    tensors = {name: latent.detach().cpu().contiguous()}
    write_whole(path, lambda temporary: save_file(tensors, temporary, metadata))


def read_latent(path: Path, *, name: str = "latent") -> Tensor:
    """The tensor of this name in a safetensors file, or its only tensor.

    Raises:
        ValueError: the file is missing or damaged, or holds several tensors of other names.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} is not a readable safetensors file: {error}") from error
    if name in tensors:
        return tensors[name]
    if len(tensors) == 1:
        return next(iter(tensors.values()))
    raise ValueError(f'{path} holds no tensor "{name}", but {sorted(tensors)}')


def check_folder(folder: Path) -> None:
    """Check that files can be written to a folder; it is not created.

    Raises:
        ValueError: they cannot.
    """
    nearest = folder
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(f"cannot write to folder {folder}: {reason}") from error


def check_file(path: Path) -> None:
    """Check that a file can be written.

    Raises:
        ValueError: it is a folder, or its folder cannot be written to.
    """
    if path.is_dir():
        raise ValueError(f"cannot write to {path}: it is a folder")
    if not path.exists() or path.is_file():
        check_folder(path.resolve().parent)
