"""Private copies of models."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch

from fixpoint.adapters.autoencoders.folder import quiet_diffusers

Model = TypeVar("Model", bound=torch.nn.Module)


def offloaded(model: torch.nn.Module) -> bool:
    """Whether hooks bring the weights of a model to where and how they are needed."""
    return any(
        hasattr(module, hook)
        for module in model.modules()
        for hook in ("_hf_hook", "_diffusers_hook")
    )


def copied(model: Model, dtype: torch.dtype | None, *, channels_last: bool) -> Model:
    """A copy of a model of diffusers, see `Autoencoder.copy`.

    Raises:
        ValueError: the model cannot be copied or converted.
    """
    if offloaded(model):
        raise ValueError(
            "the model cannot be copied: hooks of accelerate or diffusers load, move or cast "
            "its weights"
        )
    try:
        model = copy.deepcopy(model).eval().requires_grad_(False)
        model.zero_grad(set_to_none=True)
        with quiet_diffusers():
            if dtype is not None:
                model = model.to(dtype)
        if channels_last:
            for parameter in model.parameters():  # those of 3-D convolutions have five axes
                if parameter.dim() == 4:
                    parameter.data = parameter.data.to(memory_format=torch.channels_last)
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        message = " ".join(str(error).split())
        raise ValueError(f"the model cannot be copied: {message}") from error
    return model
