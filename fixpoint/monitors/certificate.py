"""What a run says about a theorem: every hypothesis and every conclusion, row by row.

Four verdicts, none stronger than the data allow:

- *certified*: it follows from what is known, and nothing measured contradicts it;
- *supported*: it was measured along the run, and never violated;
- *refuted*: it was violated, by the margin and at the iteration given;
- *not measured*: the run does not decide it.

The verdict on a conclusion is never above that on its weakest hypothesis. A refuted hypothesis does
not refute the conclusion: it is then judged by the measurements alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from jaxtyping import Bool, Float, Int
from torch import Tensor

from fixpoint.status import Status
from fixpoint.summary import Summarised

if TYPE_CHECKING:  # its module needs `Claim` from here
    from fixpoint.monitors.cocoercivity import CocoercivityReport


class Verdict(Enum):
    """How far a claim can be trusted."""

    CERTIFIED = "certified"
    SUPPORTED = "supported"
    REFUTED = "refuted"
    NOT_MEASURED = "not measured"

    def __repr__(self) -> str:
        return f"Verdict.{self.name}"


@dataclass(frozen=True)
class Claim(Summarised):
    """One hypothesis or conclusion of a theorem, judged for every row.

    Attributes:
        theorem, part, name: as "theorem 1", "hypothesis", "step size".
        sentence: what the theorem says.
        basis: what the verdict rests on.
        holds: not violated. known: it follows from what is known. measured: the run showed it.
        margin: of the inequality, in its own units; below 0 where it is violated, infinite where
            nothing was measured; never NaN.
        iteration: where it first failed, or was tightest; -1 where no iteration is to be named.
    """

    theorem: str
    part: str
    name: str
    sentence: str
    basis: str
    holds: Bool[Tensor, " batch"]
    known: Bool[Tensor, " batch"]
    measured: Bool[Tensor, " batch"]
    margin: Float[Tensor, " batch"]
    iteration: Int[Tensor, " batch"]

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """One verdict a row."""
        return tuple(
            Verdict.REFUTED
            if not holds
            else Verdict.CERTIFIED
            if known
            else Verdict.SUPPORTED
            if measured
            else Verdict.NOT_MEASURED
            for holds, known, measured in zip(
                self.holds.tolist(), self.known.tolist(), self.measured.tolist(), strict=True
            )
        )

    def __str__(self) -> str:
        return f"{self.name}: {_summary(self)}{_tightest(self)}"

    def __repr__(self) -> str:
        return f"Claim({self.theorem}, {self.part}, {self})"


@dataclass(frozen=True)
class TheoremReport(Summarised):
    """The report of a theorem's monitor: its claims, and the cocoercivity they rest on."""

    claims: tuple[Claim, ...]
    cocoercivity: CocoercivityReport

    def __str__(self) -> str:
        return str(Certificate(self.claims))

    def __repr__(self) -> str:
        return f"TheoremReport({_counted(self.claims)})"

    def remarks(self, statuses: Sequence[Status]) -> list[str]:
        """Sentences on rows where the outcome and the hypotheses disagree."""
        hypotheses = [claim for claim in self.claims if claim.part == "hypothesis"]
        verdicts = [claim.verdicts for claim in hypotheses]
        theorem = self.claims[0].theorem
        remarks = []
        for row, status in enumerate(statuses):
            words = [of_claim[row] for of_claim in verdicts]
            refuted = [
                claim.name
                for claim, word in zip(hypotheses, words, strict=True)
                if word is Verdict.REFUTED
            ]
            ratio = float(self.cocoercivity.pairwise[row])
            outcome = "converged" if status.success else f"ended as {status.name}"
            if ratio <= 0:
                at = int(self.cocoercivity.pairwise_iteration[row])
                yet = "yet" if status.success else "and"
                remarks.append(
                    f"row {row}: locally not cocoercive (pairwise ratio {ratio:.3g} at iteration "
                    f"{at}), {yet} {outcome}"
                )
            if refuted and status.success:
                remarks.append(
                    f"row {row}: {theorem} does not cover this run ({', '.join(refuted)} "
                    f"refuted), yet it {outcome}"
                )
            # Reaching the limit on iterations contradicts nothing.
            failed = not status.success and status is not Status.MAX_ITERATIONS
            if failed and not refuted and Verdict.SUPPORTED in words:
                remarks.append(
                    f"row {row}: nothing measured contradicts the hypotheses of {theorem}; "
                    f"it {outcome}"
                )
        return remarks


@dataclass(frozen=True)
class Certificate(Summarised):
    """The claims of every theorem that was watched, and remarks on single rows."""

    claims: tuple[Claim, ...]
    remarks: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Claim:
        """The claim of that name; the first one, where two theorems share it."""
        for claim in self.claims:
            if claim.name == name:
                return claim
        raise KeyError(f"no claim {name!r}; there are {[claim.name for claim in self.claims]}")

    def __str__(self) -> str:
        if not self.claims:
            return "no theorem was watched: pass solve(..., monitors=(ForwardStepTheorem(...),))"
        lines: list[str] = []
        theorem = part = ""
        for claim in self.claims:
            if claim.theorem != theorem:
                theorem, part = claim.theorem, ""
                lines.append(theorem)
            if claim.part != part:
                part = claim.part
                lines.append(f"  {'hypotheses' if part == 'hypothesis' else 'conclusions'}")
            lines.append(f"    {claim}")
            lines.append(f"      {claim.sentence}; {claim.basis}")
        return "\n".join([*lines, *self.remarks])

    def __repr__(self) -> str:
        remarks = f"{len(self.remarks)} remark" + "s" * (len(self.remarks) != 1)
        return f"Certificate({_counted(self.claims)}; {remarks})"

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers and strings, fit for JSON; infinite numbers become None."""
        return {
            "claims": [
                {
                    "theorem": claim.theorem,
                    "part": claim.part,
                    "name": claim.name,
                    "sentence": claim.sentence,
                    "basis": claim.basis,
                    "verdicts": [verdict.value for verdict in claim.verdicts],
                    "margins": [
                        margin if abs(margin) < float("inf") else None
                        for margin in claim.margin.double().tolist()
                    ],
                    "iterations": claim.iteration.tolist(),
                }
                for claim in self.claims
            ],
            "remarks": list(self.remarks),
        }


def _counted(claims: Sequence[Claim]) -> str:
    """How many claims, and the worst verdict that each has in any row."""
    worst = (Verdict.REFUTED, Verdict.NOT_MEASURED, Verdict.SUPPORTED, Verdict.CERTIFIED)
    found = [min(claim.verdicts, key=worst.index) for claim in claims if claim.verdicts]
    counts = Counter(verdict.value for verdict in found)
    theorems = ", ".join(dict.fromkeys(claim.theorem for claim in claims))
    verdicts = ", ".join(f"{counts[v.value]} {v.value}" for v in reversed(worst) if counts[v.value])
    return f"{theorems or 'no theorem'}: {len(claims)} claims" + (verdicts and f", {verdicts}")


def _summary(claim: Claim) -> str:
    counts = Counter(claim.verdicts)
    if len(counts) == 1:
        (verdict,) = counts
        rows = len(claim.verdicts)
        return verdict.value if rows == 1 else f"{verdict.value} ({rows} rows)"
    return ", ".join(
        f"{verdict.value} ({counts[verdict]} rows)" for verdict in Verdict if counts[verdict]
    )


def _tightest(claim: Claim) -> str:
    """The least margin and its row; nothing where no margin is finite and none is violated."""
    if claim.margin.numel() == 0 or not bool((claim.margin < float("inf")).any()):
        return ""
    row = int(claim.margin.argmin())
    iteration = int(claim.iteration[row])
    text = f"; least margin {float(claim.margin[row]):.3g} in row {row}"
    if iteration < 0:
        return text
    return f"{text}, {'at' if bool(claim.holds[row]) else 'first failed at'} iteration {iteration}"
