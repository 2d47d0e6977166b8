"""The methods of table S1, as data, and how each is run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from fixpoint import schedules
from fixpoint.adapters import (
    Autoencoder,
    Clip,
    Inversion,
    invert,
    invert_by_encoder,
    invert_by_gradient,
    invert_by_paper,
)

HALF = ("bfloat16", "float16")


@dataclass(frozen=True)
class Method:
    """One line of table S1.

    Attributes:
        family: what it shares a line in the figure with, but for `dtype`.
        kind: "encoder", "gradient", "paper" or "ours".
        steps: gradient steps, or evaluations of E(D(.)).
        rate: Adam's constant learning rate; None for 0.1 with the paper's schedule.
        optimizer, encoder_weight, checkpointing: see `invert_by_gradient`.
        clipped: the loss is that of clip(D(z)), as x was clipped; the paper leaves it out.
    """

    family: str
    kind: str
    steps: int = 0
    dtype: str = "float32"
    rate: float | None = None
    optimizer: str = "adam"
    encoder_weight: float = 0.0
    clipped: bool = False
    checkpointing: bool = False

    @property
    def setting(self) -> str:
        """The family without its kind, for tables of one kind."""
        return self.family.removeprefix(f"{self.kind}, ")

    def gradient_options(self) -> dict[str, Any]:
        """Keywords of `invert_by_gradient`, but for the number of steps."""
        return {
            "optimizer": self.optimizer,
            "schedule": None if self.rate is None else schedules.constant(self.rate),
            "encoder_weight": self.encoder_weight,
            "observation": Clip() if self.clipped else None,
            "checkpointing": self.checkpointing,
        }

    @property
    def memory(self) -> str:
        """Everything that the peak of memory depends on."""
        if self.kind != "gradient":
            return f"{self.family}, {self.dtype}"
        parts = ["gradient", self.optimizer]
        parts += ["encoder term"] * (self.encoder_weight > 0)
        parts += ["checkpointed"] * self.checkpointing
        return ", ".join(parts)


ENCODER = Method("encoder alone", "encoder")
SCHEDULED = Method("gradient, Adam 0.1 scheduled", "gradient")
FIXED = Method("gradient, Adam 0.01 fixed", "gradient", rate=0.01)
CHECKPOINTED = Method(
    "gradient, Adam 0.01 fixed, checkpointed", "gradient", rate=0.01, checkpointing=True
)
CLIPPED = Method("gradient, Adam 0.01 fixed, clipped", "gradient", rate=0.01, clipped=True)
LBFGS = Method("gradient, L-BFGS, clipped", "gradient", optimizer="lbfgs", clipped=True)
ENCODER_TERM = Method(
    "gradient, L-BFGS, clipped, encoder term",
    "gradient",
    optimizer="lbfgs",
    encoder_weight=0.1,
    clipped=True,
)
PAPER = Method("the paper's Adam", "paper")
OURS = Method("ours", "ours")


def methods(quick: bool = False) -> list[Method]:
    """Every line of the table, in its order."""

    def at(method: Method, *steps: int, dtype: str = "float32") -> list[Method]:
        chosen = (2, 3) if quick and method is not ENCODER else steps
        return [replace(method, steps=count, dtype=dtype) for count in chosen]

    return [
        *at(ENCODER, 0),
        *at(SCHEDULED, 20, 30, 50, 100),
        *at(FIXED, 20, 30, 50, 100),
        *at(CHECKPOINTED, 20),
        *at(LBFGS, 10, 20, 50),
        *at(ENCODER_TERM, 20, 100),
        *at(PAPER, 20, 50, 100, 200),
        *(line for dtype in HALF for line in at(PAPER, 20, 50, 100, dtype=dtype)),
        *at(OURS, 5, 10, 20, 30),
        *(line for dtype in HALF for line in at(OURS, 5, 10, 20, 30, dtype=dtype)),
    ]


def run(
    autoencoder: Autoencoder,
    method: Method,
    pictures: Tensor,
    watch: Callable[[Tensor, Tensor | None], object] | None = None,
) -> Inversion:
    """Invert pictures on [-1, 1]. `watch` receives every iterate and the rows in it."""
    if method.kind == "encoder":
        return invert_by_encoder(autoencoder, pictures, value_range=(-1, 1))
    if method.kind == "gradient":
        return invert_by_gradient(
            autoencoder,
            pictures,
            steps=method.steps,
            **method.gradient_options(),
            value_range=(-1, 1),
            callback=None if watch is None else lambda step, z: watch(z, None),
        )
    callback = None if watch is None else lambda iterate: watch(iterate.state.point, iterate.rows)
    if method.kind == "paper":
        return invert_by_paper(
            autoencoder, pictures, steps=method.steps, value_range=(-1, 1), callback=callback
        )
    return invert(
        autoencoder,
        pictures,
        max_iterations=method.steps - 1,
        value_range=(-1, 1),
        callback=callback,
    )
