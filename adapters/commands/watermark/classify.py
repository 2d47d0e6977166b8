"""`fixpoint watermark classify`: which of several keys does each picture carry?"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from torch import Tensor

from fixpoint.adapters.commands.choices import NO_KEY
from fixpoint.adapters.commands.per_picture import Entry, PictureFile
from fixpoint.adapters.commands.watermark.recovery import PerRecoveredNoise
from fixpoint.adapters.provenance.confusion import confusion_matrix
from fixpoint.adapters.provenance.tree_ring import TreeRing, classify


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    return Classify(options).run()


class Classify(PerRecoveredNoise):
    """One run of `fixpoint watermark classify`."""

    truth: list[str] | None
    """The true label of each picture, where they are known."""
    rate: float | None
    """At which a key has to be found; None where the nearest is named in any case."""

    def key_options(self) -> Sequence[str]:
        return self.options.keys

    def check_options(self) -> None:
        pictures, truth = len(self.options.pictures), self.options.truth
        self.rate = self.options.false_positive_rate
        if self.rate is not None and not 0 < self.rate < 1:
            raise ValueError(f"--false-positive-rate must lie in (0, 1), got {self.rate}")
        if self.rate is None and NO_KEY in (truth or ()):
            raise ValueError(
                f"--truth {NO_KEY}: without --false-positive-rate every picture is given a key"
            )
        if self.options.by == "angle" and "zeros" in self.options.keys:
            raise ValueError("--by angle: the key zeros has no direction")
        if truth is not None and len(truth) not in (1, pictures):
            raise ValueError(
                f"--truth takes one label for all pictures or one for each: {len(truth)} for "
                f"{pictures}"
            )
        self.truth = None if truth is None else truth * (pictures // len(truth))
        super().check_options()

    def prepare(self, files: list[PictureFile]) -> None:
        super().prepare(files)
        for label in self.truth or ():
            if label not in self.labels:
                raise ValueError(f"--truth {label}: the keys are {', '.join(self.labels)}")

    @property
    def labels(self) -> tuple[str, ...]:
        """What a picture may be given: a key, and none where that can be said."""
        return self.names if self.rate is None else (*self.names, NO_KEY)

    def compare(self, noise: Tensor, keys: Sequence[TreeRing]) -> Entry:
        found = classify(noise, keys, by=self.options.by)
        distances = dict(zip(found.keys, found.distances[0].tolist(), strict=True))
        entry: Entry = {"label": found.names[0], "distances": distances}
        if self.rate is not None:
            # Each of the keys could be found by mistake: they share the rate.
            tests = {key.name: key.detect(noise, self.rate / len(keys)) for key in keys}
            present = [key for key in keys if bool(tests[key.name].found)]
            near = classify(noise, present, by=self.options.by).names[0] if present else NO_KEY
            least = min(float(test.p_value) for test in tests.values())
            named = float(tests[near].p_value) if present else least
            entry |= {"label": near, "p_value": min(1.0, named * len(keys))}
        return entry

    def verdict(self, entry: Entry) -> str:
        near = ", ".join(f"{key} {value:.4g}" for key, value in entry["distances"].items())
        p_value = f"p = {entry['p_value']:.2g}, " if "p_value" in entry else ""
        return f"{entry['label']} ({p_value}distances: {near})"

    def summary(self, entries: Sequence[Entry]) -> Entry:
        """The confusion matrix of the pictures that were classified."""
        labelled = zip(self.truth or (), entries, strict=self.truth is not None)
        pairs = [(label, entry["label"]) for label, entry in labelled if "label" in entry]
        if not pairs:
            return {}
        true, found = [label for label, _ in pairs], [label for _, label in pairs]
        confusion = confusion_matrix(true, found, self.labels)
        self.say(f"\n{confusion}")
        return {
            "confusion": confusion.counts.tolist(),
            "accuracy": confusion.accuracy,
            "interval": confusion.interval,
        }

    def settings(self) -> Entry:
        return super().settings() | {
            "keys": self.names,
            "by": self.options.by,
            "false_positive_rate": self.rate,
            "truth": self.truth,
        }
