"""Operators that measure numbers on the way."""

import torch

from fixpoint.monitors import Monitor
from fixpoint.operator import Operator

# Monitors


class Trace(Monitor):
    """Counts the iterates of every row and adds up their residuals."""

    def start(self, iterate):
        return {"count": torch.ones_like(iterate.rows), "sum": iterate.residual_norm}

    def watch(self, iterate, memory):
        return {
            "count": memory["count"] + 1,
            "sum": memory["sum"] + iterate.residual_norm,
        }


class Measuring(Operator):
    """T z = z, which also measures |z - 0.3| and a picture."""

    def __call__(self, z):
        return z

    def evaluate(self, z):
        return z, {"misfit": (z[:, 0] - 0.3).abs(), "picture": z.expand(-1, 4)}

    def select(self, rows):
        return self
