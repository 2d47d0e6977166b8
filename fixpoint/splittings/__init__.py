"""Splittings of sums of operators: each an `Operator` T = I - S, which every iterator runs.

`splitting.py` has the interface, `parts.py` what they are made of, `linear.py` the linear maps. The
view is that of Ryu & Yin, Large-Scale Convex Optimization, 2022.
"""

from fixpoint.splittings.admm import ADMM
from fixpoint.splittings.condat_vu import CondatVu
from fixpoint.splittings.consensus import Consensus
from fixpoint.splittings.davis_yin import DavisYin
from fixpoint.splittings.douglas_rachford import DouglasRachford
from fixpoint.splittings.forward_backward import ForwardBackward
from fixpoint.splittings.forward_backward_forward import ForwardBackwardForward
from fixpoint.splittings.gradient import Gradient
from fixpoint.splittings.linear import (
    Difference1D,
    Gradient2D,
    Linear,
    Matrix,
    Scaling,
    as_linear,
    norm_bound,
)
from fixpoint.splittings.pdhg import PDHG
from fixpoint.splittings.peaceman_rachford import PeacemanRachford
from fixpoint.splittings.primal_dual import EuclideanForm, PrimalDual
from fixpoint.splittings.proximal_point import ProximalPoint
from fixpoint.splittings.splitting import Splitting

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
    "as_linear",
    "norm_bound",
]
