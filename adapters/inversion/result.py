"""What an inversion returns, and how far it is from a latent that is known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fixpoint import kernels
from fixpoint.adapters.autoencoders.autoencoder import Autoencoder
from fixpoint.adapters.inversion.judgement import InversionOutcome, Judgement
from fixpoint.adapters.inversion.rows import Rows
from fixpoint.adapters.pictures.observations import Observation
from fixpoint.adapters.pictures.pictures import to_pil
from fixpoint.checkpoints.tree_file import read_tree, write_tree
from fixpoint.solution import Solution
from fixpoint.status import Status
from fixpoint.summary import Summarised


@dataclass(frozen=True)
class Inversion(Summarised):
    """The latents behind a batch of pictures; rows in the order of the pictures.

    Attributes:
        latent: (batch, channels, rows, columns), float32, in the pipeline's scaling: what
            `pipe(latents=...)` takes. `autoencoder.raw(latent)` is what the model decodes.
        picture: the pictures on [-1, 1].
        reconstruction: D(latent), clipped to [-1, 1].
        evaluations: per row: of E(D(.)), or gradient steps.
        seconds: of the whole batch, with E(x) and whatever had to be compiled, without the
            reconstruction.
        observation: what was taken to have happened to the decoder's output.
        solution: the solver's account of the fixed-point iteration; None where none ran.
        judgements: per row, the outcome, the method and a sentence; see `Judgement`.
    """

    latent: Float[Tensor, "batch channels rows columns"]
    picture: Float[Tensor, "batch 3 height width"]
    reconstruction: Float[Tensor, "batch 3 height width"]
    evaluations: Int[Tensor, " batch"]
    seconds: float
    observation: Observation
    solution: Solution | None = None
    judgements: tuple[Judgement, ...] = ()

    @property
    def method(self) -> tuple[str, ...]:
        """What made the latent of each row."""
        return tuple(each.method for each in self.judgements)

    @property
    def verdict(self) -> tuple[str, ...]:
        """What each row came to, and why by this method, in a sentence."""
        return tuple(each.sentence for each in self.judgements)

    @property
    def outcome(self) -> tuple[InversionOutcome, ...]:
        """What each row came to, as one of a few."""
        return tuple(each.outcome for each in self.judgements)

    @property
    def success(self) -> tuple[bool, ...]:
        """Whether D(latent) is the picture up to what the observation, or noise, explains."""
        return tuple(each.outcome.success for each in self.judgements)

    @property
    def psnr_db(self) -> Float[Tensor, " batch"]:
        """Peak signal-to-noise ratio of the reconstruction against the picture, in dB."""
        error = (self.reconstruction - self.picture).double().square().flatten(1).mean(1)
        return 10 * (4 / error).log10()

    @property
    def status(self) -> tuple[Status, ...]:
        """Why each row ended; empty where no solver ran and nothing was judged.

        A row whose picture is explained, by the observation or by noise, has `NOISE_FLOOR` where
        the solver's own status is no success: nothing better was to be had.
        """
        solved = self.solution.status if self.solution else (None,) * len(self.judgements)
        if not self.judgements:
            return self.solution.status if self.solution else ()
        both = [
            each.outcome.status(status)
            for each, status in zip(self.judgements, solved, strict=True)
        ]
        return tuple(status for status in both if status is not None)

    def nmse_db(
        self, truth: Float[Tensor, "batch channels rows columns"]
    ) -> Float[Tensor, " batch"]:
        """`10 log10(||latent - truth||^2 / ||truth||^2)` per row, in dB (the paper, section 4)."""
        return nmse_db(self.latent, truth)

    def save(self, path: str | Path) -> None:
        """Write a safetensors file, whole or not at all, which `Inversion.load` reads.

        It holds everything but the reports of monitors. Other programs find the latents under the
        name "latent", as `read_latent` does.

        Raises:
            TypeError: the observation is a function, which no file can hold. OSError: the file
                cannot be written.
        """
        solution = None if self.solution is None else replace(self.solution, monitors=())
        whole = replace(self, solution=solution)
        write_tree(Path(path), whole, {"holds": "Inversion"}, self.latent.device)

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu") -> Inversion:
        """Read a file that `save` wrote; nothing is unpickled.

        Args:
            path: of the file.
            device: of its tensors.

        Raises:
            ValueError: the file is missing or damaged, or holds something else.
        """
        found = read_tree(Path(path), torch.device(device))
        if not isinstance(found, cls):
            raise ValueError(f"{path} holds no {cls.__name__}, but a {type(found).__name__}")
        return found

    def to_pil(self) -> list[Any]:
        """The reconstructions as 8-bit PIL images.

        Raises:
            ValueError: they are no RGB pictures.
        """
        if self.reconstruction.dim() != 4 or self.reconstruction.shape[1] != 3:
            raise ValueError(
                "only RGB pictures become PIL images; the reconstruction has shape "
                f"{tuple(self.reconstruction.shape)}"
            )
        return [to_pil(row) for row in self.reconstruction]


def nmse_db(
    latent: Float[Tensor, "batch *shape"], truth: Float[Tensor, "batch *shape"]
) -> Float[Tensor, " batch"]:
    """Normalised mean squared error per row, in dB: -20 is an error of a tenth of the norm."""
    if not latent.numel():
        return latent.new_zeros(len(latent), dtype=torch.float64)
    error = kernels.row_norm(latent.double() - truth.double())
    return 20 * (error / kernels.row_norm(truth.double())).log10()


@torch.no_grad()
def finish(
    autoencoder: Autoencoder,
    values: Tensor,
    rows: Rows,
    seconds: float,
    observation: Observation,
    solution: Solution | None = None,
) -> Inversion:
    """The result, with the reconstruction."""
    decoded = autoencoder.decode(rows.latent) if rows.decoded is None else rows.decoded
    return Inversion(
        latent=rows.latent,
        picture=values,
        reconstruction=decoded if autoencoder.medium == "audio" else decoded.clamp(-1, 1),
        evaluations=rows.evaluations,
        seconds=seconds,
        observation=observation,
        solution=solution,
        judgements=tuple(rows.judgements),
    )


def synchronize(autoencoder: Autoencoder) -> None:
    if autoencoder.device.type == "cuda":
        torch.cuda.synchronize(autoencoder.device)
