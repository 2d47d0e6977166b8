"""--pair package.module:function: an encoder/decoder pair from the user's own code."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from fixpoint.adapters.autoencoders.autoencoder import Autoencoder


def load_pair(spec: str, dtype: torch.dtype, device: torch.device) -> Autoencoder:
    """What the function returns, as an `Autoencoder`.

    The module may lie in the current directory. The function is called without arguments, or with
    dtype= and device=, where it has such parameters; it returns an `Autoencoder`, or two callables
    (encode, decode).

    Raises:
        ValueError: it cannot be imported or called, returns something else, or computes in another
            dtype or on another device than is asked for.
    """
    from fixpoint.adapters.autoencoders.autoencoder import Autoencoder

    function = _function(spec)
    wanted = {"dtype": dtype, "device": device}
    try:
        taken = inspect.signature(function).parameters
        made = function(**{name: value for name, value in wanted.items() if name in taken})
    except Exception as error:  # the user's code may raise anything
        raise ValueError(f"--pair {spec} raised {_words(error)}") from error
    if isinstance(made, Autoencoder):
        autoencoder = made
    elif isinstance(made, tuple) and len(made) == 2 and all(map(callable, made)):
        given: dict[str, Any] = {"name": spec}
        autoencoder = Autoencoder.from_functions(*made, **given)
    else:
        raise ValueError(
            f"--pair {spec} returned a {type(made).__name__}, expected an Autoencoder or two "
            "callables (encode, decode)"
        )
    if autoencoder.device.type != device.type:
        raise ValueError(
            f"--pair {spec} computes on {autoencoder.device}, not on {device}: let the function "
            "take device="
        )
    return autoencoder if autoencoder.dtype == dtype else autoencoder.copy(dtype)


def _function(spec: str) -> Any:
    module_name, colon, name = spec.partition(":")
    if not (colon and module_name and name.isidentifier()):
        raise ValueError(f"--pair must be package.module:function, got {spec!r}")
    if module_name.endswith(".py") or "/" in module_name:
        raise ValueError(
            f"--pair takes the name of a module, as Python imports it, not a file: got {spec!r}"
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        where = f"; it may lie in {here}" if error.name == module_name.split(".")[0] else ""
        raise ValueError(f"--pair {spec}: there is no module {error.name}{where}") from error
    except Exception as error:
        raise ValueError(f"--pair {spec}: importing it raised {_words(error)}") from error
    function = getattr(module, name, None)
    if not callable(function):
        what = "nothing" if function is None else "no function"
        raise ValueError(f"--pair {spec}: {module_name} has {what} by the name of {name}")
    return function


def _words(error: Exception) -> str:
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
