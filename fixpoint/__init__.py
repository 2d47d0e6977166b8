"""Zeros and fixed points of black-box operators, one row at a time.

    operator = fixpoint.as_operator(function)       # the problem: T z = 0
    solution = fixpoint.solve(operator, z0)         # the points, and how every row ended

Everything that a user names is here, or in `algebra`, `calculus`, `iterators`, `monitors`,
`proximal`, `schedules`, `splittings`, `stop`, `synthetic`, `testing` and `theory`. A module whose
public object has the same name is private (`fixpoint.solve` is the function): import the object
from here. `fixpoint.adapters` inverts autoencoders and diffusion models.
"""

from fixpoint import algebra, calculus, monitors, schedules, splittings, stop, synthetic, theory
from fixpoint._default_iterator import default_iterator
from fixpoint._implicit import implicit
from fixpoint._moved import moved as _moved
from fixpoint._moved_modules import MOVED as _MOVED
from fixpoint._recommend import Recommendation, recommend
from fixpoint._solve import solve
from fixpoint.algebra import IdentityOperator, product, subdifferential
from fixpoint.checkpoints.checkpoint import Checkpoint
from fixpoint.inner_solves.inner_solve import InnerSolve as _InnerSolve  # noqa: F401  registers itself
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

__getattr__ = _moved(__name__, _MOVED, {"Identity": "IdentityOperator"})
