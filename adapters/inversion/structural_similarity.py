"""Structural similarity of pictures (Wang, Bovik, Sheikh & Simoncelli, IEEE Trans. Image Process.
2004, equation 13), per row and differentiable:

    SSIM(x, y) = (2 m_x m_y + c_1)(2 s_xy + c_2) / ((m_x^2 + m_y^2 + c_1)(s_x^2 + s_y^2 + c_2))

with means m, variances s^2 and covariance s_xy under a Gaussian window of 11 pixels and deviation
1.5, c_1 = (0.01 L)^2, c_2 = (0.03 L)^2 and L = 2, the range of pictures on [-1, 1]; averaged over
the places of the window that lie inside the picture, and over colours.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d

WINDOW, DEVIATION = 11, 1.5
RANGE = 2.0
C1, C2 = (0.01 * RANGE) ** 2, (0.03 * RANGE) ** 2


def ssim(
    x: Float[Tensor, "batch 3 height width"],
    y: Float[Tensor, "batch 3 height width"],
    weights: Float[Tensor, "batch 1 height width"] | None = None,
) -> Float[Tensor, " batch"]:
    """The similarity of every row, at most 1.

    Args:
        x, y: on [-1, 1], sides of at least 11 pixels.
        weights: of the pixels that windows are centred on; by default all count alike.

    Raises:
        ValueError: the pictures are smaller than the window.
    """
    if min(x.shape[-2:]) < WINDOW:
        raise ValueError(
            f"SSIM needs pictures of at least {WINDOW} pixels a side, got "
            f"{x.shape[-1]} x {x.shape[-2]}"
        )
    mean_x, mean_y = _blurred(x), _blurred(y)
    variance_x = _blurred(x * x) - mean_x * mean_x
    variance_y = _blurred(y * y) - mean_y * mean_y
    covariance = _blurred(x * y) - mean_x * mean_y
    above = (2 * mean_x * mean_y + C1) * (2 * covariance + C2)
    below = (mean_x * mean_x + mean_y * mean_y + C1) * (variance_x + variance_y + C2)
    similarity = (above / below).mean(1, keepdim=True)
    if weights is None:
        return similarity.flatten(1).mean(1)
    edge = WINDOW // 2
    inside = weights[..., edge:-edge, edge:-edge].to(similarity)
    return (similarity * inside).flatten(1).sum(1) / inside.flatten(1).sum(1)


def _blurred(pictures: Tensor) -> Tensor:
    """The mean under the window, at the places where it lies inside."""
    points = torch.arange(WINDOW, dtype=pictures.dtype, device=pictures.device) - WINDOW // 2
    line = (-points.square() / (2 * DEVIATION**2)).exp()
    line = line / line.sum()
    channels = pictures.shape[1]
    down = line.reshape(1, 1, -1, 1).expand(channels, 1, -1, 1)
    along = line.reshape(1, 1, 1, -1).expand(channels, 1, 1, -1)
    return conv2d(conv2d(pictures, down, groups=channels), along, groups=channels)
