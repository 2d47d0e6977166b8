"""Sampling with a diffusion model, from noise to the clean latent, and its inversion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from fixpoint import kernels
from fixpoint._solve import solve
from fixpoint.adapters.diffusion.backward_euler import BackwardEuler, default_iterator
from fixpoint.adapters.diffusion.networks import Network
from fixpoint.adapters.diffusion.plateau_step import PlateauStep
from fixpoint.adapters.diffusion.sampler_steps import NoiseSchedule
from fixpoint.iterator import Iterator
from fixpoint.monitors import Monitor
from fixpoint.monitors.certificate import Certificate
from fixpoint.solution import Solution
from fixpoint.status import Status
from fixpoint.stop import Below, Divergence, Stagnation, StopRule
from fixpoint.summary import Summarised

Method = Literal["naive", "backward-euler"]
METHODS = ("naive", "backward-euler")
PAPER_TOLERANCE = 1e-3**0.5
"""Tolerance of algorithm 1 in Hong et al. (CVPR 2024): it stops at ||T x||^2 < 1e-3."""


@dataclass(frozen=True)
class Trajectory(Summarised):
    """The latents from a clean latent back to its noise; rows in the order of the latents.

    Attributes:
        noise: z_T, (batch, *latent), of variance 1: what `pipe(latents=...)` takes.
        latents: at every timestep, in the order of sampling and in the scheduler's scaling; the
            last one is the clean latent.
        timesteps: of all latents but the last.
        evaluations: of the network, per row; with guidance every call counts twice.
        solutions: of every step, in the order of sampling; empty for the naive inversion.
    """

    noise: Float[Tensor, "batch *latent"]
    latents: tuple[Float[Tensor, "batch *latent"], ...]
    timesteps: tuple[float, ...]
    evaluations: Int[Tensor, " batch"]
    solutions: tuple[Solution, ...] = ()

    @property
    def residuals(self) -> Float[Tensor, "steps batch"] | None:
        """`||Phi(x_s) - x_t||` of every step; None for the naive inversion, whose residuals
        `Sampling.residuals` measures."""
        if not self.solutions:
            return None
        return torch.stack([solution.residual_norm for solution in self.solutions])

    @property
    def status(self) -> tuple[Status, ...]:
        """For each row, the status of the first inverted step without success, else `CONVERGED`.
        Empty if no solver ran."""
        if not self.solutions:
            return ()
        rows = zip(*(solution.status for solution in reversed(self.solutions)), strict=True)
        return tuple(
            next((status for status in steps if not status.success), Status.CONVERGED)
            for steps in rows
        )

    @property
    def certificates(self) -> tuple[Certificate, ...]:
        """The certificates of the steps, in the order of sampling."""
        return tuple(solution.certificate for solution in self.solutions)


@dataclass(frozen=True)
class Sampling:
    """A conditioned network and the steps of a sampler.

    `LatentDiffusion.sampling` makes it. Latents are float32, or float64 if they are given so,
    whatever dtype the network computes in.

    Attributes:
        network: m(x, timestep), including guidance.
        schedule: the steps, beginning with the noisiest.
        device: of latents.
    """

    network: Network
    schedule: NoiseSchedule
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def timesteps(self) -> tuple[float, ...]:
        """The timesteps that the network is called with, beginning with the noisiest."""
        return tuple(step.timestep for step in self.schedule.steps)

    def start(self, noise: Float[Tensor, "batch *latent"]) -> Float[Tensor, "batch *latent"]:
        """The latent at the first timestep: noise of variance 1 in the scheduler's scaling."""
        return self._latent(noise, "noise") * self.schedule.noise_scale

    def step(
        self, latent: Float[Tensor, "batch *latent"], index: int
    ) -> Float[Tensor, "batch *latent"]:
        """One step, from `timesteps[index]` to the next cleaner latent.

        Raises:
            IndexError: there is no such timestep.
        """
        self._check_index(index)
        with torch.no_grad():
            return self.schedule.steps[index](self.network, self._latent(latent, "latent"))

    def generate(
        self, noise: Float[Tensor, "batch *latent"], *, progress: bool = False
    ) -> Float[Tensor, "batch *latent"]:
        """z_0 from z_T, as the pipeline with `latents=noise` and `output_type="latent"`.

        Args:
            noise: z_T, (batch, *latent), of variance 1.
            progress: show a progress bar.
        """
        latent = self.start(noise)
        for index in tqdm(range(len(self.schedule.steps)), disable=not progress, desc="sampling"):
            latent = self.step(latent, index)
        return latent

    def operator(self, latent: Float[Tensor, "batch *latent"], index: int) -> BackwardEuler:
        """T x = Phi(x) - latent of one step: its zero is the latent at `timesteps[index]`.

        Args:
            latent: the result of the step.
            index: of the step.
        """
        self._check_index(index)
        return BackwardEuler(
            self.network, self._latent(latent, "latent"), self.schedule.steps[index]
        )

    def invert(
        self,
        latent: Float[Tensor, "batch *latent"],
        method: Method = "naive",
        *,
        iterator: Iterator[Any] | None = None,
        max_iterations: int | None = None,
        rtol: float | None = None,
        atol: float | None = None,
        stop: Sequence[StopRule] | None = None,
        monitors: Sequence[Monitor] = (),
        at_source: bool = False,
        callback: Callable[[int, Tensor], object] | None = None,
        progress: bool = False,
    ) -> Trajectory:
        """z_T from z_0: the steps of sampling, inverted one by one, the last step first.

        Args:
            latent: z_0, (batch, *latent), in the pipeline's scaling.
            method: "naive" calls the network once a step, at the known latent (DDIM inversion).
                "backward-euler" starts from that and solves the implicit equation of every step,
                so that sampling leads back to the latent.
            iterator: the method of solving; by default safeguarded Anderson acceleration.
            max_iterations: limit of every step, beyond the first evaluation; 50 by default.
            rtol, atol: a row has converged if ||Phi(x_s) - x_t|| <= atol + rtol ||x_t||; 1e-6 and
                1e-8 by default.
            stop: stop rules; by default divergence and stagnation of the residual.
            monitors: of the solver at every step; see `Trajectory.certificates`.
            at_source: call the network, for the naive inversion, with the timestep of the known
                latent instead of that of the unknown one.
            callback: called after every step with its index and the latent found.
            progress: show a progress bar.

        Raises:
            TypeError, ValueError: the latent or an option cannot be used; no network was called.
        """
        latent = self._latent(latent, "latent")
        solver = {
            "iterator": iterator,
            "max_iterations": max_iterations,
            "rtol": rtol,
            "atol": atol,
            "stop": stop,
            "monitors": tuple(monitors) or None,
        }
        given: dict[str, Any] = {name: value for name, value in solver.items() if value is not None}
        check_method(method, given)
        relative, absolute = given.pop("rtol", 1e-6), given.pop("atol", 1e-8)
        if not all(step.invertible for step in self.schedule.steps):
            raise ValueError(
                "the last step keeps nothing of its latent (a network that predicts the sample, "
                "and no noise at the end): it cannot be inverted; set_alpha_to_one=False leaves a "
                "little noise"
            )
        latents, solutions = [latent], []
        evaluations = torch.zeros(len(latent), dtype=torch.long)
        steps = range(len(self.schedule.steps) - 1, -1, -1)
        for index in tqdm(steps, disable=not progress, desc="inverting the sampling"):
            operator = self.operator(latent, index)
            latent = operator.naive(at_source=at_source)
            evaluations = evaluations + self.network.evaluations
            if method == "backward-euler":
                tolerance = absolute + relative * kernels.row_norm(latents[-1])
                options = self._defaults(index) | given
                options["stop"] = (Below(level=tolerance), *options["stop"])
                solution = solve(operator, latent, rtol=0.0, **options)
                latent = solution.z
                evaluations = evaluations + self.network.evaluations * solution.evaluations.cpu()
                solutions.append(solution)
            latents.append(latent)
            if callback is not None:
                callback(index, latent.clone())
        return Trajectory(
            noise=latent / self.schedule.noise_scale,
            latents=tuple(reversed(latents)),
            timesteps=self.timesteps,
            evaluations=evaluations,
            solutions=tuple(reversed(solutions)),
        )

    def invert_by_paper(
        self,
        latent: Float[Tensor, "batch *latent"],
        *,
        max_iterations: int = 50,
        callback: Callable[[int, Tensor], object] | None = None,
        progress: bool = False,
    ) -> Trajectory:
        """Backward Euler by the published rule, for comparison: `PlateauStep` until
        ||T x||^2 < 1e-3 (Hong et al., CVPR 2024, algorithm 1). Algorithm 1 allows 500 iterations,
        the paper's own repository 50."""
        return self.invert(
            latent,
            "backward-euler",
            iterator=PlateauStep(),
            max_iterations=max_iterations,
            rtol=0.0,
            atol=PAPER_TOLERANCE,
            stop=(),
            callback=callback,
            progress=progress,
        )

    def residuals(self, trajectory: Trajectory) -> Float[Tensor, "steps batch"]:
        """`||Phi(x_s) - x_t||` of every step of a trajectory, by one call of the network each."""
        pairs = zip(trajectory.latents[:-1], trajectory.latents[1:], strict=True)
        return torch.stack(
            [
                kernels.row_norm(self.operator(after, index)(before))
                for index, (before, after) in enumerate(pairs)
            ]
        )

    def _defaults(self, index: int) -> dict[str, Any]:
        return {
            "iterator": default_iterator(self.schedule.steps[index]),
            "max_iterations": 50,
            "stop": (Divergence(factor=10), Stagnation(window=8, improvement=0.05)),
        }

    def _check_index(self, index: int) -> None:
        count = len(self.schedule.steps)
        if not 0 <= index < count:
            raise IndexError(f"index must lie in 0 to {count - 1}, got {index}")

    def _latent(self, latent: Tensor, what: str) -> Tensor:
        if not isinstance(latent, Tensor) or not latent.is_floating_point():
            kind = latent.dtype if isinstance(latent, Tensor) else type(latent).__name__
            raise TypeError(f"the {what} must be a floating-point tensor, got {kind}")
        if latent.dim() < 2:
            raise ValueError(
                f"the {what} must have the batch first, (batch, *latent), got {tuple(latent.shape)}"
            )
        if not latent.numel():
            raise ValueError(f"the {what} is empty: it has shape {tuple(latent.shape)}")
        wide = latent.dtype == torch.float64
        return latent.detach().to(self.device, torch.float64 if wide else torch.float32)


def check_method(method: str, options: dict[str, Any]) -> None:
    """Check the name of a method of inverting a sampling, and its options.

    Raises:
        ValueError: the method is unknown or does not take the options.
    """
    if method not in METHODS:
        raise ValueError(f"methods: {', '.join(METHODS)}; got {method!r}")
    if method == "naive" and options:
        raise ValueError(
            f"{', '.join(options)}: options of method='backward-euler', not of the naive inversion"
        )
