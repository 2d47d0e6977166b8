"""The modules behind a user's callables: found, and run with other weights."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from fixpoint.adapters.autoencoders.copies import offloaded


class HeldModules(torch.nn.Module):
    """The modules whose weights belong to some callables.

    A copy with weights of its own runs the same callables: for the length of a call, its weights
    stand in the modules in the place of theirs.

    Args:
        modules: of the callables; the same one may come twice.
    """

    def __init__(self, modules: Iterable[torch.nn.Module] = ()) -> None:
        super().__init__()
        self.held = torch.nn.ModuleList({id(module): module for module in modules}.values())
        self.own: dict[str, Tensor] | None = None
        self.training = False

    def call(self, function: Callable[[Tensor], Any], values: Tensor) -> Any:
        """`function(values)`, with the weights of this copy."""
        if self.own is None:
            return function(values)
        return torch.func.functional_call(self, self.own, (function, values))

    def forward(self, function: Callable[[Tensor], Any], values: Tensor) -> Any:
        return function(values)

    def copied(self, dtype: torch.dtype | None, *, channels_last: bool) -> HeldModules:
        """A copy with weights of its own, without gradients.

        Raises:
            ValueError: there are no modules to convert, or hooks move their weights.
        """
        if dtype is not None and not any(True for _ in self.parameters()):
            raise ValueError(
                "the pair cannot be copied to another dtype: no modules are known that hold its "
                "weights; give modules=, or convert them yourself"
            )
        if offloaded(self):
            raise ValueError(
                "the pair cannot be copied: hooks of accelerate or diffusers load, move or cast "
                "the weights of its modules"
            )
        other = HeldModules(self.held)
        weights = self.own or {**dict(self.named_parameters()), **dict(self.named_buffers())}
        other.own = {name: _copied(each, dtype, channels_last) for name, each in weights.items()}
        return other

    def weights(self) -> Iterator[Tensor]:
        """That a call runs with: those of this copy, else of the modules."""
        if self.own is not None:
            yield from self.own.values()
        else:
            yield from self.parameters()
            yield from self.buffers()

    def in_training(self) -> list[str]:
        """The classes of the modules that act otherwise in training, and are in it."""
        return sorted(
            {
                type(module).__name__
                for module in self.held.modules()
                if module.training and _changed_by_training(module)
            }
        )


def _changed_by_training(module: torch.nn.Module) -> bool:
    if isinstance(module, torch.nn.modules.dropout._DropoutNd):
        return module.p > 0
    if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
        return True
    return isinstance(module, torch.nn.modules.batchnorm._NormBase) and module.track_running_stats


def _copied(weight: Tensor, dtype: torch.dtype | None, channels_last: bool) -> Tensor:
    copy = weight.detach().clone()
    if dtype is not None and copy.is_floating_point():
        copy = copy.to(dtype)
    if channels_last and copy.dim() == 4:
        copy = copy.to(memory_format=torch.channels_last)
    return copy


def modules_of(*callables: object) -> list[torch.nn.Module]:
    """The modules that some callables are, belong to, or refer to."""
    found: list[torch.nn.Module] = []
    seen: set[int] = set()
    queue = list(callables)
    while queue:
        value = queue.pop(0)
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, torch.nn.Module):
            found.append(value)
        else:
            queue.extend(_referred(value))
    return found


def _referred(value: object) -> list[object]:
    """What a callable that is no module refers to: modules, and functions beside it."""
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, types.MethodType):
        return [value.__self__]
    if not isinstance(value, types.FunctionType):
        held = vars(value).values() if hasattr(value, "__dict__") else ()
        return [each for each in held if isinstance(each, torch.nn.Module)]
    try:
        names = inspect.getclosurevars(value)
    except ValueError:  # a cell that is still empty
        return []
    referred = [*names.nonlocals.values(), *names.globals.values()]
    return [
        each
        for each in referred
        if isinstance(each, torch.nn.Module | types.MethodType | functools.partial)
        or (isinstance(each, types.FunctionType) and each.__module__ == value.__module__)
    ]
