"""What a user's pair of callables does: tried on small inputs before anything relies on it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from fixpoint.adapters.autoencoders.convention import SIGNED, UNIT, Pixels
from fixpoint.adapters.autoencoders.pair import Half, Pair, WrongRows
from fixpoint.adapters.autoencoders.size_search import (
    Failure,
    SizeTrials,
    example,
    first_size,
    rules,
)
from fixpoint.adapters.autoencoders.sizes import Sizes

COLOURS = 3
AXES = {
    "picture": ("height", "width"),
    "video": ("the number of frames", "height", "width"),
}
CHECKED_AT = 32
"""The least side of the x that everything but the sizes is checked on, where the pair takes it."""

GOOD = 0.1
"""Where D(E(x)) - x is smaller, no other range is tried; root mean square on [-1, 1]."""

LEVELS = Pixels((127.5,), (127.5,))
RANGES = {"(-1, 1)": SIGNED, "(0, 1)": UNIT, "(0, 255)": LEVELS}
Bound = Literal["free", "bounded", "clipped"]


@dataclass(frozen=True)
class Probe:
    """What was found out about a pair of callables.

    Attributes:
        size: of the x that came back first, without batch and colours.
        latent: the shape of its latents, without the batch.
        factor: pixels per latent cell along a side.
        sizes: which sizes of x come back.
        alone: whether the callables refuse several rows, and are given one at a time.
        repeat: how far two calls are apart, relative to the values: rounding, or 0.
        rows: how far a row of two is from the row alone, relative to its values; 0 where `alone`.
        round_trip: root mean square of D(E(x)) - x of a smooth x on [-1, 1].
        values: the least and the largest value of D seen, on [-1, 1].
        bound: "clipped" where values of D end at the range exactly, "bounded" where they stay
            inside it whatever the latents, else "free".
        differentiable: whether autograd goes through D, to a gradient that is not 0.
        encoder_differentiable: the same of E.
        passes: calls of encode and of decode that it took.
        seconds: that it took.
    """

    size: tuple[int, ...]
    latent: tuple[int, ...]
    factor: int
    sizes: Sizes
    alone: bool
    repeat: float
    rows: float
    round_trip: float
    values: tuple[float, float]
    bound: Bound
    differentiable: bool
    encoder_differentiable: bool
    passes: tuple[int, int]
    seconds: float

    def __repr__(self) -> str:
        size, latent = (" x ".join(map(str, each)) for each in (self.size, self.latent))
        halves = {"D": self.differentiable, "E": self.encoder_differentiable}
        through = " and ".join(half for half, differentiable in halves.items() if differentiable)
        return (
            f"Probe({size} -> {latent}, factor {self.factor}, gradients of {through or 'neither'}"
            f"{', rows alone' if self.alone else ''}, D(E(x)) - x {self.round_trip:.2g}, values of "
            f"D {self.bound}, {self.passes[0]} + {self.passes[1]} passes)"
        )


def probe(pair: Pair, size: tuple[int, ...] | None = None) -> Probe:
    """Try a pair on small inputs.

    Args:
        size: of an x that is known to come back; None to look for one.

    Raises:
        TypeError, ValueError: it is no pair of functions whose rows are independent.
    """
    started = time.perf_counter()
    cuda = [pair.device] if pair.device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(cuda):
        trials = SizeTrials(pair, COLOURS)
        found = first_size(trials, size)
        factor = _factor(trials, found)
        sizes = Sizes(AXES[pair.medium], rules(trials, found, factor))
        checked = _checked_at(trials, found)
        x, z, _ = trials.found[checked]
        repeat = max(_repeat(trials, "encode", x, checked), _repeat(trials, "decode", z, checked))
        apart = [_rows(trials, "encode", x), _rows(trials, "decode", z)]
        values, bound = _values(trials, z)
        round_trip = _round_trip(trials, checked)
    smallest = min(trials.found, key=lambda each: torch.Size(each).numel())
    least_x, least_z, _ = trials.found[smallest]
    return Probe(
        size=found,
        latent=tuple(trials.found[found][1].shape[1:]),
        factor=factor,
        sizes=sizes,
        alone=None in apart,
        repeat=repeat,
        rows=0.0 if None in apart else max(each for each in apart if each is not None),
        round_trip=round_trip,
        values=values,
        bound=bound,
        differentiable=_differentiable(trials, "decode", least_z),
        encoder_differentiable=_differentiable(trials, "encode", least_x),
        passes=(trials.passes["encode"], trials.passes["decode"]),
        seconds=time.perf_counter() - started,
    )


def _factor(trials: SizeTrials, size: tuple[int, ...]) -> int:
    cells = trials.found[size][1].shape[-2:]
    factors = {side / cell if cell else 0 for side, cell in zip(size[-2:], cells, strict=True)}
    factor = factors.pop()
    if factors or factor < 1 or factor != int(factor):
        raise ValueError(
            f"x of {size[-2]} x {size[-1]} pixels has latents of {cells[0]} x {cells[1]} cells, "
            "expected one whole number of pixels a cell, along both sides; "
            "DecoderInversion(encode, decode, image) takes latents of any shape"
        )
    return int(factor)


def _checked_at(trials: SizeTrials, size: tuple[int, ...]) -> tuple[int, ...]:
    """The smallest size that came back with sides of at least `CHECKED_AT`."""
    large = [each for each in trials.found if min(each[-2:]) >= CHECKED_AT] or [size]
    return min(large, key=lambda each: torch.Size(each).numel())


def _repeat(trials: SizeTrials, half: Half, values: Tensor, size: tuple[int, ...]) -> float:
    """How far a second call is from the first, relative to its norm.

    Raises:
        ValueError: the callable is random.
    """
    first = trials.found[size][1 if half == "encode" else 2]
    apart = _distance(trials.call(half, values.clone()), first)
    if apart > 30 * torch.finfo(trials.pair.dtype).eps:
        advice = (
            "where the encoder gives a distribution, return its mode, as "
            "posterior.latent_dist.mode() or the mean, not a sample"
            if half == "encode"
            else "draw its noise anew from one seed in every call"
        )
        raise ValueError(
            f"{half} is random: two calls on the same values differ by {apart:.2g} of their norm; "
            f"{advice}{_training(trials.pair)}"
        )
    return apart


def _rows(trials: SizeTrials, half: Half, values: Tensor) -> float | None:
    """How far a row changes when another stands beside it; None where the callable refuses two.

    Raises:
        ValueError: the rows of a batch are not independent.
    """
    pair = trials.pair
    if half == "encode":
        size = tuple(values.shape[2:])
        other = pair.taken("encode", 0.4 * example(1, COLOURS, size, seed=1) + 0.5)
    else:
        other = 2 * values.flip(-1)
    both = torch.cat((values, other))
    try:
        together = trials.call(half, both.clone())
        alone = torch.cat([trials.call(half, row.clone()) for row in both.split(1)])
    except (Failure, WrongRows):
        return None
    apart = max(_distance(*pairs) for pairs in zip(together, alone, strict=True))
    if not apart <= max(1e-3, 20 * torch.finfo(pair.dtype).eps):
        raise ValueError(
            f"{half} mixes the rows of a batch: a row changes by {apart:.2g} of its norm when "
            "another stands beside it. Rows must be independent: normalise each by itself, or loop "
            f"over them inside the callable{_training(pair)}"
        )
    return apart


def _values(trials: SizeTrials, z: Tensor) -> tuple[tuple[float, float], Bound]:
    """The least and the largest value of D, at large latents too, and whether the range bounds it.

    Raises:
        ValueError: another range than the one that was named bounds them.
    """
    pair = trials.pair
    seen: list[Tensor] = []
    for scale in (1.0, 4.0, -4.0):
        try:
            seen.append(trials.call("decode", scale * z).float().flatten())
        except Failure:
            continue
    raw = torch.cat(seen)
    raw = raw[raw.isfinite()]
    for words, pixels in RANGES.items():
        low, high = _ends(pixels)
        inside = float(raw.min()) >= low - 1e-3 and float(raw.max()) <= high + 1e-3
        full = float(raw.max() - raw.min()) > 0.6 * (high - low)
        if pixels != pair.pixels and inside and full and not _fits(pair.pixels, raw):
            raise ValueError(
                f"decode returns values on [{float(raw.min()):.3g}, {float(raw.max()):.3g}], but "
                f"value_range says {_ends(pair.pixels)}: say value_range={words}"
            )
    values = pair.pixels.from_model(raw.reshape(1, 1, -1)).flatten()
    low, high = float(values.min()), float(values.max())
    if max(-low, high) > 1 + 1e-3:
        return (low, high), "free"
    ends = int((values.abs() - 1).abs().le(1e-6).sum())
    return (low, high), "clipped" if ends > 1 else "bounded"


def _fits(pixels: Pixels, raw: Tensor) -> bool:
    """Whether values lie in both halves of a range, and within four times its width."""
    low, high = _ends(pixels)
    middle, width = (low + high) / 2, high - low
    inside = middle - 4 * width < float(raw.min()) and float(raw.max()) < middle + 4 * width
    return inside and float(raw.min()) < middle - 0.05 * width and float(raw.max()) > middle


def _round_trip(trials: SizeTrials, size: tuple[int, ...]) -> float:
    """Root mean square of D(E(x)) - x on [-1, 1].

    Raises:
        ValueError: it is given back much better on another range than the one that was named.
    """
    pair = trials.pair
    x, _, decoded = trials.found[size]
    error = _rms(pair.pixels.from_model(decoded.float()) - pair.pixels.from_model(x.float()))
    if error <= GOOD:
        return error
    for words, pixels in RANGES.items():
        if pixels == pair.pixels:
            continue
        other = SizeTrials(replace(pair, pixels=pixels), COLOURS)
        came_back = other.comes_back(size)
        for half in ("encode", "decode"):
            trials.passes[half] += other.passes[half]
        if not came_back:
            continue
        x, _, decoded = other.found[size]
        shown = pixels.from_model(x.float())
        better = _rms(pixels.from_model(decoded.float()) - shown)
        if better < error / 2 and better < float(shown.std()) / 2:
            raise ValueError(
                f"value_range says {_ends(pair.pixels)}, on which D(E(x)) is {error:.2g} from x "
                f"(root mean square on [-1, 1]); on {words} it is {better:.2g}: say "
                f"value_range={words}"
            )
    return error


def _differentiable(trials: SizeTrials, half: Half, values: Tensor) -> bool:
    trials.passes[half] += 1
    values = values.detach().clone().requires_grad_(True)
    function = trials.pair.functions[half]
    try:
        with torch.enable_grad():
            result = trials.pair.modules.call(function, values)
            if not (isinstance(result, Tensor) and result.requires_grad):
                return False
            weights = torch.linspace(-1, 1, result.numel(), device=result.device)
            loss = (weights.reshape(result.shape) * result.float()).sum()
            (gradient,) = torch.autograd.grad(loss, values)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception:  # what a callable raises that autograd cannot follow is not bounded
        return False
    return bool(gradient.isfinite().all()) and bool(gradient.any())


def _distance(value: Tensor, other: Tensor) -> float:
    """Relative to the norm of the second."""
    scale = float(torch.linalg.vector_norm(other.double()))
    apart = float(torch.linalg.vector_norm((value - other).double()))
    return apart / scale if scale else apart


def _rms(values: Tensor) -> float:
    return float(values.double().square().mean().sqrt())


def _ends(pixels: Pixels) -> tuple[float, float]:
    """The range that a model takes."""
    (gain,), (offset,) = pixels.gain, pixels.offset
    return offset - gain, offset + gain


def _training(pair: Pair) -> str:
    """What to say of modules that behave otherwise in training."""
    names: Sequence[str] = pair.modules.in_training()
    return f". {', '.join(names)} in training mode: call .eval() on the modules" if names else ""
