"""Old names of modules and classes: they work for one release, with a DeprecationWarning.

The old name of a module stands in `sys.modules` from the start, so that importing it loads nothing;
the first access to one of its attributes loads the module from its new place.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

_LAST = "the old name goes with the next release"


class _Moved(ModuleType):
    """Stands for a module under its old name."""

    def __init__(self, package: str, old: str, new: tuple[str, ...]) -> None:
        super().__init__(old, f"Moved to {', '.join(new)}.")
        vars(self).update(_package=package, _new=new)

    def __getattr__(self, name: str) -> Any:
        # The import system and inspect look these up in every entry of sys.modules.
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        module = self._module_of(name)
        value = getattr(module, name)
        warnings.warn(
            f"{self.__name__} moved: {self._advice(module.__name__, name, value)}; {_LAST}",
            DeprecationWarning,
            stacklevel=2,
        )
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("__"):
            super().__setattr__(name, value)
        else:
            setattr(self._module_of(name), name, value)

    def _module_of(self, name: str) -> ModuleType:
        """The module that has the name now; the package, if it went elsewhere."""
        for new in self._new:
            module = importlib.import_module(new)
            if hasattr(module, name):
                return module
        return importlib.import_module(self._package)

    def _advice(self, module: str, name: str, value: Any) -> str:
        """Where to find it: the package that offers it to users, else the module where it is."""
        for package in (self.__name__.rpartition(".")[0], self._package):
            offered = importlib.import_module(package)
            if name in getattr(offered, "__all__", ()) and getattr(offered, name) is value:
                return f"import {name} from {package}"
        return f"{name} is in {module} now"


def moved(
    package: str,
    modules: Mapping[str, str | tuple[str, ...]],
    names: Mapping[str, str] | None = None,
) -> Callable[[str], Any]:
    """Register old names of a package's modules; returns the package's `__getattr__`.

    Args:
        package: whose modules moved, by its full name.
        modules: the old name, relative to the package, and the full new one; several where the
            module was divided.
        names: see `renamed`.
    """
    for old, new in modules.items():
        name = f"{package}.{old}"
        places = (new,) if isinstance(new, str) else new
        sys.modules.setdefault(name, _Moved(package, name, places))

    def getattribute(name: str) -> Any:
        if name in modules:
            return sys.modules[f"{package}.{name}"]
        return _renamed(package, name, names or {})

    return getattribute


def renamed(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a module whose objects were renamed.

    Args:
        module: its full name.
        names: the old name and the new one.
    """

    return lambda name: _renamed(module, name, names)


def _renamed(module: str, name: str, names: Mapping[str, str]) -> Any:
    if name not in names:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    new = names[name]
    warnings.warn(
        f"{module}.{name} is {module}.{new} now; {_LAST}", DeprecationWarning, stacklevel=3
    )
    return getattr(sys.modules[module], new)
