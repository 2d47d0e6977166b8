"""`fixpoint watermark detect`: does each picture carry a key?"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from torch import Tensor

from fixpoint.adapters.commands.per_picture import Entry
from fixpoint.adapters.commands.watermark.recovery import PerRecoveredNoise
from fixpoint.adapters.provenance.tree_ring import TreeRing
from fixpoint.adapters.reports.latent_files import finite_or_none


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    return Detect(options).run()


class Detect(PerRecoveredNoise):
    """One run of `fixpoint watermark detect`."""

    def key_options(self) -> Sequence[str]:
        return [self.options.key]

    def check_options(self) -> None:
        rate = self.options.false_positive_rate
        if not 0 < rate < 1:
            raise ValueError(f"--false-positive-rate must lie in (0, 1), got {rate}")
        super().check_options()

    def compare(self, noise: Tensor, keys: Sequence[TreeRing]) -> Entry:
        found = keys[0].detect(noise, self.options.false_positive_rate)
        return {
            "distance": float(found.distance),
            "p_value": float(found.p_value),
            "log10_p": finite_or_none(float(found.log10_p)),
            "found": bool(found.found),
        }

    def verdict(self, entry: Entry) -> str:
        log10_p = entry["log10_p"]
        p_value = f"10^{log10_p:.0f}" if log10_p and log10_p < -300 else f"{entry['p_value']:.2g}"
        verdict = "found" if entry["found"] else "not found"
        return f"{verdict}, p = {p_value}, distance {entry['distance']:.4g}"

    def settings(self) -> Entry:
        rate = self.options.false_positive_rate
        return super().settings() | {"key": self.names[0], "false_positive_rate": rate}
