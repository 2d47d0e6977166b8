"""A description of an object that is the same in every process."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import types
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fixpoint.checkpoints.tree_file import digest_of


def fingerprint(thing: Any, name: str) -> dict[str, str]:
    """The parts of an object by name: hyper-parameters, tensors (by digest), functions.

    Objects are taken apart into their attributes, functions into their code and what they close
    over. Nothing depends on addresses, so that a later process gives the same description.
    """
    words: dict[str, str] = {}
    _describe(thing, name, words, ())
    return words


def _describe(thing: Any, name: str, words: dict[str, str], above: tuple[int, ...]) -> None:
    if id(thing) in above:  # it holds itself
        words[name] = "itself"
        return
    above = (*above, id(thing))

    def parts(items: dict[str, Any]) -> None:
        for path, part in items.items():
            _describe(part, f"{name}{path}", words, above)

    kind = _name(type(thing))
    if isinstance(thing, Tensor):
        words[name] = f"{thing.dtype} {tuple(thing.shape)} with digest {digest_of(thing)[:12]}"
    elif isinstance(thing, np.ndarray):
        digest = hashlib.sha256(np.ascontiguousarray(thing).tobytes()).hexdigest()
        words[name] = f"{thing.dtype} {thing.shape} with digest {digest[:12]}"
    elif isinstance(thing, (type(None), bool, int, float, complex, str, bytes, np.generic, Enum)):
        words[name] = repr(thing)
    elif isinstance(thing, (torch.dtype, torch.device)):
        words[name] = str(thing)
    elif isinstance(thing, (type, types.ModuleType, types.BuiltinFunctionType)):
        words[name] = _name(thing)
    elif isinstance(thing, types.MethodType):
        parts({"": thing.__func__, ".__self__": thing.__self__})
    elif isinstance(thing, types.FunctionType):
        words[name] = f"{_name(thing)} with digest {_code(thing.__code__)[:12]}"
        parts({".defaults": thing.__defaults__, ".keywords": thing.__kwdefaults__})
        for variable, cell in zip(
            thing.__code__.co_freevars, thing.__closure__ or (), strict=False
        ):
            parts({f".{variable}": cell.cell_contents})
    elif isinstance(thing, functools.partial):
        words[name] = kind
        parts({".function": thing.func, ".arguments": thing.args, ".keywords": thing.keywords})
    elif dataclasses.is_dataclass(thing):
        words[name] = kind
        fields = dataclasses.fields(thing)
        parts({f".{field.name}": getattr(thing, field.name) for field in fields})
    elif isinstance(thing, dict):
        words[name] = f"{kind} of {len(thing)}"
        parts({f"[{key!r}]": part for key, part in thing.items()})
    elif isinstance(thing, (tuple, list)):
        words[name] = f"{kind} of {len(thing)}"
        parts({f"[{index}]": part for index, part in enumerate(thing)})
    elif isinstance(thing, (set, frozenset)):
        words[name] = f"{kind} {sorted(map(repr, thing))}"
    else:
        words[name] = kind
        parts({f".{key}": part for key, part in getattr(thing, "__dict__", {}).items()})


def _code(code: types.CodeType) -> str:
    digest = hashlib.sha256(code.co_code)
    digest.update(repr((code.co_names, code.co_varnames)).encode())
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            digest.update(_code(constant).encode())
        elif isinstance(constant, frozenset):  # its order is another in every process
            digest.update(repr(sorted(map(repr, constant))).encode())
        else:
            digest.update(repr(constant).encode())
    return digest.hexdigest()


def _name(thing: Any) -> str:
    module = getattr(thing, "__module__", None)
    name = getattr(thing, "__qualname__", None) or getattr(thing, "__name__", repr(thing))
    return f"{module}.{name}" if module else str(name)
