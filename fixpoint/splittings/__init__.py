"""Splittings of sums of operators: each an `Operator` T = I - S, which every iterator runs.

`splitting.py` has the interface, `steps.py` and `bounds.py` what they are made of, `linear.py` the
linear maps. The view is that of Ryu & Yin, Large-Scale Convex Optimization, 2022. Each class has a
second name in lower case, so that a splitting also reads as the function that makes it:
`forward_backward(h, g, step)`.
"""

from fixpoint.splittings._admm import ADMM
from fixpoint.splittings._condat_vu import CondatVu
from fixpoint.splittings._consensus import Consensus
from fixpoint.splittings._davis_yin import DavisYin
from fixpoint.splittings._douglas_rachford import DouglasRachford
from fixpoint.splittings._forward_backward import ForwardBackward
from fixpoint.splittings._forward_backward_forward import ForwardBackwardForward
from fixpoint.splittings._gradient import Gradient
from fixpoint.splittings._pdhg import PDHG
from fixpoint.splittings._peaceman_rachford import PeacemanRachford
from fixpoint.splittings._primal_dual import EuclideanForm, PrimalDual
from fixpoint.splittings._proximal_point import ProximalPoint
from fixpoint.splittings.linear import (
    Difference1D,
    Gradient2D,
    Linear,
    Matrix,
    Scaling,
    as_linear,
    norm_bound,
)
from fixpoint.splittings.splitting import Splitting

# Their files have these names, too: what is imported from a file is found all the same.
proximal_point = ProximalPoint  # type: ignore[assignment]
gradient = Gradient  # type: ignore[assignment]
forward_backward = ForwardBackward  # type: ignore[assignment]
forward_backward_forward = ForwardBackwardForward  # type: ignore[assignment]
peaceman_rachford = PeacemanRachford  # type: ignore[assignment]
douglas_rachford = DouglasRachford  # type: ignore[assignment]
davis_yin = DavisYin  # type: ignore[assignment]
pdhg = primal_dual = PDHG  # type: ignore[assignment]
condat_vu = CondatVu  # type: ignore[assignment]
admm = ADMM  # type: ignore[assignment]
consensus = Consensus  # type: ignore[assignment]

__all__ = [
    "ADMM",
    "PDHG",
    "CondatVu",
    "Consensus",
    "DavisYin",
    "Difference1D",
    "DouglasRachford",
    "EuclideanForm",
    "ForwardBackward",
    "ForwardBackwardForward",
    "Gradient",
    "Gradient2D",
    "Linear",
    "Matrix",
    "PeacemanRachford",
    "PrimalDual",
    "ProximalPoint",
    "Scaling",
    "Splitting",
    "admm",
    "as_linear",
    "condat_vu",
    "consensus",
    "davis_yin",
    "douglas_rachford",
    "forward_backward",
    "forward_backward_forward",
    "gradient",
    "norm_bound",
    "pdhg",
    "peaceman_rachford",
    "primal_dual",
    "proximal_point",
]
