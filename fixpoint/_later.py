"""Packages whose public names are loaded at the first use of one of them.

`import fixpoint` alone then loads no torch, and the command line answers `--help` at once.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from importlib.machinery import PathFinder
from typing import Any


def load_later(
    package: str, otherwise: Callable[[str], Any]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of a package whose public names stand in its `_public`.

    Args:
        package: its full name.
        otherwise: the `__getattr__` for names that are neither public nor a module.
    """
    namespace = vars(sys.modules[package])

    def getattribute(name: str) -> Any:
        if name == "__all__":
            return importlib.import_module(f"{package}._public").__all__
        if name.startswith("_"):  # asked for by the import system, inspect and doctest
            return otherwise(name)
        # Modules by themselves: those that `_public` is just loading ask for each other.
        if PathFinder.find_spec(f"{package}.{name}", namespace["__path__"]) is not None:
            return importlib.import_module(f"{package}.{name}")
        public = importlib.import_module(f"{package}._public")
        if name not in public.__all__:
            return otherwise(name)
        namespace.update({each: getattr(public, each) for each in public.__all__})
        return namespace[name]

    def directory() -> list[str]:
        return sorted({*namespace, *getattribute("__all__")})

    return getattribute, directory
