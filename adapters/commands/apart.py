"""The second half of the demonstration: a pair whose encoder and decoder were trained apart."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from fixpoint.adapters.autoencoders.autoencoder import Autoencoder
from fixpoint.adapters.autoencoders.calibration import example_photographs
from fixpoint.adapters.commands.demonstration import (
    measure,
    observed,
    photograph,
    table_head,
    table_row,
)
from fixpoint.adapters.inversion.invert_picture import invert, invert_by_encoder

NAME = "distilled"
SIDE = 64
METHODS: dict[str, Callable[..., Any]] = {
    "encoder alone": invert_by_encoder,
    "ours": invert,
}


def demonstrate_apart(say: Callable[[str], object] = lambda line: None) -> list[dict[str, Any]]:
    """Recover a known latent of the embedded pair `distilled`.

    Args:
        say: called with lines of the table.

    Returns:
        For each method what `Demonstration.table` has, and the "outcome" and "verdict" of
        `invert`; both are None for the encoder.
    """
    autoencoder = Autoencoder.embedded(NAME)
    say(
        f"\nThe same for a harder pair, {NAME!r}: its halves were trained apart, and its decoder "
        f"hardly draws\nsome directions of the latent. The picture has {SIDE} x {SIDE} pixels.\n\n"
        + table_head()
    )
    truth, seen = observed(autoencoder, photograph(SIDE))
    # Small crops, a second instead of ten: the demonstration is to be short.
    autoencoder.calibrate(example_photographs(SIDE // 2, count=32))
    rows = []
    for name, method in METHODS.items():
        run = partial(method, autoencoder, seen, value_range=(-1, 1))
        measurement, inversion = measure(name, run, truth)
        say(table_row(measurement))
        outcome = verdict = None
        if inversion.solution is not None:
            outcome, verdict = inversion.outcome[0].name, inversion.verdict[0]
            say(f"    {verdict}")
        rows.append(measurement.as_json() | {"outcome": outcome, "verdict": verdict})
    return rows
