"""The latent of an edited picture, from the one of the picture before.

Cells far from what changed keep their latents, bit for bit. The others begin at

    z = z_before + E(x) - E(x_before)

and are fitted to the new picture. Which cells are near is measured: first those with a changed
pixel are moved; wherever the decoding then differs from the old picture by more than a level of
8 bits, the cell may move, too. A decoder that normalises over the whole picture may so free all of
them. Pixels that did not change weigh more in the fit than those that did: the decoder may not be
able to draw the edit, and should not bend the rest to come nearer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import max_pool2d

from fixpoint.adapters.autoencoders.autoencoder import Autoencoder
from fixpoint.adapters.inversion.choice import task_of
from fixpoint.adapters.inversion.drawing import Drawing
from fixpoint.adapters.inversion.drawn_rows import redrawn
from fixpoint.adapters.inversion.goal import Comparison
from fixpoint.adapters.inversion.gradient_plan import Gradients
from fixpoint.adapters.inversion.invert_picture import problem_of
from fixpoint.adapters.inversion.judgement import LEVEL, InversionOutcome, Judgement
from fixpoint.adapters.inversion.problem import InversionProblem
from fixpoint.adapters.inversion.rows import Rows
from fixpoint.adapters.pictures.pictures import Pictures

TOUCHED = 0.1
"""Weight of pixels that changed, where the others weigh 1."""

EDITED = "the picture before is known: only what changed was encoded anew"
KEPT = "fitted to the picture where it was not touched"


@dataclass(frozen=True)
class Fit:
    """How a latent is fitted to a picture.

    Attributes:
        autoencoder: of RGB pictures.
        comparison, gradients, memory_budget, progress: as for `invert`.
    """

    autoencoder: Autoencoder
    comparison: Comparison
    gradients: Gradients
    memory_budget: int | None
    progress: bool

    def edited(
        self,
        pictures: Pictures,
        latent: Float[Tensor, "1 channels rows columns"],
        before: Float[Tensor, "1 3 height width"],
        changed: Bool[Tensor, "1 height width"],
    ) -> tuple[Rows, Bool[Tensor, "1 rows columns"]]:
        """The latent of one edited picture, and the cells that moved.

        Args:
            pictures: the edited picture.
            latent, before: of the picture before, and that picture, on [-1, 1].
            changed: pixels that differ.
        """
        problem = self._problem(pictures)
        latent, before, changed = (
            each.to(problem.values.device) for each in (latent, before, changed)
        )
        cells = _cells(changed[:, None].float(), latent)
        with torch.no_grad():
            step = problem.operator.start - self.autoencoder.encode(before)
            drawn, moved = (
                self.autoencoder.decode(z).clamp(-1, 1) for z in (latent, latent + cells * step)
            )
        spilled = ((moved - drawn).abs() > LEVEL).any(1, keepdim=True).float()
        cells = torch.maximum(cells, _cells(spilled, latent))
        found = self._fitted(problem, latent + cells * step, moved, changed, cells, EDITED)
        return found, cells[:, 0].bool()

    def kept(
        self,
        pictures: Pictures,
        latent: Float[Tensor, "1 channels rows columns"],
        drawn: Float[Tensor, "1 3 height width"],
        touched: Bool[Tensor, "1 height width"],
    ) -> Rows:
        """A latent near the given one that draws the pixels that were not touched.

        Args:
            pictures: what is wanted: the old picture, and under the mask what the latent draws.
            latent, drawn: where it begins, and what that decodes to, on [-1, 1].
            touched: the mask.
        """
        problem = self._problem(pictures)
        latent, drawn, touched = (
            each.to(problem.values.device) for each in (latent, drawn, touched)
        )
        differs = ((drawn - problem.values).abs() > LEVEL / 2).any(1, keepdim=True).float()
        cells = _cells(differs, latent)
        return self._fitted(problem, latent, drawn, touched, cells, KEPT)

    def _problem(self, pictures: Pictures) -> InversionProblem:
        return problem_of(self.autoencoder, pictures, None, None, None, None, compile=False)

    def _fitted(
        self,
        problem: InversionProblem,
        start: Tensor,
        decoded: Tensor,
        touched: Tensor,
        cells: Tensor,
        why: str,
    ) -> Rows:
        begun = Judgement(InversionOutcome.UNJUDGED, "round trip", why)
        drawing = Drawing(
            self.comparison,
            weights=torch.where(touched[:, None], TOUCHED, 1.0),
            movable=cells,
            progress=self.progress,
        )
        return redrawn(
            problem,
            Rows(start, torch.ones(1, dtype=torch.long), [begun], decoded),
            torch.ones(1, dtype=torch.bool),
            replace(task_of(problem, [why]), start=start),
            drawing,
            self.gradients,
            self.memory_budget,
        )


def _cells(
    pixels: Float[Tensor, "batch 1 height width"], latent: Tensor
) -> Float[Tensor, "batch 1 rows columns"]:
    """1 for cells with a pixel that is not 0."""
    height, width = (
        side // cells for side, cells in zip(pixels.shape[-2:], latent.shape[-2:], strict=True)
    )
    return max_pool2d(pixels, (height, width), (height, width))
