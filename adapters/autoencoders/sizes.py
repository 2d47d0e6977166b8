"""Which sizes of x come back from D(E(x)).

Most decoders return whole latent cells: seven frames come back as five, 17 pixels as 16. An
inversion compares D(z) with x value by value, so such an x is refused before any model runs.
Nothing is ever resized, cut or padded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

SEARCHED = 100_000
"""The range in which the nearest size that comes back is searched."""


@dataclass(frozen=True)
class Rule:
    """The sizes along one axis that come back.

    Attributes:
        words: the sizes, to stand after "must be".
        holds: whether a size is one of them.
    """

    words: str
    holds: Callable[[int], bool]

    def near(self, size: int) -> tuple[int, ...]:
        """The nearest sizes that would do, below and above."""
        below = next((near for near in range(size - 1, 0, -1) if self.holds(near)), None)
        above = next((near for near in range(size + 1, size + SEARCHED) if self.holds(near)), None)
        return tuple(near for near in (below, above) if near is not None)


def any_size() -> Rule:
    return Rule("at least 1", lambda size: size >= 1)


def exactly(only: int) -> Rule:
    return Rule(f"{only}", lambda size: size == only)


def multiples_of(factor: int, *, least: int = 1) -> Rule:
    """k * factor, for k >= least."""
    words = f"a multiple of {factor}" + (f", from {least * factor} on" if least > 1 else "")
    return Rule(words, lambda size: size % factor == 0 and size >= least * factor)


def one_more_than_multiples_of(step: int, *, most: int | None = None) -> Rule:
    """k * step + 1, for k >= 0: causal models encode the first frame alone."""
    words = f"{step}k + 1" if step > 1 else "at least 1"
    if most is None:
        return Rule(words, lambda size: size >= 1 and (size - 1) % step == 0)
    return Rule(
        f"{words}, at most {most}", lambda size: 1 <= size <= most and (size - 1) % step == 0
    )


def tiles(kernel: int, stride: int) -> Rule:
    """Sizes that windows of `kernel`, one every `stride`, cover completely."""
    if stride < 1:
        return exactly(kernel)
    return Rule(
        f"{kernel} + {stride}k", lambda size: size >= kernel and (size - kernel) % stride == 0
    )


def progression(least: int, step: int) -> Rule:
    """least + k * step, for k >= 0."""
    if step == 1 and least == 1:
        return any_size()
    if least % step == 0:
        return multiples_of(step, least=least // step)
    return one_more_than_multiples_of(step) if least == 1 else tiles(least, step)


@dataclass(frozen=True)
class Sizes:
    """The rules of all axes after the channels: `names` beside `rules`."""

    names: tuple[str, ...]
    rules: tuple[Rule, ...]

    def check(self, shape: Sequence[int], what: str, who: str) -> None:
        """Refuse a shape of (batch, channels, *sizes) that would not come back.

        Args:
            shape: of x.
            what: x is, as "video".
            who: the name of the class that would not give it back.

        Raises:
            ValueError: with every size that does not fit, the rule, and the sizes nearby that do.
        """
        wrong = [
            f"{name} must be {rule.words}, got {size}" + _advice(rule, size)
            for name, rule, size in zip(self.names, self.rules, shape[2:], strict=True)
            if not rule.holds(size)
        ]
        if wrong:
            raise ValueError(
                f"{who} does not give back a {what} of this size: {'; '.join(wrong)}. Cut it or "
                "take another one (do not resize or pad: that destroys the inversion)"
            )


def _advice(rule: Rule, size: int) -> str:
    near = rule.near(size)
    return f" ({' or '.join(map(str, near))} would do)" if near else ""
