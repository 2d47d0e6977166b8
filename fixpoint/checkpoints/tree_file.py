"""Write a tree of tensors and plain numbers to a safetensors file, and read it back bit for bit.

Tensors are stored under their paths in the tree. The metadata hold the rest as JSON: the structure,
the numbers, the layout of each tensor in memory, and a digest of everything.

Reading unpickles nothing. A file names its classes, which are looked up in the dictionaries of the
modules loaded already; no module's or class's `__getattr__` runs, so nothing is imported. They must
be dataclasses or named tuples, of whatever module. Their constructors, `__post_init__` included,
are called with tensors, numbers and such objects from the file; a file can run no other code. The
digest detects damage, not forgery.

The layout of a tensor is kept: the order of a row's elements in memory is the order in which they
are summed. Identity is kept as well: a tensor at two places of a tree is one tensor again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import math
import os
import sys
import types
from collections.abc import Mapping
from enum import Enum, EnumMeta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fixpoint.checkpoints.whole_file import write_whole

FORMAT = "fixpoint tree 1"
_ALIGNMENT = 64  # bytes to which torch aligns a tensor's memory on the CPU


class NotSavable(TypeError):
    """A tree holds something that cannot be read back. The message says where, and what to do."""


class NotReadable(ValueError):
    """A file holds no tree, is damaged, or names classes that are not loaded."""


def write_tree(path: Path, tree: Any, notes: Mapping[str, str], device: torch.device) -> None:
    """Write a tree and some notes, whole or not at all.

    Args:
        path: of the file; a temporary one beside it is renamed into its place.
        tree: dataclasses, named tuples, tuples and dicts of tensors, numbers, strings, members of
            enumerations and None.
        notes: strings that `read_notes` gives back.
        device: of most tensors; tensors on another device are read back to that one.

    Raises:
        NotSavable: something in the tree is of another kind; nothing was written.
        OSError: the file cannot be written; the old one is unchanged.
    """
    save_file = _safetensors().torch.save_file
    writer = _Writer(device)
    content = json.dumps({"tree": writer.node(tree, ""), "layouts": writer.layouts})
    metadata = {
        "format": FORMAT,
        "notes": json.dumps(dict(notes)),
        "content": content,
        "digest": _digest(content, writer.tensors),
    }

    def write(temporary: Path) -> None:
        save_file(writer.tensors, temporary, metadata)
        with temporary.open("rb+") as file:  # the name must not come before the content
            os.fsync(file.fileno())

    write_whole(path, write)


def read_notes(path: Path) -> dict[str, str]:
    """The notes of a file, without its tensors.

    Raises:
        NotReadable: it is not such a file.
    """
    return _open(path)[1]


def read_tree(path: Path, device: torch.device) -> Any:
    """The tree of a file, its tensors on `device` where they were on the one it was written from.

    Raises:
        NotReadable: it is no such file, or damaged, or names classes that are not loaded.
    """
    metadata, _, tensors = _open(path, tensors=True)
    content = metadata.get("content", "")
    if _digest(content, tensors) != metadata.get("digest"):
        raise NotReadable(f"{path} is damaged: its content does not fit its digest")
    try:
        parsed = json.loads(content)
        return _Reader(tensors, parsed["layouts"], device).node(parsed["tree"])
    except NotReadable as error:
        raise NotReadable(f"{path} cannot be read here: {error}") from error
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise NotReadable(f"{path} cannot be read here: {_line(error)}") from error


def digest_of(tensor: Tensor) -> str:
    """A digest of a tensor's values, in hexadecimal."""
    return hashlib.sha256(_bytes(_packed(tensor))).hexdigest()


def check_installed() -> None:
    """Raises ImportError, with what to do, where safetensors is missing."""
    _safetensors()


def class_name(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


class _Writer:
    """Turns a tree into JSON, and collects its tensors under their paths."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.tensors: dict[str, Tensor] = {}
        self.layouts: dict[str, dict[str, Any]] = {}
        self.names: dict[int, str] = {}  # of the tensors met so far
        self.alive: list[Tensor] = []  # so that no `id` is used twice

    def node(self, part: Any, path: str) -> Any:
        if isinstance(part, Tensor):
            return {"tensor": self._tensor(part, path.lstrip(".") or "tree")}
        if dataclasses.is_dataclass(part) and not isinstance(part, type):
            fields = {
                field.name: self.node(getattr(part, field.name), f"{path}.{field.name}")
                for field in dataclasses.fields(part)
            }
            name = self._class(type(part), path)
            self._check_constructor(part, path)
            return {"class": name, "fields": fields}
        if isinstance(part, dict):
            for key in part:
                if type(key) not in (str, int, bool, float, type(None)):
                    raise NotSavable(
                        f"{path.lstrip('.')} has the key {key!r}; keys must be strings or numbers"
                    )
            items = [(key, self.node(each, f"{path}[{key!r}]")) for key, each in part.items()]
            return {"dict": items}
        if isinstance(part, tuple):
            parts = [self.node(each, f"{path}[{index}]") for index, each in enumerate(part)]
            if hasattr(part, "_fields"):
                return {"class": self._class(type(part), path), "parts": parts}
            return {"tuple": parts}
        if isinstance(part, Enum):
            return {"enum": self._class(type(part), path), "name": part.name}
        if type(part) is float and not math.isfinite(part):
            return {"float": str(part)}
        if type(part) in (str, int, bool, float, type(None)):
            return {"value": part}
        raise NotSavable(
            f"{path.lstrip('.') or 'the tree'} is a {type(part).__module__}."
            f"{type(part).__qualname__}, which a checkpoint cannot hold: use tensors, numbers, "
            "strings and None, in dataclasses, named tuples, tuples and dicts"
        )

    def _tensor(self, tensor: Tensor, path: str) -> str:
        if id(tensor) in self.names:
            return self.names[id(tensor)]
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
            raise NotSavable(f"{path} is not a dense tensor, which is all that a checkpoint holds")
        size, stride = list(tensor.shape), list(tensor.stride())
        if not _distinct(size, stride):
            stride = list(torch.empty(size, device="meta").stride())
        away = tensor.data_ptr() % _ALIGNMENT // tensor.element_size() if tensor.numel() else 0
        self.layouts[path] = {
            "size": size,
            "stride": stride,
            "offset": away,
            "device": None if tensor.device == self.device else str(tensor.device),
        }
        self.tensors[path] = _packed(tensor)
        self.names[id(tensor)] = path
        self.alive.append(tensor)
        return path

    def _class(self, kind: type, path: str) -> str:
        name = class_name(kind)
        if _find(name) is not kind:
            raise NotSavable(
                f"{path.lstrip('.') or 'the tree'} is a {kind.__qualname__}, which is not found as "
                f"{kind.__qualname__} in its module {kind.__module__}: define the class at the top "
                "of a module, so that it can be found again"
            )
        return name

    def _check_constructor(self, part: Any, path: str) -> None:
        """A dataclass is read back by calling its class with its fields."""
        kind = type(part)
        fields = {field.name: None for field in dataclasses.fields(part)}
        try:
            inspect.signature(kind).bind(**fields)
        except TypeError as error:
            raise NotSavable(
                f"{path.lstrip('.') or 'the tree'} is a {kind.__qualname__}, which a checkpoint "
                f"cannot hold: its constructor must take all its fields and nothing else, without "
                f"field(init=False) or InitVar ({error})"
            ) from None


class _Reader:
    """Turns JSON into a tree again."""

    def __init__(
        self, tensors: Mapping[str, Tensor], layouts: Mapping[str, Any], device: torch.device
    ) -> None:
        self.device = device
        self.tensors = {name: self._laid_out(tensors[name], layouts[name]) for name in tensors}

    def node(self, node: Mapping[str, Any]) -> Any:
        if "tensor" in node:
            return self.tensors[node["tensor"]]
        if "fields" in node:
            fields = {name: self.node(each) for name, each in node["fields"].items()}
            return self._class(node["class"])(**fields)
        if "parts" in node:
            return self._class(node["class"])(*(self.node(each) for each in node["parts"]))
        if "dict" in node:
            return {key: self.node(each) for key, each in node["dict"]}
        if "tuple" in node:
            return tuple(self.node(each) for each in node["tuple"])
        if "enum" in node:
            return self._member(node["enum"], node["name"])
        if "float" in node:
            return float(node["float"])
        return node["value"]

    def _class(self, name: str) -> Any:
        kind = _find(name)
        if not _is_data(kind):
            raise NotReadable(f"it holds a {name}, which is no class loaded in this process")
        return kind

    def _member(self, name: str, member: str) -> Any:
        kind = _find(name)
        if not issubclass(type(kind), EnumMeta):
            raise NotReadable(f"it holds a {name}, which is no enumeration loaded in this process")
        return inspect.getattr_static(kind, "_member_map_")[member]

    def _laid_out(self, values: Tensor, layout: Mapping[str, Any]) -> Tensor:
        """A tensor of these values with its old layout in memory."""
        size, stride, offset = layout["size"], layout["stride"], layout["offset"]
        device = self.device if layout["device"] is None else torch.device(layout["device"])
        repeated = _repeated(size, stride)
        extent = [1 if again else length for length, again in zip(size, repeated, strict=True)]
        span = sum((length - 1) * step for length, step in zip(extent, stride, strict=True)) + 1
        memory = torch.zeros(offset + span, dtype=values.dtype, device=device)
        lying = memory.as_strided(extent, stride, offset)
        for dim, again in enumerate(repeated):
            values = values.narrow(dim, 0, 1) if again else values
        lying.copy_(values)
        return memory.as_strided(size, stride, offset) if values.numel() else lying


def _packed(tensor: Tensor) -> Tensor:
    """A contiguous copy of its values on the host."""
    values = tensor.detach().resolve_conj().resolve_neg()
    return values.to("cpu", copy=True).clone(memory_format=torch.contiguous_format)


def _repeated(size: list[int], stride: list[int]) -> list[bool]:
    """The dimensions along which a tensor is expanded."""
    return [step == 0 and length > 1 for length, step in zip(size, stride, strict=True)]


def _distinct(size: list[int], stride: list[int]) -> bool:
    """Whether no two elements share memory, except along expanded dimensions."""
    reach = 0
    steps = sorted((step, length) for length, step in zip(size, stride, strict=True) if length > 1)
    for step, length in steps:
        if step and step <= reach:
            return False
        reach += (length - 1) * step
    return True


def _open(
    path: Path, *, tensors: bool = False
) -> tuple[dict[str, str], dict[str, str], dict[str, Tensor]]:
    """Metadata, notes and, where they are asked for, tensors of a file."""
    safetensors = _safetensors()
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            held = {name: file.get_tensor(name) for name in file.keys()} if tensors else {}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError) as error:
        raise NotReadable(f"{path} is no readable safetensors file: {_line(error)}") from error
    if metadata.get("format") != FORMAT:
        raise NotReadable(f"{path} is a safetensors file, but no checkpoint of this version")
    try:
        notes = {str(name): str(each) for name, each in json.loads(metadata["notes"]).items()}
    except (AttributeError, KeyError, ValueError) as error:
        raise NotReadable(f"{path} is damaged: its notes cannot be read") from error
    return metadata, notes, held


def _digest(content: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(content.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(_bytes(tensors[name]))
    return digest.hexdigest()


def _bytes(values: Tensor) -> memoryview:
    return values.reshape(-1).view(torch.uint8).numpy().data


def _find(name: str) -> Any:
    """The object of this name in a loaded module; None if there is none.

    It reads dictionaries only: `getattr` would run the `__getattr__` of modules and classes, many
    of which import.
    """
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module)
    first, *inner = path.split(".")
    if not issubclass(type(found), types.ModuleType):
        return None
    found = object.__getattribute__(found, "__dict__").get(first)
    for each in inner:
        if not issubclass(type(found), type):
            return None
        found = inspect.getattr_static(found, each, None)
    return found


def _is_data(kind: Any) -> bool:
    """Whether it is a dataclass or a class of named tuples, without running code of the object."""
    if not issubclass(type(kind), type):
        return False
    if inspect.getattr_static(kind, "__dataclass_fields__", None) is not None:
        return True
    return tuple in type.mro(kind) and inspect.getattr_static(kind, "_fields", None) is not None


def _safetensors() -> Any:
    try:
        import safetensors
        import safetensors.torch
    except ImportError as error:
        raise ImportError(
            "checkpoints are safetensors files: pip install safetensors, "
            "or fixpoint-torch[diffusers]"
        ) from error
    return safetensors


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
