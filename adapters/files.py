"""Writing files whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it into place.

    Raises:
        OSError: the folder cannot be written; no half-written file is left.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """A mapping as indented JSON; NaN and infinity are refused."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    write_whole(path, lambda temporary: temporary.write_text(text))


def write_latent(path: Path, latent: Tensor, metadata: dict[str, str]) -> None:
    """Latents as safetensors under the name "latent"."""
    from safetensors.torch import save_file

    tensors = {"latent": latent.detach().cpu().contiguous()}
    write_whole(path, lambda temporary: save_file(tensors, temporary, metadata))


def read_latent(path: Path) -> Tensor:
    """The tensor "latent" of a safetensors file, or the only one it holds.

    Raises:
        ValueError: the file is missing, damaged, or holds several others.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} is not a readable safetensors file: {error}") from error
    if "latent" in tensors:
        return tensors["latent"]
    if len(tensors) == 1:
        return next(iter(tensors.values()))
    raise ValueError(f'{path} holds no tensor "latent", but {sorted(tensors)}')


def check_folder(folder: Path) -> None:
    """Create a folder for results and make sure that files can be written there.

    Raises:
        ValueError: it cannot be created or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(f"cannot write to folder {folder}: {reason}") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
