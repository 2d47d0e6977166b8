"""The public names of `fixpoint`; they need torch."""

from fixpoint import algebra, calculus, monitors, schedules, splittings, stop, synthetic, theory
from fixpoint._default_iterator import default_iterator
from fixpoint._implicit import implicit
from fixpoint._recommend import Recommendation, recommend
from fixpoint._solve import solve
from fixpoint.algebra import IdentityOperator, product, subdifferential
from fixpoint.checkpoints.checkpoint import Checkpoint
from fixpoint.inner_solves.row_systems import ImplicitWarning
from fixpoint.iterator import Iterator, State, TheoremWarning
from fixpoint.iterators import (
    Adam,
    AdaptiveForwardStep,
    Anderson,
    Broyden,
    Extragradient,
    ForwardStep,
    Halpern,
    InertialKM,
    NewtonKrylov,
)
from fixpoint.loop.iterate import Iterate
from fixpoint.monitors.certificate import Certificate, Claim, Verdict
from fixpoint.operator import Operator, as_operator, fixed_point_of
from fixpoint.solution import History, Solution, SolveError
from fixpoint.status import Status
from fixpoint.version import __version__

__all__ = [
    "Adam",
    "AdaptiveForwardStep",
    "Anderson",
    "Broyden",
    "Certificate",
    "Checkpoint",
    "Claim",
    "Extragradient",
    "ForwardStep",
    "Halpern",
    "History",
    "IdentityOperator",
    "ImplicitWarning",
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
    "algebra",
    "as_operator",
    "calculus",
    "default_iterator",
    "fixed_point_of",
    "implicit",
    "monitors",
    "product",
    "recommend",
    "schedules",
    "solve",
    "splittings",
    "stop",
    "subdifferential",
    "synthetic",
    "theory",
]
