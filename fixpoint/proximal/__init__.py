"""Closed convex functions of one row with their proximal operators.

`function.py` has the interface, `algebra.py` the operations that keep a proximal operator exact.
"""

from fixpoint._moved import renamed as _renamed
from fixpoint.proximal.algebra import PlusLinear, PlusSquared, Scaled, TranslatedFunction
from fixpoint.proximal.cones import SecondOrderCone
from fixpoint.proximal.conjugate import Conjugate
from fixpoint.proximal.entropies import KullbackLeibler, NegativeEntropy
from fixpoint.proximal.function import Function
from fixpoint.proximal.losses import Hinge, Logistic
from fixpoint.proximal.matrices import NuclearNorm, PositiveSemidefinite, UnitDiagonal
from fixpoint.proximal.norms import L1, L2, GroupL1, LInfinity, NormBall
from fixpoint.proximal.parameter import Parameter, RowParameter
from fixpoint.proximal.quadratics import GaussianPrior, Huber, Quadratic, SquaredL2
from fixpoint.proximal.separable_sum import SeparableSum
from fixpoint.proximal.sets import AffineSet, Box, HalfSpace, Simplex, Zero
from fixpoint.proximal.total_variation import TotalVariation1D, TotalVariation2D

__all__ = [
    "L1",
    "L2",
    "AffineSet",
    "Box",
    "Conjugate",
    "Function",
    "GaussianPrior",
    "GroupL1",
    "HalfSpace",
    "Hinge",
    "Huber",
    "KullbackLeibler",
    "LInfinity",
    "Logistic",
    "NegativeEntropy",
    "NormBall",
    "NuclearNorm",
    "Parameter",
    "PlusLinear",
    "PlusSquared",
    "PositiveSemidefinite",
    "Quadratic",
    "RowParameter",
    "Scaled",
    "SecondOrderCone",
    "SeparableSum",
    "Simplex",
    "SquaredL2",
    "TotalVariation1D",
    "TotalVariation2D",
    "TranslatedFunction",
    "UnitDiagonal",
    "Zero",
]

__getattr__ = _renamed(__name__, {"PerRow": "RowParameter", "Translated": "TranslatedFunction"})
