"""What both trainings share: the learning rate, and the average of the weights that is kept."""

from __future__ import annotations

import math

import torch
from torch import nn


def rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up over 200 steps, then a cosine down to zero."""
    warmup = min(1.0, (step + 1) / 200)
    return peak * warmup * 0.5 * (1 + math.cos(math.pi * step / steps))


@torch.no_grad()
def average_in(average: nn.Module, model: nn.Module, step: int, limit: float) -> None:
    """Move the exponential average of the weights towards the weights of this step."""
    decay = min(limit, (step + 1) / (step + 10))
    for kept, current in zip(average.parameters(), model.parameters(), strict=True):
        kept.lerp_(current, 1 - decay)
