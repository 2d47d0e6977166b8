"""Parameters of a function: numbers, tensors that all rows share, tensors that belong to rows.

- a number stands for every coordinate of every row;
- a tensor stands for every row and broadcasts against one row's shape, the batch left out;
- `RowParameter(tensor)` has the batch first and broadcasts against a row's shape behind it.

The user says which of the last two is meant. It is never guessed: in a batch of n rows of n numbers
a tensor of n numbers could be either.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint._moved import renamed as _renamed
from fixpoint.summary import Summarised


@dataclass(frozen=True, eq=False)
class RowParameter(Summarised):
    """Data that belong to the rows, (batch, *shape): a row that leaves the batch takes its own."""

    tensor: Tensor

    def __post_init__(self) -> None:
        if not isinstance(self.tensor, Tensor) or self.tensor.dim() < 1:
            raise TypeError("RowParameter takes a tensor whose first dimension is the batch")


Parameter: TypeAlias = float | Tensor | RowParameter
"""A number or a tensor that all rows share, or `RowParameter` one for each."""


def elements(
    name: str, parameter: Parameter, z: Float[Tensor, "batch *shape"]
) -> Float[Tensor, "..."]:
    """The parameter as a tensor that broadcasts against `z`, in its dtype and on its device.

    Raises:
        ValueError: the parameter does not fit the rows of `z`.
    """
    row = tuple(z.shape[1:])
    if isinstance(parameter, RowParameter):
        batch, *shape = parameter.tensor.shape
        if batch != z.shape[0]:
            raise ValueError(f"{name} has {batch} rows, z has {z.shape[0]}")
        _check_fit(name, tuple(shape), row)
        between = (1,) * (len(row) - len(shape))
        return parameter.tensor.to(z).contiguous().view(batch, *between, *shape)
    if isinstance(parameter, Tensor):
        _check_fit(name, tuple(parameter.shape), row)
        return parameter.to(z).contiguous()
    return z.new_full((), parameter)


def numbers(
    name: str, parameter: Parameter, z: Float[Tensor, "batch *shape"]
) -> Float[Tensor, " rows"]:
    """A parameter of `check_numbers` as one number per row: (batch,), or (1,) for all rows."""
    if isinstance(parameter, RowParameter):
        if parameter.tensor.shape[0] != z.shape[0]:
            raise ValueError(f"{name} has {parameter.tensor.shape[0]} rows, z has {z.shape[0]}")
        return parameter.tensor.to(z)
    if isinstance(parameter, Tensor):
        return parameter.to(z).reshape(1)
    return z.new_full((1,), parameter)


def check_elements(name: str, parameter: Parameter, least: float, *, strict: bool = False) -> None:
    """Refuse a parameter with a value outside `least <= value < inf` (`<` where strict).

    Raises:
        TypeError: neither a number nor a tensor nor `RowParameter`. ValueError: the inequality.
    """
    values = values_of(name, parameter)
    good = (values > least if strict else values >= least) & (values < math.inf)
    if not bool(good.all()):
        worst = values[~good].reshape(-1)[0].item()
        sign = "<" if strict else "<="
        bound = "" if least == -math.inf else f"{least:g} {sign} "
        raise ValueError(f"need {bound}{name} < inf, got {worst:g}")


def check_finite(name: str, parameter: Parameter) -> None:
    """Refuse a parameter that holds NaN or infinity."""
    values = values_of(name, parameter)
    if not bool(values.isfinite().all()):
        worst = values[~values.isfinite()].reshape(-1)[0].item()
        raise ValueError(f"need {name} finite, got {worst:g}")


def check_numbers(name: str, parameter: Parameter, least: float, *, strict: bool = False) -> None:
    """`check_elements` for a parameter that is one number, or one per row."""
    check_elements(name, parameter, least, strict=strict)
    check_one_number(name, parameter)


def check_one_number(name: str, parameter: Parameter) -> None:
    """Refuse a tensor that is not one number, or one per row."""
    shape = tuple(values_of(name, parameter).shape)
    if len(shape) != (1 if isinstance(parameter, RowParameter) else 0):
        raise ValueError(
            f"{name} is one number, or one per row as RowParameter of shape (batch,), got shape "
            f"{shape}"
        )


def values_of(name: str, parameter: Parameter) -> Tensor:
    """All values of a parameter, in float64 where it is a number."""
    if isinstance(parameter, RowParameter):
        return parameter.tensor
    if isinstance(parameter, Tensor):
        return parameter
    if not isinstance(parameter, int | float):
        raise TypeError(
            f"{name} must be a number, a tensor or RowParameter(tensor), got "
            f"{type(parameter).__name__}"
        )
    return torch.tensor(parameter, dtype=torch.float64)


def limits(name: str, parameter: Parameter) -> tuple[float, float]:
    """The least and the largest value, over the rows too."""
    values = values_of(name, parameter)
    return float(values.min()), float(values.max())


def is_zero(parameter: Parameter) -> bool:
    """Whether it is the number 0; a tensor's values are not read."""
    return not isinstance(parameter, Tensor | RowParameter) and parameter == 0


def aligned(names: str, *parameters: Parameter) -> tuple[Tensor, ...]:
    """The values of parameters, broadcast against each other as they are against a row."""
    values = [values_of(names, parameter) for parameter in parameters]
    owned = [isinstance(parameter, RowParameter) for parameter in parameters]
    if any(owned):
        # The batch of a RowParameter stands before the dimensions of a tensor that all rows share.
        rank = max(each.dim() + (not own) for each, own in zip(values, owned, strict=True))
        values = [
            each.reshape(each.shape[:1] + (1,) * (rank - each.dim()) + each.shape[1:])
            if own
            else each
            for each, own in zip(values, owned, strict=True)
        ]
    try:
        return torch.broadcast_tensors(*values)
    except RuntimeError:
        shapes = " and ".join(str(tuple(each.shape)) for each in values)
        raise ValueError(f"{names} do not fit each other: shapes {shapes}") from None


def map_parameter(function: Callable[[Tensor], Tensor], parameter: Parameter) -> Parameter:
    """The parameter with `function` applied to its values; it stays of its kind."""
    if isinstance(parameter, RowParameter):
        return RowParameter(function(parameter.tensor))
    if isinstance(parameter, Tensor):
        return function(parameter)
    return float(function(torch.tensor(parameter, dtype=torch.float64)))


def _check_fit(name: str, shape: tuple[int, ...], row: tuple[int, ...]) -> None:
    pairs = zip(reversed(shape), reversed(row), strict=False)
    if len(shape) > len(row) or any(given not in (1, size) for given, size in pairs):
        raise ValueError(
            f"{name} has shape {shape}, a row {row}: give what belongs to the rows as "
            "RowParameter(tensor), batch first"
        )


__getattr__ = _renamed(__name__, {"PerRow": "RowParameter"})
