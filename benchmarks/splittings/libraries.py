"""The other libraries: which can be imported here, and in which version."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import version
from typing import Any

MODULES = {
    "SciPy": ("scipy", "scipy.optimize"),
    "torchdeq": ("torchdeq", "torchdeq", "torchdeq.solver.anderson", "torchdeq.solver.broyden"),
    "deepinv": ("deepinv", "deepinv"),
    "PyProximal": ("pyproximal", "pyproximal", "pylops"),
    "JAXopt": ("jaxopt", "jaxopt", "jax.numpy"),
}
"""Distribution, and the modules to import."""


def find_libraries(names: Iterable[str] = tuple(MODULES)) -> tuple[dict[str, Any], dict[str, Any]]:
    """The modules that could be imported; for every library its version, or why it is missing."""
    modules: dict[str, Any] = {}
    report: dict[str, Any] = {}
    for name in names:
        distribution, *needed = MODULES[name]
        try:
            for module in needed:
                import_module(module)
        except Exception as error:  # a broken installation fails in any way it likes
            lines = str(error).strip().splitlines() or [""]
            report[name] = {"missing": f"{type(error).__name__}: {lines[0]}"}
            continue
        modules[name] = [import_module(module) for module in needed]
        report[name] = {"version": version(distribution)}
    if "JAXopt" in modules:
        import_module("jax").config.update("jax_enable_x64", True)
    return modules, report
