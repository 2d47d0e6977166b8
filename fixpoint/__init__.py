"""Zeros and fixed points of black-box operators, one row at a time."""

from fixpoint import monitors, schedules, stop, synthetic, theory
from fixpoint.certificate import Certificate, Claim, Verdict
from fixpoint.iterate import Iterate
from fixpoint.iterator import Iterator, State, TheoremWarning
from fixpoint.iterators import (
    Adam,
    AdaptiveForwardStep,
    Anderson,
    Broyden,
    ForwardStep,
    Halpern,
    InertialKM,
    NewtonKrylov,
)
from fixpoint.operator import Operator, as_operator, fixed_point_of
from fixpoint.recommend import Recommendation, recommend
from fixpoint.solve import History, Solution, SolveError, solve
from fixpoint.status import Status
from fixpoint.version import __version__

__all__ = [
    "Adam",
    "AdaptiveForwardStep",
    "Anderson",
    "Broyden",
    "Certificate",
    "Claim",
    "ForwardStep",
    "Halpern",
    "History",
    "InertialKM",
    "Iterate",
    "Iterator",
    "NewtonKrylov",
    "Operator",
    "Recommendation",
    "Solution",
    "SolveError",
    "State",
    "Status",
    "TheoremWarning",
    "Verdict",
    "__version__",
    "as_operator",
    "fixed_point_of",
    "monitors",
    "recommend",
    "schedules",
    "solve",
    "stop",
    "synthetic",
    "theory",
]
