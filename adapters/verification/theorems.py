"""Does the theorem apply to this autoencoder? The paper's section 3.4 and figures 2 and 4.

For every crop: z* = E(crop), x = D(z*) as an 8-bit picture, z^0 = E(x). Each method runs from z^0
for n iterations, which are judged, and on to m, whose point stands in for the limit z^inf that no
run reaches. For every crop

    cocoercivity  min over k in [0, n] of <T z^inf - T z^k, z^inf - z^k> / ||T z^inf - T z^k||^2
    convergence   ||z^n - z^inf|| / ||z^inf||
    accuracy      ||z^inf - z*||^2 / ||z*||^2

(equation 14, figure 2, section 4). z^k is where T is evaluated: y^k for inertial KM.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fixpoint import kernels, schedules
from fixpoint._solve import solve
from fixpoint.adapters.autoencoders.autoencoder import Autoencoder
from fixpoint.adapters.inversion.decoder_inversion import DecoderInversion
from fixpoint.adapters.inversion.result import nmse_db
from fixpoint.adapters.pictures.pictures import check_sides
from fixpoint.adapters.reports.versions import versions
from fixpoint.adapters.verification.crops import Crop, observation_of
from fixpoint.adapters.verification.fitted_line import Line, fit_line
from fixpoint.iterator import Iterator
from fixpoint.iterators import Adam, ForwardStep, InertialKM
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
from fixpoint.summary import Summarised

CONVERGED = 0.1
"""A crop counts as converged once its residual is below this part of its first value."""
FURTHER = 3
"""z^inf is the point after this many times the iterations: 300 for 100 in the paper's figure 2."""

ROUNDING = 4.0
"""Differences of T on the embedded autoencoders are off, against float64, by up to 4 times what
one perturbation of z^0 shows: it moves some of the roundings only."""


@dataclass(frozen=True)
class Method:
    """An iterator and how long it runs.

    Attributes:
        iterations: n, the run that is judged. limit: m > n, whose point is taken for z^inf.
        needed: the ratio (14) that its theorem asks for; None where no theorem covers it.
        words: its settings, for a reader.
    """

    name: str
    iterator: Iterator[Any]
    iterations: int
    limit: int
    needed: float | None
    words: str


@dataclass(frozen=True)
class Outcome:
    """What one method did on one crop. Not finite: NaN where the run ended before.

    Attributes:
        cocoercivity, cocoercivity_at: minimum of (14) and its k; infinite and -1 where no two
            values of T differed.
        pairwise, pairwise_at: the least ratio of two successive points of the whole run.
        convergence_db, nmse_db, nmse_n_db: of z^n to z^inf, of z^inf to z*, of z^n to z*.
        residual, limit_residual: `||T z^n||` and `||T z^inf||` relative to `||T z^0||`.
        rate: observed linear rate of the residual at the end of the whole run.
        status: how the solver ended. converged: the residual at z^n is below `CONVERGED`.
    """

    cocoercivity: float
    cocoercivity_at: int
    pairwise: float
    pairwise_at: int
    convergence_db: float
    nmse_db: float
    nmse_n_db: float
    residual: float
    limit_residual: float
    rate: float
    status: str
    converged: bool


@dataclass(frozen=True)
class ClaimCount:
    """How the crops judge one claim of a theorem, and where its margin is least."""

    theorem: str
    part: str
    name: str
    sentence: str
    basis: str
    certified: int
    supported: int
    refuted: int
    not_measured: int
    margin: float
    crop: int
    iteration: int


@dataclass(frozen=True)
class MethodResult(Summarised):
    """One method on all crops.

    Attributes:
        convergence_line: of the convergence (dB) against the cocoercivity, as in figure 2.
        accuracy_line: of the NMSE (dB) against the cocoercivity.
        agreement_line: of the NMSE (dB) against the convergence (dB).
        claims: of its theorem; none for Adam. certificate: the same, crop by crop.
        remarks: on crops where outcome and hypotheses disagree.
    """

    method: Method
    outcomes: tuple[Outcome, ...]
    convergence_line: Line | None
    accuracy_line: Line | None
    agreement_line: Line | None
    claims: tuple[ClaimCount, ...]
    certificate: Certificate | None
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class Verification(Summarised):
    """Every method on one batch of crops.

    Attributes:
        settings: of the run, by name. encoder_nmse_db: of z^0 to z*, crop by crop.
        precision: relative error of T's values, measured; see `precision_of`.
    """

    settings: dict[str, Any]
    crops: tuple[Crop, ...]
    encoder_nmse_db: tuple[float, ...]
    precision: float
    results: tuple[MethodResult, ...]

    @property
    def overlapping(self) -> bool:
        """Two crops share pixels: they are not independent."""
        return any(a.overlaps(b) for index, a in enumerate(self.crops) for b in self.crops[:index])


@dataclass(frozen=True, kw_only=True, eq=False)
class _AgainstLimit(Monitor):
    """A monitor that sees iterations 0 to n and then the limit alone, as equation 14 needs it."""

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


def methods(
    *, iterations: int | None = None, paper: bool = False, half_precision: bool = False
) -> tuple[Method, ...]:
    """Forward step, inertial KM and Adam, in practical settings or in the paper's.

    Args:
        iterations: n; by default 50, or the paper's 100 (Adam: 50), with z^inf after 3 n, or
            after the paper's 300.
        paper: rho = 0.001 and alpha = 0.9, as in section 3.4.
        half_precision: the model computes in 16 bits, where the paper gives Adam another eps.

    Raises:
        ValueError: iterations below 1.
    """
    if iterations is not None and iterations < 1:
        raise ValueError(f"--iterations must be at least 1, got {iterations}")
    longest = 100 if paper else 50
    steps, adam_steps = iterations or longest, iterations or 50
    limit = FURTHER * (iterations or longest)
    forward = ForwardStep(step_size=0.001 if paper else 1.0)
    # The paper gives rho = 2 lambda beta only; beta = 0.1 is close to the least, 0.086, for which
    # alpha = 0.9 meets condition (13), and so the weakest hypothesis that theorem 2 can have.
    inertial = (
        InertialKM(inertia=0.9, relaxation=0.005, cocoercivity=0.1)
        if paper
        else InertialKM(inertia=0.3, relaxation=0.5, cocoercivity=1.0)
    )
    eps = 1e-4 if half_precision else 1e-8
    adam = Adam(schedule=schedules.warmup_cosine(0.01, adam_steps), eps=eps)
    return (
        Method(
            "forward step",
            forward,
            steps,
            limit,
            forward.step_size / 2,
            f"rho = {forward.step_size:g}",
        ),
        Method(
            "inertial KM",
            inertial,
            steps,
            limit,
            inertial.cocoercivity,
            f"alpha = {inertial.inertia:g}, lambda = {inertial.relaxation:g}, "
            f"beta = {inertial.cocoercivity:g}, so rho = 2 lambda beta = {inertial.step_size:g}",
        ),
        Method(
            "Adam",
            adam,
            adam_steps,
            limit,
            None,
            f"rate 0.01, warm-up and cosine over {adam_steps} steps, then held; eps {eps:g}",
        ),
    )


def verify(
    autoencoder: Autoencoder,
    crops: Sequence[Crop],
    plan: Sequence[Method],
    *,
    observation: str = "none",
    seed: int = 0,
    say: Callable[[str], object] = lambda line: None,
    progress: bool = False,
) -> Verification:
    """Run every method on all crops, as the rows of one batch.

    Args:
        autoencoder: makes and inverts the pictures.
        crops: of one size. plan: see `methods`. observation: see `observation_of`.
        seed: of the perturbation that measures the precision of T.
        say: called with a line a method, as they begin. progress: show progress bars.

    Raises:
        ValueError: there are no crops, the sides of one are not multiples of the autoencoder's
            factor, or E(x) is not finite.
    """
    if not crops:
        raise ValueError("crops are empty: there is nothing to verify on")
    made, inside = observation_of(observation, crops)
    for crop in crops:
        try:
            check_sides(crop.values, autoencoder.factor)
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
    """The error of T's values relative to ||z||, where z is known to `unit` per value only.

    How much rounding a network adds is seen by moving every value of z^0 up or down by `unit`, half
    the last digit of the model's dtype: `ROUNDING` times the largest change. Ratios of differences
    that small say nothing of T.
    """
    z = operator.start
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), z.shape)
    moved = z + unit * torch.from_numpy(signs).to(z) * z
    change = kernels.row_norm(operator(moved) - operator(z))
    relative = change / kernels.row_norm(z)
    finite = relative[relative.isfinite()]
    return max(unit, ROUNDING * float(finite.max()) if len(finite) else unit)


def typical(values: Sequence[float]) -> float:
    """The median of the finite values; NaN where there are none."""
    finite = [value for value in values if math.isfinite(value)]
    return median(finite) if finite else math.nan


def content(verification: Verification, findings: dict[str, list[str]]) -> dict[str, Any]:
    """Everything as JSON takes it: what is not finite becomes None.

    Args:
        findings: the sentences of each method, by its name.
    """
    result: dict[str, Any] = {
        "settings": verification.settings,
        "versions": versions(),
        "precision": verification.precision,
        "overlapping": verification.overlapping,
        "crops": [
            {
                "picture": crop.picture,
                "left": crop.left,
                "top": crop.top,
                "width": crop.width,
                "height": crop.height,
                "encoder_nmse_db": start,
            }
            for crop, start in zip(verification.crops, verification.encoder_nmse_db, strict=True)
        ],
        "methods": [
            {
                "name": shown.method.name,
                "settings": shown.method.words,
                "iterations": shown.method.iterations,
                "limit": shown.method.limit,
                "needed_cocoercivity": shown.method.needed,
                "positive_fraction": positive_fraction(shown),
                "convergence_line": shown.convergence_line and asdict(shown.convergence_line),
                "accuracy_line": shown.accuracy_line and asdict(shown.accuracy_line),
                "agreement_line": shown.agreement_line and asdict(shown.agreement_line),
                "crops": [asdict(outcome) for outcome in shown.outcomes],
                "claims": [asdict(claim) for claim in shown.claims],
                "certificate": shown.certificate and shown.certificate.to_dict(),
                "remarks": list(shown.remarks),
                "findings": findings[shown.method.name],
            }
            for shown in verification.results
        ],
    }
    return _finite(result)


def positive_fraction(result: MethodResult) -> float | None:
    """The part of the crops with a positive minimum of (14), among those where it is known."""
    known = [one.cocoercivity for one in result.outcomes if not math.isnan(one.cocoercivity)]
    return sum(value > 0 for value in known) / len(known) if known else None


def refuted_crops(result: MethodResult) -> list[bool] | None:
    """On which crops a hypothesis of the theorem is refuted; None where there is no theorem."""
    if result.certificate is None:
        return None
    hypotheses = [claim for claim in result.certificate.claims if claim.part == "hypothesis"]
    return [
        any(not bool(claim.holds[row]) for claim in hypotheses)
        for row in range(len(result.outcomes))
    ]


def _run(
    operator: DecoderInversion, truth: Tensor, method: Method, precision: float, progress: bool
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


def _theorem(method: Method, precision: float) -> Monitor:
    """The monitor of the method's theorem over the whole run, or the ratios alone."""
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
    solution: Solution, truth: Tensor, judged: Tensor, limit: Tensor, method: Method
) -> tuple[Outcome, ...]:
    """The numbers of every row; NaN where it ended before its limit."""
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
    """One claim over all crops."""
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


def _finite(value: Any) -> Any:
    """The same tree with None for every number that JSON does not know."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return value
