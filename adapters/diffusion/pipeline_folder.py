"""Loading a diffusion pipeline from a folder in diffusers' format, never from the network."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from fixpoint.adapters.autoencoders.folder import check_folder, quiet_diffusers
from fixpoint.adapters.diffusion.pipelines import pipeline_class

UNUSED = ("safety_checker", "feature_extractor", "image_encoder")
"""Parts of pipelines that drawing from a prompt does not use. They are not loaded."""


def load_pipeline(folder: Path, dtype: torch.dtype, variant: str | None = None) -> Any:
    """The pipeline in a folder, on the CPU.

    Args:
        folder: holds `model_index.json` and a folder for every part, with safetensors weights.
        dtype: of the loaded models.
        variant: of the weights' files, as "fp16".

    Raises:
        FileNotFoundError: the folder or a part is missing. ValueError: it holds something else, or
            cannot be loaded. TypeError: an unsupported pipeline. ModuleNotFoundError: without
            transformers.
    """
    return _load(folder, _checked_class(folder), dtype, variant)


def _checked_class(folder: Path) -> str:
    """The class of the pipeline in a folder; checks that the folder holds its parts."""
    check_folder(folder)
    index = folder / "model_index.json"
    if not index.is_file():
        raise FileNotFoundError(
            f"{folder} is not a pipeline's folder: it holds no model_index.json"
        )
    try:
        parts = dict(json.loads(index.read_text()))
        name = str(parts["_class_name"])
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"{index} names no diffusers pipeline") from error
    convention = pipeline_class(name)
    for part, listed in parts.items():
        present = isinstance(listed, list) and len(listed) == 2 and listed[1] is not None
        if present and part not in UNUSED and not (folder / part).is_dir():
            raise FileNotFoundError(f"{folder} holds no folder {part}, which its pipeline needs")
    for part in (convention.network, convention.autoencoder):
        if not any((folder / part).glob("*.safetensors")):
            raise FileNotFoundError(
                f"{folder / part} holds no safetensors weights (pickled ones are never loaded)"
            )
    return name


def _load(folder: Path, name: str, dtype: torch.dtype, variant: str | None) -> Any:
    import diffusers

    _require_transformers()
    index = json.loads((folder / "model_index.json").read_text())
    unused = {part: None for part in UNUSED if part in index}
    if "requires_safety_checker" in index or "safety_checker" in index:
        unused["requires_safety_checker"] = False  # type: ignore[assignment]
    try:
        with quiet_diffusers(), _no_bars():
            return getattr(diffusers, name).from_pretrained(
                folder,
                torch_dtype=dtype,
                variant=variant,
                local_files_only=True,
                use_safetensors=True,
                **unused,
            )
    except Exception as error:  # its parts may raise anything
        message = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{folder} could not be loaded: {message}") from error


def _require_transformers() -> None:
    try:
        import transformers  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "diffusion pipelines need transformers; pip install 'fixpoint[diffusers]' brings it",
            name="transformers",
        ) from error


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    """No progress bars while models are loaded, and no warnings that the user cannot act on."""
    import diffusers.utils.logging
    import transformers.utils.logging

    shown = [
        logging
        for logging in (diffusers.utils.logging, transformers.utils.logging)
        if logging.is_progress_bar_enabled()
    ]
    for logging in shown:
        logging.disable_progress_bar()
    verbosity = transformers.utils.logging.get_verbosity()
    # It would warn that torchvision is missing, which is not needed.
    transformers.utils.logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        transformers.utils.logging.set_verbosity(verbosity)
        for logging in shown:
            logging.enable_progress_bar()
