"""The way back through a decoder: no gradients of weights, and less memory where that is asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch.utils.checkpoint import checkpoint

from fixpoint.adapters.autoencoders.autoencoder import Autoencoder

BLOCKS = ("resnets", "attentions", "upsamplers", "downsamplers")


@contextmanager
def frozen(weights: Iterable[torch.nn.Parameter]) -> Iterator[None]:
    """No gradients of the weights inside the block."""
    parameters = [weight for weight in weights if weight.requires_grad]
    try:
        for weight in parameters:
            weight.requires_grad_(False)
        yield
    finally:
        for weight in parameters:
            weight.requires_grad_(True)


def can_be_checkpointed(autoencoder: Autoencoder) -> bool:
    """Whether it has blocks that `checkpointed` knows."""
    return bool(_blocks(autoencoder))


def _blocks(autoencoder: Autoencoder) -> list[torch.nn.Module]:
    return [
        block
        for name, blocks in (autoencoder.module or torch.nn.Module()).named_modules()
        if isinstance(blocks, torch.nn.ModuleList) and name.rpartition(".")[2] in BLOCKS
        for block in blocks
        if block is not None
    ]


@contextmanager
def checkpointed(autoencoder: Autoencoder) -> Iterator[None]:
    """Every resnet, attention and resampling keeps its input alone for the way back.

    diffusers' own checkpointing runs whole blocks again: all resnets at full resolution are then
    in memory at once.
    """
    blocks = _blocks(autoencoder)
    if not blocks:
        raise ValueError(f"{autoencoder.name} has no blocks that checkpointing knows")
    found = [vars(block).get("forward") for block in blocks]
    try:
        for block in blocks:
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
        yield
    finally:
        for block, forward in zip(blocks, found, strict=True):
            if forward is not None:
                block.forward = forward
            else:
                vars(block).pop("forward", None)
