"""Loading an autoencoder from one .safetensors file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from fixpoint.adapters.autoencoders.folder import autoencoder_folder, quiet_diffusers
from fixpoint.adapters.autoencoders.hub import Source

LONGEST = 400
"""Characters of an error of diffusers, which may list every weight."""


def config_folder(path: Path, config: Source | None, local_files_only: bool) -> Path:
    """The folder whose `config.json` says what the weights in a file are.

    Raises:
        FileNotFoundError: the file or the folder is missing. ValueError: the file is no safetensors
            file, or nothing says what its weights are.
    """
    if not path.is_file():
        what = "is not a file" if path.exists() else "does not exist"
        raise FileNotFoundError(f"weight file {path} {what}")
    if path.suffix != ".safetensors":
        raise ValueError(f"{path} is no .safetensors file (pickled weights are never loaded)")
    if config is None and (path.parent / "config.json").is_file():
        return path.parent
    given = Source(*_recognised(path)) if config is None else config
    try:
        return autoencoder_folder(replace(given, local_files_only=local_files_only).autoencoder())
    except FileNotFoundError as error:
        if config is not None:
            raise
        raise FileNotFoundError(
            f"{path} does not say what its weights are. diffusers takes them for those of "
            f"{given.model}, which is not in the local cache of the hub: give config= with the "
            "folder of such a model, or local_files_only=False"
        ) from error


def load(path: Path, folder: Path, name: str, dtype: torch.dtype) -> Any:
    """The diffusers model of the class `name`, as the folder's `config.json` has it.

    Raises:
        ValueError: the weights do not fit, or diffusers refuses them.
    """
    from diffusers.models import autoencoders

    try:
        with quiet_diffusers():
            return getattr(autoencoders, name).from_single_file(
                str(path), config=str(folder), local_files_only=True, torch_dtype=dtype
            )
    except Exception as error:  # diffusers does not bound what its parts raise
        message = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"{path} could not be loaded as {name} of {folder}: {message[:LONGEST]}"
        ) from error


def _recognised(path: Path) -> tuple[str, str]:
    """The name on the hub, and the subfolder, of the configuration that diffusers recognises."""
    from diffusers.loaders.single_file_utils import (
        fetch_diffusers_config,
        load_single_file_checkpoint,
    )

    try:
        with quiet_diffusers():
            found = fetch_diffusers_config(load_single_file_checkpoint(str(path)))
    except Exception as error:  # as above
        message = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path} could not be read: {message}") from error
    return found["pretrained_model_name_or_path"], found.get("subfolder") or "vae"
