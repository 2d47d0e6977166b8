"""Modules that moved: their old names work for one release, with a DeprecationWarning.

An old name stands in `sys.modules` from the start, so that importing it loads nothing; the first
attribute that is asked of it loads the module where it is now.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any


class _Moved(ModuleType):
    """Stands for a module under its old name."""

    def __init__(self, package: str, old: str, new: str) -> None:
        super().__init__(old, f"Moved to {new}.")
        vars(self).update(_package=package, _new=new)

    def __getattr__(self, name: str) -> Any:
        # The import system and inspect ask every entry of sys.modules for these.
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        try:
            value = getattr(importlib.import_module(self._new), name)
        except AttributeError:  # it went elsewhere when its module was divided
            value = getattr(importlib.import_module(self._package), name)
        warnings.warn(
            f"{self.__name__} moved to {self._new}; the old name goes with the next release",
            DeprecationWarning,
            stacklevel=2,
        )
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("__"):
            super().__setattr__(name, value)
        else:
            setattr(importlib.import_module(self._new), name, value)


def moved(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """Register old names of a package's modules; returns the package's `__getattr__`.

    Args:
        package: whose modules moved, by its full name.
        modules: the old name, relative to the package, and the full new one.
    """
    for old, new in modules.items():
        name = f"{package}.{old}"
        sys.modules.setdefault(name, _Moved(package, name, new))

    def getattribute(name: str) -> Any:
        if name in modules:
            return sys.modules[f"{package}.{name}"]
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return getattribute
