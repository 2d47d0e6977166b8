"""Zeros and fixed points of black-box operators, one row at a time.

    operator = fixpoint.as_operator(function)       # the problem: T z = 0
    solution = fixpoint.solve(operator, z0)         # the points, and how every row ended

Everything that a user names is here, or in `algebra`, `calculus`, `iterators`, `monitors`,
`proximal`, `schedules`, `splittings`, `stop`, `synthetic`, `testing` and `theory`. A module whose
public object has the same name is private (`fixpoint.solve` is the function): import the object
from here. `fixpoint.adapters` inverts autoencoders and diffusion models.
"""

from typing import TYPE_CHECKING

from fixpoint._later import load_later as _load_later
from fixpoint._moved import moved as _moved
from fixpoint._moved_modules import MOVED as _MOVED
from fixpoint.version import __version__ as __version__

if TYPE_CHECKING:
    from fixpoint._public import *  # noqa: F403

__getattr__, __dir__ = _load_later(
    __name__, _moved(__name__, _MOVED, {"Identity": "IdentityOperator"})
)
