"""Wrong keyword arguments, answered with the name that was meant."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

from fixpoint._nearest import did_you_mean

P = ParamSpec("P")
R = TypeVar("R")


def check_keywords(given: Iterable[str], function: Callable[..., Any], name: str) -> None:
    """Refuse keywords that a function does not have.

    Raises:
        TypeError: with the nearest name that it has.
    """
    parameters = inspect.signature(function).parameters
    if any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        return
    known = [each for each in parameters if each != "self"]
    for keyword in given:
        if keyword not in known:
            raise TypeError(
                f"{name} has no argument {keyword!r}{did_you_mean(keyword, known)} "
                f"(it has {', '.join(known)})"
            )


def suggests(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function answer a wrong keyword with the name that was meant."""
    name = f"{function.__name__}()"

    @functools.wraps(function)
    def checked(*arguments: P.args, **keywords: P.kwargs) -> R:
        if keywords:
            check_keywords(keywords, function, name)
        return function(*arguments, **keywords)

    return checked
