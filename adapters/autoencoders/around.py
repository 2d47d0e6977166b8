"""Autoencoders made of another one."""

from __future__ import annotations

import torch

from fixpoint.adapters.autoencoders.autoencoder import Autoencoder


class Around(Autoencoder):
    """An autoencoder around another: it has the other's weights, names and numbers.

    A subclass says what its `encode`, `decode` and `copy` make of the other's.

    Args:
        inner: the other one.
    """

    def __init__(self, inner: Autoencoder) -> None:
        self.inner = inner
        self.name = inner.name
        self.medium = inner.medium
        self.sample_channels = inner.sample_channels
        self.channels = inner.channels
        self.factor = inner.factor
        self.sizes = inner.sizes

    @property
    def dtype(self) -> torch.dtype:
        return self.inner.dtype

    @property
    def device(self) -> torch.device:
        return self.inner.device

    def _move(self, device: torch.device, dtype: torch.dtype) -> None:
        self.inner.to(device, dtype)

    @property
    def module(self) -> torch.nn.Module | None:
        return self.inner.module

    @property
    def differentiable(self) -> bool:
        return self.inner.differentiable

    @property
    def encoder_differentiable(self) -> bool:
        return self.inner.encoder_differentiable

    @property
    def uncompilable(self) -> str | None:
        return self.inner.uncompilable
