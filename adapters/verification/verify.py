"""Do the theorems apply to this autoencoder? The paper's section 3.4 and figures 2 and 4.

For every crop, z* = E(crop), x is D(z*) as an 8-bit picture, and z^0 = E(x). Each method runs from
z^0. It is judged after n iterations and runs on to m, whose point takes the place of the limit
z^inf, which no run reaches. For every crop

    cocoercivity  min over k in [0, n] of <T z^inf - T z^k, z^inf - z^k> / ||T z^inf - T z^k||^2
    convergence   ||z^n - z^inf|| / ||z^inf||
    accuracy      ||z^inf - z*||^2 / ||z*||^2

(equation 14, figure 2, section 4). z^k is the point where T is evaluated: y^k for inertial KM.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fixpoint import kernels
from fixpoint._solve import solve
from fixpoint.adapters.autoencoders.autoencoder import Autoencoder
from fixpoint.adapters.autoencoders.bare_models import takes_models
from fixpoint.adapters.inversion.decoder_inversion import DecoderInversion
from fixpoint.adapters.inversion.result import nmse_db
from fixpoint.adapters.pictures.pictures import check_sides
from fixpoint.adapters.verification.crops import Crop, observation_of
from fixpoint.adapters.verification.fitted_line import fit_line
from fixpoint.adapters.verification.methods import StudiedMethod, methods
from fixpoint.adapters.verification.results import (
    CONVERGED,
    ClaimCount,
    MethodResult,
    Outcome,
    Verification,
)
from fixpoint.iterators import ForwardStep, InertialKM
from fixpoint.loop.iterate import Iterate
from fixpoint.monitors import (
    Cocoercivity,
    Convergence,
    ForwardStepTheorem,
    InertialKMTheorem,
    Monitor,
)
from fixpoint.monitors.certificate import Certificate, Claim, TheoremReport, Verdict
from fixpoint.solution import Solution
from fixpoint.status import Status

__all__ = [
    "ClaimCount",
    "MethodResult",
    "Outcome",
    "StudiedMethod",
    "Verification",
    "count_verdicts",
    "methods",
    "precision_of",
    "verify",
]

ROUNDING = 4.0
"""Differences of T on the embedded autoencoders are off, against float64, by up to 4 times the
change that one perturbation of z^0 shows, since it moves only some of the roundings."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _AgainstLimit(Monitor):
    """Passes iterations 0 to n and the limit to a monitor, as equation (14) needs them."""

    monitor: Cocoercivity
    iterations: int
    limit: int

    def start(self, iterate: Iterate) -> Any:
        return self.monitor.start(iterate)

    def watch(self, iterate: Iterate, memory: Any) -> Any:
        if self.iterations < iterate.iteration < self.limit:
            return memory
        return self.monitor.watch(iterate, memory)

    def report(self, memory: Any) -> Any:
        return self.monitor.report(memory)


@takes_models
def verify(
    autoencoder: Autoencoder,
    crops: Sequence[Crop],
    plan: Sequence[StudiedMethod],
    *,
    observation: str = "none",
    seed: int = 0,
    say: Callable[[str], object] = lambda line: None,
    progress: bool = False,
) -> Verification:
    """Run every method on all crops, as the rows of one batch.

    Args:
        autoencoder: makes and inverts the pictures.
        crops: of one size.
        plan: the methods, see `methods`.
        observation: see `observation_of`.
        seed: of the perturbation that measures the precision of T.
        say: called with a line when a method begins.
        progress: show progress bars.

    Raises:
        ValueError: there are no crops, a side is no multiple of the autoencoder's factor, or
            D(E(crop)) is not finite.
    """
    if not crops:
        raise ValueError("crops are empty: there is nothing to verify on")
    made, inside = observation_of(observation, crops)
    for crop in crops:
        try:
            check_sides(crop.values, autoencoder.factor)
            autoencoder.check_shape(crop.values.shape)
        except ValueError as error:
            raise ValueError(f"{crop.picture}: {error}") from None
    with torch.no_grad():
        truth = autoencoder.encode(torch.cat([crop.values for crop in crops]))
        decoded = autoencoder.decode(truth)
    if not bool(decoded.isfinite().all()):
        raise ValueError("D(E(crop)) contains NaN or infinity; try --dtype float32")
    operator = DecoderInversion(autoencoder.encode, autoencoder.decode, made(decoded), inside)
    unit = torch.finfo(autoencoder.dtype).eps / 2
    precision = precision_of(operator, unit, seed)
    results = []
    for method in plan:
        say(f"{method.name}: {method.words}; {method.limit} iterations of {len(crops)} crops")
        results.append(_run(operator, truth, method, precision, progress))
    settings = {
        "autoencoder": repr(autoencoder),
        "device": str(autoencoder.device),
        "dtype": str(autoencoder.dtype).removeprefix("torch."),
        "x": f"D(z*) through {made!r}",
        "observation": repr(inside),
        "seed": seed,
    }
    start = nmse_db(operator.start, truth).tolist()
    return Verification(settings, tuple(crops), tuple(start), precision, tuple(results))


@torch.no_grad()
def precision_of(operator: DecoderInversion, unit: float, seed: int = 0) -> float:
    """The error of the values of T relative to ||z||, from rounding inside the network.

    Every value of z^0 is moved up or down by the relative amount `unit`, half the last digit of the
    model's dtype. The result is `ROUNDING` times the largest change of T over the rows, at least
    `unit`. Ratios of differences below it say nothing about T.
    """
    z = operator.start
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), z.shape)
    moved = z + unit * torch.from_numpy(signs).to(z) * z
    change = kernels.row_norm(operator(moved) - operator(z))
    relative = change / kernels.row_norm(z)
    finite = relative[relative.isfinite()]
    return max(unit, ROUNDING * float(finite.max()) if len(finite) else unit)


def _run(
    operator: DecoderInversion,
    truth: Tensor,
    method: StudiedMethod,
    precision: float,
    progress: bool,
) -> MethodResult:
    n, limit = method.iterations, method.limit
    kept = {k: torch.full_like(operator.start, torch.nan) for k in (n, limit)}

    def keep(iterate: Iterate) -> None:
        number = int(iterate.iteration)
        if number in kept:
            kept[number][iterate.rows] = iterate.state.point

    # Room for every point, so that no ratio is thinned away.
    monitor = Cocoercivity(capacity=n + 2, precision=precision)
    solution = solve(
        operator,
        operator.start,
        method.iterator,
        rtol=0.0,
        atol=0.0,
        max_iterations=limit,
        monitors=(
            _AgainstLimit(monitor=monitor, iterations=n, limit=limit),
            Convergence(),
            _theorem(method, precision),
        ),
        keep="last",
        callback=keep,
        progress=progress,
    )
    outcomes = _outcomes(solution, truth, kept[n], kept[limit], method)
    watched = solution.monitors[2]
    certificate: Certificate | None = None
    remarks: tuple[str, ...] = ()
    if isinstance(watched, TheoremReport):
        # No tolerance was set, so that every row ran on: whether it converged is judged here.
        judged = [Status.CONVERGED if one.converged else Status[one.status] for one in outcomes]
        remarks = tuple(
            line.replace("row ", "crop ", 1).replace(
                "ended as MAX_ITERATIONS", "had not converged at n"
            )
            for line in watched.remarks(judged)
        )
        certificate = Certificate(watched.claims, remarks)
    ratios = [one.cocoercivity for one in outcomes]
    convergence = [one.convergence_db for one in outcomes]
    accuracy = [one.nmse_db for one in outcomes]
    return MethodResult(
        method=method,
        outcomes=outcomes,
        convergence_line=fit_line(ratios, convergence),
        accuracy_line=fit_line(ratios, accuracy),
        agreement_line=fit_line(convergence, accuracy),
        claims=tuple(count_verdicts(claim) for claim in certificate.claims) if certificate else (),
        certificate=certificate,
        remarks=remarks,
    )


def _theorem(method: StudiedMethod, precision: float) -> Monitor:
    """The monitor of the method's theorem; without a theorem, that of the ratios."""
    iterator, capacity = method.iterator, method.limit + 1
    if isinstance(iterator, ForwardStep):
        return ForwardStepTheorem(
            step_size=iterator.step_size, capacity=capacity, precision=precision
        )
    if isinstance(iterator, InertialKM):
        return InertialKMTheorem(
            inertia=iterator.inertia,
            relaxation=iterator.relaxation,
            cocoercivity=iterator.cocoercivity,
            capacity=capacity,
            precision=precision,
        )
    return Cocoercivity(precision=precision)


def _outcomes(
    solution: Solution, truth: Tensor, judged: Tensor, limit: Tensor, method: StudiedMethod
) -> tuple[Outcome, ...]:
    """The numbers of every row; NaN if it ended before the limit."""
    report, convergence, watched = solution.monitors
    pairs = watched.cocoercivity if isinstance(watched, TheoremReport) else watched
    # With a tolerance of 0 a row converges only where T is exactly 0: it would stay there.
    zero = torch.tensor([status is Status.CONVERGED for status in solution.status])
    lost = torch.tensor(
        [status in (Status.NONFINITE, Status.DIVERGED) for status in solution.status]
    )
    points, residuals = [], []
    for k, point in ((method.iterations, judged), (method.limit, limit)):
        gone = zero.to(point.device) & (solution.iterations.to(point.device) <= k)
        points.append(torch.where(gone[:, None, None, None], solution.z, point))
        history = solution.history.residual_norm
        norm = history[k] if k < len(history) else torch.full_like(history[0], torch.nan)
        norm = torch.where(gone, 0.0, norm) / convergence.first_residual
        # From a first residual of 0 there is nothing to fall.
        residuals.append(torch.where(gone & norm.isnan(), 0.0, norm).tolist())
    judged, limit = points
    distance = kernels.row_norm(judged.double() - limit.double())
    columns = {
        "cocoercivity": torch.where(lost.to(distance.device), torch.nan, report.hindsight),
        "cocoercivity_at": report.hindsight_iteration,
        "pairwise": pairs.pairwise,
        "pairwise_at": pairs.pairwise_iteration,
        "convergence_db": 20 * (distance / kernels.row_norm(limit.double())).log10(),
        "nmse_db": nmse_db(limit, truth),
        "nmse_n_db": nmse_db(judged, truth),
        "rate": convergence.rate,
    }
    lists = {name: values.tolist() for name, values in columns.items()}
    return tuple(
        Outcome(
            **{name: values[row] for name, values in lists.items()},
            residual=residuals[0][row],
            limit_residual=residuals[1][row],
            status=status.name,
            converged=residuals[0][row] < CONVERGED and not bool(lost[row]),
        )
        for row, status in enumerate(solution.status)
    )


def count_verdicts(claim: Claim) -> ClaimCount:
    """The verdicts of all crops on one claim."""
    counts = Counter(claim.verdicts)
    crop = int(claim.margin.argmin())
    return ClaimCount(
        theorem=claim.theorem,
        part=claim.part,
        name=claim.name,
        sentence=claim.sentence,
        basis=claim.basis,
        certified=counts[Verdict.CERTIFIED],
        supported=counts[Verdict.SUPPORTED],
        refuted=counts[Verdict.REFUTED],
        not_measured=counts[Verdict.NOT_MEASURED],
        margin=float(claim.margin[crop]),
        crop=crop,
        iteration=int(claim.iteration[crop]),
    )
