"""What a mistyped word may have meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A question to append to an error message: "; did you mean NAME?", or nothing.

    Args:
        word: what was given.
        known: what could have been given.
    """
    names = [name for name in known if name != word]
    # Abbreviations, and words of a name: "max_iters", "iterations" for "max_iterations".
    near = get_close_matches(word, names, n=1) or [
        name for name in names if len(word) > 2 and (word in name or name in word)
    ]
    return f"; did you mean {near[0]}?" if near else ""
