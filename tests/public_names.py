"""Prints every public name, one a line; `tests/public_names.txt` is what it printed last.

    python tests/public_names.py > tests/public_names.txt

A name that leaves the list breaks the programs that import it: it goes through a DeprecationWarning
for one release, and both its leaving and a name that is new stand in CHANGELOG.md.
"""

import warnings
from importlib import import_module

PACKAGES = ("", ".adapters", ".algebra", ".iterators", ".kernels", ".monitors", ".proximal")
PACKAGES += (".splittings", ".testing")
DEPRECATED = (
    "fixpoint.Identity",
    "fixpoint.algebra.Identity",
    "fixpoint.algebra.Translated",
    "fixpoint.proximal.PerRow",
    "fixpoint.proximal.Translated",
)
"""Old names that work for one release."""
MODULES = (".calculus", ".schedules", ".stop", ".synthetic", ".theory")  # they have no __all__


def own(module):
    """What a module defines itself and does not hide."""
    for name, value in vars(module).items():
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__:
            yield name


def public_names():
    for package in (f"fixpoint{end}" for end in PACKAGES):
        yield from (f"{package}.{name}" for name in import_module(package).__all__)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        for name in DEPRECATED:
            package, _, last = name.rpartition(".")
            if hasattr(import_module(package), last):
                yield name
    for module in (import_module(f"fixpoint{end}") for end in MODULES):
        yield from (f"{module.__name__}.{name}" for name in own(module))


if __name__ == "__main__":
    print(*sorted(public_names()), sep="\n")
