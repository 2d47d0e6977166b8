"""What tells one pair from another: a digest of its weights."""

from __future__ import annotations

import hashlib
from typing import Protocol

import torch

from fixpoint.checkpoints.tree_file import digest_of


class WeighedPair(Protocol):
    """What is digested; `Autoencoder` has it."""

    name: str
    factor: int
    channels: int

    @property
    def dtype(self) -> torch.dtype: ...
    @property
    def module(self) -> torch.nn.Module | None: ...


def digest_of_model(autoencoder: WeighedPair) -> str:
    """A digest of the weights and the dtype, in hexadecimal.

    Where nothing is known of the weights, of the autoencoder's name and sizes.
    """
    digest = hashlib.sha256(str(autoencoder.dtype).encode())
    weights = {} if autoencoder.module is None else autoencoder.module.state_dict()
    if not weights:
        known = (autoencoder.name, autoencoder.factor, autoencoder.channels)
        digest.update(f"{known}\n".encode())
    for name, weight in sorted(weights.items()):
        digest.update(f"{name} {digest_of(weight)}\n".encode())
    return digest.hexdigest()
