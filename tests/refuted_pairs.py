"""A small pair whose halves were made apart: E reads beside the cells that D draws in.

D is `0.9 tanh` of eight channels of a cosine basis in cells of 4 x 4 pixels. E takes them off
again, bends them, and adds what it reads in the neighbouring cells, so that E(D(.)) is far from the
identity: on pictures of 32 x 32 more than a third of the residual is left after three evaluations.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d, pad

from fixpoint.adapters import Autoencoder
from fixpoint.adapters.autoencoders.calibration import example_photographs

CHANNELS = 8
FREQUENCIES = ((0, 0), (0, 1), (1, 0))
BEND, NEIGHBOURS = 0.2, 1.2

Half = Callable[[Tensor], Tensor]


def halves() -> tuple[Half, Half]:
    """E and D, differentiable."""
    draws = torch.Generator().manual_seed(1)
    points = torch.arange(4)
    waves = [torch.cos(math.pi * (2 * points + 1) * k / 8) for k in range(2)]
    waves = [wave / wave.norm() for wave in waves]
    colours = torch.linalg.qr(torch.randn(3, 3, generator=draws))[0]
    basis = torch.stack(
        [
            colours[colour][:, None, None] * torch.outer(waves[down], waves[right])
            for down, right in FREQUENCIES
            for colour in range(3)
        ]
    )[:CHANNELS]
    mixed = torch.linalg.qr(torch.randn(CHANNELS, CHANNELS, generator=draws))[0]
    kernel = torch.einsum("dc,cxyz->dxyz", mixed, basis)
    beside = torch.randn(CHANNELS, CHANNELS, 3, 3, generator=draws)
    beside = NEIGHBOURS * beside / beside.flatten(1).norm(dim=1)[:, None, None, None]

    def encode(x: Tensor) -> Tensor:
        read = conv2d(x, kernel, stride=4)
        read = read + BEND * torch.sin(2 * read)
        return read + conv2d(pad(read, (1, 1, 1, 1), "replicate"), beside)

    def decode(z: Tensor) -> Tensor:
        return 0.9 * torch.tanh(conv_transpose2d(z, kernel, stride=4))

    return encode, decode


def refuted_pair(*, gradients: bool = True) -> Autoencoder:
    """The pair as an `Autoencoder`; `gradients`: whether autograd goes through its decoder."""
    encode, decode = halves()
    if gradients:
        return Autoencoder.from_functions(encode, decode, name="refuted")
    through = Autoencoder.from_functions(encode, lambda z: decode(z.detach()), name="detached")
    assert not through.differentiable
    return through


def generated(autoencoder: Autoencoder, count: int = 3, side: int = 32) -> tuple[Tensor, Tensor]:
    """Latents of photographs, and what the autoencoder decodes them to."""
    with torch.no_grad():
        truth = autoencoder.encode(example_photographs(side, count=count))
        return truth, autoencoder.decode(truth)
