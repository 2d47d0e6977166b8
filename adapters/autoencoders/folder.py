"""Loading an autoencoder from a folder in diffusers' format; never from the network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

MODELS = Path(__file__).parents[1] / "models"
"""The models that come with the package."""

PARTS = ("vae", "movq", "vqvae")
"""The folders of autoencoders in pipelines."""


def autoencoder_folder(folder: Path) -> Path:
    """The folder of the autoencoder itself, which may lie inside a pipeline's.

    Raises:
        FileNotFoundError: there is none.
    """
    check_folder(folder)
    if (folder / "model_index.json").is_file() and not (folder / "config.json").is_file():
        parts = [folder / part for part in PARTS if (folder / part).is_dir()]
        folder = parts[0] if parts else folder / PARTS[0]
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"{folder} is not a model folder: it holds neither config.json nor model_index.json "
            "with a vae folder"
        )
    return folder


def check_folder(folder: Path) -> None:
    """Refuse what is no folder.

    Raises:
        FileNotFoundError: with what may have been meant.
    """
    if folder.is_dir():
        return
    if folder.suffix == ".safetensors" and folder.is_file():
        raise FileNotFoundError(
            f"model folder {folder} is not a folder: Autoencoder.from_single_file loads a file"
        )
    what = "is not a folder" if folder.exists() else "does not exist"
    bundled = (MODELS / folder.name).is_dir() and len(folder.parts) == 1
    advice = f"; embedded({folder.name!r}) is what comes with fixpoint" if bundled else ""
    raise FileNotFoundError(f"model folder {folder} {what}{advice}")


def class_name(folder: Path) -> str:
    """The name of the class whose configuration lies in the folder.

    Raises:
        ValueError: its config.json names none.
    """
    try:
        config = json.loads((folder / "config.json").read_text())
        return str(config["_class_name"])
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"{folder / 'config.json'} names no diffusers class") from error


def load(folder: Path, name: str, dtype: torch.dtype, variant: str | None = None) -> Any:
    """The diffusers model of the class `name` in a folder, from safetensors alone.

    Raises:
        FileNotFoundError: there are no such weights. ValueError: they do not fit, or diffusers
            refuses them.
    """
    if not any(folder.glob("*.safetensors")):
        raise FileNotFoundError(
            f"{folder} holds no safetensors weights (pickled ones are never loaded); "
            "save the model again with save_pretrained(..., safe_serialization=True)"
        )
    from diffusers.models import autoencoders

    try:
        with quiet_diffusers():
            model, found = getattr(autoencoders, name).from_pretrained(
                folder,
                torch_dtype=dtype,
                variant=variant,
                local_files_only=True,
                use_safetensors=True,
                low_cpu_mem_usage=False,
                output_loading_info=True,
            )
    except Exception as error:  # diffusers does not bound what its parts raise
        message = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{folder} could not be loaded: {message}") from error
    for kind in ("missing_keys", "mismatched_keys", "unexpected_keys"):
        if found.get(kind):
            raise ValueError(
                f"the weights in {folder} do not fit its config.json: "
                f"{len(found[kind])} {kind.replace('_', ' ')}, {found[kind][0]!r} the first"
            )
    return model


@contextmanager
def quiet_diffusers() -> Iterator[None]:
    """diffusers reports errors only inside the block."""
    from diffusers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
