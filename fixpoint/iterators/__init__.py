"""The methods, one file each. To add one, copy `forward_step.py`."""

from fixpoint.iterators.adam import Adam
from fixpoint.iterators.adaptive_forward_step import AdaptiveForwardStep
from fixpoint.iterators.anderson import Anderson
from fixpoint.iterators.broyden import Broyden
from fixpoint.iterators.extragradient import Extragradient
from fixpoint.iterators.forward_step import ForwardStep
from fixpoint.iterators.halpern import Halpern
from fixpoint.iterators.inertial_km import InertialKM
from fixpoint.iterators.newton_krylov import NewtonKrylov

__all__ = [
    "Adam",
    "AdaptiveForwardStep",
    "Anderson",
    "Broyden",
    "Extragradient",
    "ForwardStep",
    "Halpern",
    "InertialKM",
    "NewtonKrylov",
]
