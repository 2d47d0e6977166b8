"""Monitors watch a run and never steer it: measurements and certificates, row by row."""

from fixpoint.monitors.cocoercivity import Cocoercivity, CocoercivityReport
from fixpoint.monitors.convergence import Convergence, ConvergenceReport
from fixpoint.monitors.fejer import Fejer, FejerReport
from fixpoint.monitors.forward_step_theorem import ForwardStepTheorem
from fixpoint.monitors.inertial_km_theorem import InertialKMTheorem
from fixpoint.monitors.monitor import Monitor

__all__ = [
    "Cocoercivity",
    "CocoercivityReport",
    "Convergence",
    "ConvergenceReport",
    "Fejer",
    "FejerReport",
    "ForwardStepTheorem",
    "InertialKMTheorem",
    "Monitor",
]
