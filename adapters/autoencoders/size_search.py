"""Which sizes of x come back from a user's pair, found by trying a few.

The callables may take any size, multiples of some number, or a single size (an exported network);
for any other they raise an error, or return x of another size. Sides are tried until one comes
back: the likely ones first, and before them the numbers that an error names ("Got: 64 Expected:
256"). From that size each axis is lengthened and shortened.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import product

import torch
from torch import Tensor

from fixpoint.adapters.autoencoders.pair import Half, Pair, tensor_of
from fixpoint.adapters.autoencoders.sizes import Rule, exactly, progression

LIKELY = (64, 128, 256, 512, 32, 224, 96, 192, 384, 48, 16, 8)
SIDES = tuple(dict.fromkeys((*LIKELY, *range(32, 513, 32), *range(8, 513, 8))))
FRAMES = (9, 8, 5, 17, 16, 1, 4, 25)
LONGER_CLIPS = (1, 2, 3, 4, 6, 8, 12, 16)
LARGEST = 1024
"""Larger numbers in an error are not tried as sides."""

WASTED = 8
"""After so many sizes that were computed and did not come back, the pair is refused."""

AT_ONCE = (NameError, AttributeError, ImportError, MemoryError, torch.OutOfMemoryError)
"""Errors that another size would not change."""


class Failure(Exception):
    """x of some size did not come back, and why."""

    def __init__(self, reason: str, *, ran: bool, hints: Sequence[int] = ()) -> None:
        super().__init__(reason)
        self.ran = ran
        self.hints = tuple(hints)


class SizeTrials:
    """D(E(x)) of one row at sizes of choice, each computed once.

    Attributes:
        passes: of E and of D, those that failed included.
        found: x, its latents and D(E(x)), as the callables take and return them, by size.
    """

    def __init__(self, pair: Pair, colours: int) -> None:
        self.pair = pair
        self.colours = colours
        self.passes: dict[Half, int] = {"encode": 0, "decode": 0}
        self.found: dict[tuple[int, ...], tuple[Tensor, Tensor, Tensor]] = {}
        self.failures: dict[tuple[int, ...], Failure] = {}

    def comes_back(self, size: tuple[int, ...]) -> bool:
        """Whether x of this size comes back, all values finite."""
        if size in self.found or size in self.failures:
            return size in self.found
        try:
            self.found[size] = self._round_trip(size)
        except Failure as failure:
            self.failures[size] = failure
        return size in self.found

    def call(self, half: Half, values: Tensor) -> Tensor:
        """One pass, whose input must stay as it is.

        Raises:
            Failure: the callable raised an error. TypeError, ValueError: see `tensor_of`.
        """
        self.passes[half] += 1
        kept = values.clone()
        try:
            value = self.pair.modules.call(self.pair.functions[half], values)
        except AT_ONCE as error:
            if isinstance(error, MemoryError | torch.OutOfMemoryError):
                raise
            raise ValueError(
                f"{half} raised {_words(error)} for x of {tuple(values.shape)}"
            ) from error
        except Exception as error:  # a callable may raise anything for a size that it cannot take
            hints = [int(number) for number in re.findall(r"\b\d{1,4}\b", str(error))]
            raise Failure(f"{half} raised {_words(error)}", ran=False, hints=hints) from error
        result = tensor_of(half, value, len(values))
        if not torch.equal(values, kept) and not bool(kept.isnan().any()):
            raise ValueError(
                f"{half} changes its input in place, which the solver goes on to use: let it work "
                "on a clone, or replace operations like x.add_() and x[...] = by others"
            )
        return result.detach().to(self.pair.device)

    def _round_trip(self, size: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
        x = self.pair.taken("encode", example(1, self.colours, size))
        z = self.call("encode", x)
        if not bool(z.isfinite().all()):
            raise Failure("encode returned NaN or infinity", ran=True)
        if z.dim() != x.dim():
            axes = "rows, columns" if len(size) == 2 else "latent frames, rows, columns"
            raise ValueError(
                f"encode returned latents of shape {tuple(z.shape)}, expected (batch, channels, "
                f"{axes}); DecoderInversion(encode, decode, image) takes latents of any shape"
            )
        decoded = self.call("decode", z.clone())
        if decoded.shape != x.shape:
            hints = decoded.shape[-1:] if decoded.dim() == x.dim() else ()
            raise Failure(
                f"decode(encode(x)) has shape {tuple(decoded.shape)}", ran=True, hints=hints
            )
        if not bool(decoded.isfinite().all()):
            raise Failure("decode returned NaN or infinity", ran=True)
        return x, z, decoded


def first_size(trials: SizeTrials, given: tuple[int, ...] | None) -> tuple[int, ...]:
    """A size that comes back.

    Raises:
        ValueError: none was found.
    """
    queue: Iterator[tuple[int, ...]]
    if given is not None:
        queue = iter([given])
    elif trials.pair.medium == "picture":
        queue = _squares(trials)
    else:
        queue = ((frames, side, side) for side, frames in product((64, 128, 32, 256), FRAMES))
    for size in queue:
        if trials.comes_back(size):
            return size
        wasted = [each for each in trials.failures.values() if each.ran]
        if len(wasted) >= WASTED or (wasted and "NaN" in str(wasted[-1])):
            break
    raise ValueError(_none_came_back(trials))


def _squares(trials: SizeTrials) -> Iterator[tuple[int, ...]]:
    """Sides to try, those first that a failure names."""
    waiting = list(SIDES)
    tried: set[int] = set()
    while waiting:
        side = waiting.pop(0)
        if side in tried:
            continue
        tried.add(side)
        yield side, side
        failure = trials.failures.get((side, side))
        named = dict.fromkeys(failure.hints if failure else ())
        waiting[:0] = [hint for hint in named if 8 <= hint <= LARGEST and hint not in tried][:4]


def rules(trials: SizeTrials, size: tuple[int, ...], factor: int) -> tuple[Rule, ...]:
    """What sizes come back, axis by axis, from one that does."""
    sides = len(size) - 2  # the axis of the height
    found: list[Rule | None] = [None] * len(size)
    if sides:
        step = _step(trials, size, 0, LONGER_CLIPS)
        least = _least(trials, size, (0,), step)
        found[0] = exactly(size[0]) if step is None else progression(least, step)
    longer = (factor, 2 * factor, 4 * factor, 8 * factor, size[sides])
    down = _step(trials, size, sides, longer)
    across = None
    if down is not None or size[sides] != size[sides + 1]:  # else one size, in all likelihood
        across = _step(trials, size, sides + 1, longer if down is None else (down, *longer))
    if down == across and size[sides] == size[sides + 1]:
        least = _least(trials, size, (sides, sides + 1), down)
        both = exactly(size[sides]) if down is None else progression(least, down)
        found[sides] = found[sides + 1] = both
    else:
        for axis, step in ((sides, down), (sides + 1, across)):
            least = _least(trials, size, (axis,), step)
            found[axis] = exactly(size[axis]) if step is None else progression(least, step)
    return tuple(rule for rule in found if rule is not None)


def _step(
    trials: SizeTrials, size: tuple[int, ...], axis: int, longer: Sequence[int]
) -> int | None:
    """The first of some steps by which an axis can grow; None where there is none."""
    for step in dict.fromkeys(longer):
        if trials.comes_back(_changed(size, (axis,), size[axis] + step)):
            return step
    return None


def _least(
    trials: SizeTrials, size: tuple[int, ...], axes: tuple[int, ...], step: int | None
) -> int:
    """The least size of some axes that comes back, whole steps below that of `size`."""
    most = size[axes[0]]
    if step is None:
        return most
    smallest = most % step or step
    steps = (most - smallest) // step
    fails, works = -1, steps
    while works - fails > 1:
        middle = fails + 1 if fails < 0 else (fails + works) // 2
        if trials.comes_back(_changed(size, axes, smallest + middle * step)):
            works = middle
        else:
            fails = middle
    return smallest + works * step


def _changed(size: tuple[int, ...], axes: tuple[int, ...], to: int) -> tuple[int, ...]:
    return tuple(to if axis in axes else each for axis, each in enumerate(size))


def example(rows: int, colours: int, size: tuple[int, ...], seed: int = 0) -> Tensor:
    """Smooth pictures or videos on [-1, 1] with a little noise, each row another one."""
    generator = torch.Generator().manual_seed(seed)
    shape = rows, colours, *size
    coarse = torch.rand(*shape[:2], *(min(each, 4) for each in size), generator=generator)
    mode = "bilinear" if len(size) == 2 else "trilinear"
    smooth = torch.nn.functional.interpolate(coarse, size, mode=mode, align_corners=False)
    return 1.6 * smooth - 0.8 + 0.02 * torch.randn(shape, generator=generator)


def _none_came_back(trials: SizeTrials) -> str:
    pair, shown = trials.pair, list(trials.failures.items())
    reasons: dict[str, tuple[int, ...]] = {}
    for size, failure in shown:
        reasons.setdefault(re.sub(r"\d+", "#", str(failure)), size)
    told = [
        f"at {' x '.join(map(str, size))}, {trials.failures[size]}"
        for size in list(reasons.values())[:3]
    ]
    what = (
        "16-bit overflow, or weights that are not finite?"
        if "NaN" in told[0]
        else ("decode(encode(x)) must have the shape of x")
    )
    names = "size=(height, width)" if pair.medium == "picture" else "size=(frames, height, width)"
    return (
        f"no {pair.medium} with {trials.colours} colours came back from the pair, of "
        f"{len(shown)} sizes tried: {'; '.join(told)}. {what}; where the pair takes another size, "
        f"name it: {names}"
    )


def _words(error: BaseException) -> str:
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message[:200]}" if message else type(error).__name__
