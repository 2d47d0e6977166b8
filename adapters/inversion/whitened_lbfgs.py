"""Gradient descent on the picture in coordinates in which the decoder is nearly an isometry:

    min_u  ||Q(D(P u)) - x||^2 + sigma^2 <z - c, S^-1 (z - c)>,    z = P u

by L-BFGS of every row on its own. C is the mean over latent cells of J^T J, see `calibration`, and
P = (C + 0.03 max(C))^(-1/2) on the channels of every cell. Q is clipping: rounding has no useful
derivative, and a picture tells more by its values than by their cells until it is fitted.
The second term, a Gaussian around c with the covariance S that the encoder's error was measured to
have, is there where the picture holds noise of root mean square sigma that no observation explains:
the sum is then the most probable latent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fixpoint import kernels
from fixpoint.adapters.autoencoders.calibration import apply_map
from fixpoint.adapters.inversion.noise_coordinates import NoiseCoordinates
from fixpoint.adapters.inversion.row_lbfgs import RowLBFGS
from fixpoint.trees.rows import where_rows

REGULARIZATION = 0.03
"""Of C, relative to its largest eigenvalue: a cell's own J^T J is not the mean."""

MEMORY = 100
"""Pairs of L-BFGS: latents are small beside the pass through the decoder that makes one."""

LOOK = 25
"""Steps between two looks at whether the misfit still falls."""

STANDING = 0.85
"""A misfit that falls to no less than this share within `LOOK` steps stands."""

SETTLED = 0.98
"""A loss that falls to no less than this share within `LOOK` steps has settled."""

LOSS_SCALE = 2.0**10
"""Keeps gradients of models in float16 from underflowing; a power of 2 changes no other digit."""

LEAST_LOSS_SCALE = 2.0**-10


@dataclass(frozen=True)
class GaussianAround:
    """The prior: latents around `center` with `precision` on the channels of every cell."""

    center: Float[Tensor, "batch channels *cells"]
    precision: Float[Tensor, "channels channels"]
    noise: Float[Tensor, " batch"]  # sigma, on [-1, 1]

    def value(self, z: Tensor) -> Float[Tensor, " batch"]:
        difference = z - self.center
        weighed = kernels.row_dot(difference, apply_map(self.precision, difference))
        return self.noise.to(weighed).square() * weighed


@dataclass(frozen=True)
class Descent:
    """What a descent came to, per row.

    Attributes:
        latent: of the least loss.
        misfit: root mean square of Q(D(z)) - x there, over the values that are not clipped.
        steps: passes through the decoder and back that the row took part in.
        stands: whether the row ended because its misfit stood still above the floor.
    """

    latent: Float[Tensor, "batch channels *cells"]
    misfit: Float[Tensor, " batch"]
    steps: Int[Tensor, " batch"]
    stands: Bool[Tensor, " batch"]


def descend(
    decode: Callable[[Tensor], Tensor],
    image: Float[Tensor, "batch *picture"],
    start: Float[Tensor, "batch channels *cells"],
    curvature: Float[Tensor, "channels channels"],
    *,
    steps: int,
    prior: GaussianAround,
    floor: Float[Tensor, " batch"] | None = None,
    weights: Float[Tensor, "batch *picture"] | None = None,
    coordinates: NoiseCoordinates | None = None,
    distance: Callable[[Tensor], Float[Tensor, " batch"]] | None = None,
    movable: Float[Tensor, "batch 1 *cells"] | None = None,
    look: int = LOOK,
    memory: int = MEMORY,
    callback: Callable[[int], object] | None = None,
) -> Descent:
    """Fit the picture by whitened L-BFGS.

    Args:
        decode: D, differentiable.
        image: x, on [-1, 1].
        start: where to begin.
        curvature: C.
        steps: passes through the decoder and back, at most.
        prior: see the header.
        floor: the misfit that the noise of the observation leaves. A row ends below it when its
            loss falls no more, and above twice of it when its misfit stands. None: neither.
        weights: 1 where x is known and 0 where it is not; by default it is known everywhere.
        coordinates: in which the first term is a sum of squares, in units of the noise; by default
            the values of the picture.
        distance: of D(z) to the picture, per row, in place of the weighed square; the misfit is
            measured as ever.
        movable: 1 in cells whose latents are sought, 0 in those that keep their start.
        look: steps between two looks at whether the misfit still falls.
        memory: pairs of L-BFGS, at most.
        callback: called after each step with its number.
    """
    whiten, colour = whitening(curvature)
    method = RowLBFGS(memory=min(memory, steps))
    state = method.init(apply_map(whiten, start))
    free = (image.abs() < 1).to(image) if weights is None else weights * (image.abs() < 1)
    count = free.flatten(1).sum(1).clamp(min=1)

    def losses(u: Tensor) -> tuple[Tensor, Tensor]:
        z = apply_map(colour, u)
        decoded = decode(z)
        error = decoded.clamp(-1, 1) - image
        if weights is not None:
            error = error * weights
        if distance is not None:
            far = distance(decoded)
        else:
            apart = error if coordinates is None else coordinates.error(decoded.clamp(-1, 1))
            far = kernels.row_dot(apart, apart)
        loss = far + prior.value(z)
        misfit = kernels.row_dot(error.detach() * free, error.detach())
        return loss, (misfit / count).sqrt()

    batch = len(image)
    best = _Best.of(state.trial)
    active = torch.ones(batch, dtype=torch.bool, device=image.device)
    stands = torch.zeros_like(active)
    taken = torch.zeros(batch, dtype=torch.long, device=image.device)
    last = best
    for step in range(steps):
        loss, misfit, gradient = _evaluated(losses, state.trial)
        if movable is not None:
            gradient = gradient * movable
        taken += active
        best = best.with_trial(state.trial, loss, misfit, active)
        state = method.advance(state, loss, gradient)
        if callback is not None:
            callback(step)
        active = active & (best.loss > 0)
        if floor is not None and (step + 1) % look == 0:
            limit = floor.to(best.misfit)
            done = (best.misfit <= limit) & (best.loss > SETTLED * last.loss)
            stands |= active & (best.misfit > 2 * limit) & (best.misfit > STANDING * last.misfit)
            active, last = active & ~stands & ~done, best
        if not bool(active.any()):
            break
    return Descent(apply_map(colour, best.u), best.misfit, taken.cpu(), stands)


def _evaluated(
    losses: Callable[[Tensor], tuple[Tensor, Tensor]], u: Tensor
) -> tuple[
    Float[Tensor, " batch"], Float[Tensor, " batch"], Float[Tensor, "batch channels *cells"]
]:
    """Loss, misfit and gradient; the loss is scaled down in rows in which a model in 16 bits
    overflows on the way back. The others keep their gradient."""
    loss, misfit, gradient = _scaled(losses, u, LOSS_SCALE)
    scale = LOSS_SCALE
    while scale > LEAST_LOSS_SCALE:
        overflows = loss.isfinite() & ~gradient.flatten(1).isfinite().all(1)
        if not bool(overflows.any()):
            break
        scale /= 16
        smaller = _scaled(losses, u, scale)[2]
        gradient = where_rows(overflows, smaller, gradient)
    return loss.double(), misfit.double(), gradient


def _scaled(
    losses: Callable[[Tensor], tuple[Tensor, Tensor]], u: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    with torch.enable_grad():
        at = u.detach().requires_grad_(True)
        loss, misfit = losses(at)
        (gradient,) = torch.autograd.grad(scale * loss.sum(), at)
    return loss.detach(), misfit.detach(), gradient / scale


def whitening(
    curvature: Float[Tensor, "channels channels"],
) -> tuple[Float[Tensor, "channels channels"], Float[Tensor, "channels channels"]]:
    """P^-1 and P."""
    values, vectors = torch.linalg.eigh(curvature.double())
    scale = (values.clamp(min=0) + REGULARIZATION * values.max()).clamp(min=1e-30).sqrt()
    whiten = (vectors * scale) @ vectors.T
    colour = (vectors / scale) @ vectors.T
    return whiten.to(curvature), colour.to(curvature)


@dataclass(frozen=True)
class _Best:
    """The trial of least loss of every row."""

    u: Tensor
    loss: Tensor
    misfit: Tensor

    @classmethod
    def of(cls, u: Tensor) -> _Best:
        nothing = torch.full((len(u),), torch.inf, dtype=torch.float64, device=u.device)
        return cls(u, nothing, nothing)

    def with_trial(self, u: Tensor, loss: Tensor, misfit: Tensor, active: Tensor) -> _Best:
        better = (loss < self.loss) & active  # never, where it is NaN
        return _Best(
            *where_rows(better, (u, loss, misfit), (self.u, self.loss, self.misfit)),
        )


def noise_beside(
    decode: Callable[[Tensor], Tensor],
    z: Float[Tensor, "batch channels *cells"],
    residual: Float[Tensor, "batch *picture"],
    curvature: Float[Tensor, "channels channels"],
) -> Float[Tensor, " batch"]:
    """How much louder the noise in x is to the decoder's directions than white noise would be.

    J^T n of white noise n with root mean square s has the mean square s^2 trace(C) a cell; codecs
    and resampling leave noise in which the directions that D draws in are over-represented. The
    residual of a fit has no part along them, so it is moved by whole cells against the picture.

    Returns:
        The ratio of root mean squares, at least 1.
    """
    moved = residual.flip(-1).roll((8, 8), (-2, -1))
    with torch.enable_grad():
        at = z.detach().requires_grad_(True)
        (heard,) = torch.autograd.grad(decode(at), at, moved)
    power = kernels.row_dot(heard, heard) / (z[0].numel() / z.shape[1])
    white = kernels.row_dot(moved, moved) / moved[0].numel() * curvature.diagonal().sum()
    return (power / white.clamp(min=torch.finfo(white.dtype).tiny)).sqrt().clamp(min=1).cpu()
