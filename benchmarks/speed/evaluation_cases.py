"""The cases of a run: inputs, precisions, and the operators on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from benchmarks.shared import stable_diffusion_shape
from benchmarks.shared.stable_diffusion_shape import build
from fixpoint.adapters import Autoencoder, DecoderInversion, EightBit, default_observation

SEED = 0


@dataclass(frozen=True)
class Precision:
    """A dtype, and whether a GPU may round the factors of float32 products to TF32."""

    name: str
    dtype: torch.dtype
    tf32: bool = False


@dataclass(frozen=True)
class Plan:
    """Inputs and lengths of one run.

    Attributes:
        inputs: shapes of pictures by name.
        matrix: side of the square matrices whose product gives the peak rate.
        calls: evaluations between two looks at the clock.
        repeats: such blocks, of which the median counts.
        iterations: of `solve` around the evaluations that are timed.
    """

    device: torch.device
    inputs: Mapping[str, tuple[int, ...]]
    precisions: tuple[Precision, ...]
    matrix: int
    calls: int
    repeats: int
    iterations: int
    channels: tuple[int, ...] = field(default_factory=lambda: stable_diffusion_shape.CHANNELS)

    @property
    def gpu(self) -> str | None:
        on_gpu = self.device.type == "cuda"
        return torch.cuda.get_device_name(self.device) if on_gpu else None


def default_plan() -> Plan:
    """Everything where there is a GPU, else one small picture on the CPU."""
    single, half = Precision("float32", torch.float32), Precision("bfloat16", torch.bfloat16)
    if not torch.cuda.is_available():
        inputs = {"128 x 128": (1, 3, 128, 128)}
        return Plan(torch.device("cpu"), inputs, (single, half), 1024, 1, 2, 1)
    inputs = {
        "512 x 512": (1, 3, 512, 512),
        "16 frames of 320 x 512": (16, 3, 320, 512),
    }
    precisions = (single, Precision("float32, TF32", torch.float32, tf32=True), half)
    return Plan(torch.device("cuda"), inputs, precisions, 8192, 5, 5, 15)


class Case:
    """One input in one precision: the autoencoder, a picture that it made, and the operators."""

    def __init__(self, plan: Plan, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
        self.plan, self.dtype, self.shape = plan, dtype, shape
        built = build(plan.channels, dtype, SEED)
        self.autoencoder = Autoencoder.from_diffusers(built.model.to(plan.device))
        batch, _, height, width = shape
        sides = height // built.factor, width // built.factor
        generator = torch.Generator().manual_seed(SEED)
        truth = torch.randn(batch, built.channels, *sides, generator=generator)
        self.truth = truth.to(plan.device)
        with torch.no_grad():
            self.picture = EightBit()(self.autoencoder.decode(self.truth))
        self.eager = self.operator(compile=False)

    def operator(self, *, compile: bool) -> DecoderInversion:
        return DecoderInversion(
            self.autoencoder.encode,
            self.autoencoder.decode,
            self.picture,
            default_observation(EightBit(), self.dtype),
            compile=compile,
        )

    def evaluate(self) -> None:
        self.eager(self.eager.start)

    def gradient_step(self) -> None:
        """The gradient of ||D(z) - x||^2: what a step of the gradient-based method computes."""
        z = self.eager.start.clone().requires_grad_(True)
        with torch.enable_grad():
            loss = (self.autoencoder.decode(z) - self.picture).square().sum()
            torch.autograd.grad(loss, z)
