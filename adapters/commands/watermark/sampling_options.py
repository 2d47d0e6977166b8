"""The options of the sampling that all watermark commands take."""

from __future__ import annotations

import argparse
import math
from typing import Any

from fixpoint.adapters.commands.choices import GUIDANCE
from fixpoint.adapters.reports.versions import versions


def check_sampling(options: argparse.Namespace) -> None:
    """Refuse unusable --steps and --guidance.

    Raises:
        ValueError: with the value and what is expected.
    """
    if options.steps < 1:
        raise ValueError(f"--steps must be at least 1, got {options.steps}")
    if options.guidance is not None:
        if options.prompt is None:
            raise ValueError("--guidance belongs to --prompt")
        if not math.isfinite(options.guidance):
            raise ValueError(f"--guidance must be a finite number, got {options.guidance}")


def guidance_of(options: argparse.Namespace) -> float:
    """The guidance of the sampling: 1, which is none, where there is no prompt."""
    if options.prompt is None:
        return 1.0
    return GUIDANCE if options.guidance is None else options.guidance


def sampling_settings(options: argparse.Namespace) -> dict[str, Any]:
    """What the JSON report says of model and sampling."""
    return {
        "model": str(options.model),
        "dtype": options.dtype,
        "device": options.device,
        "prompt": options.prompt,
        "guidance": guidance_of(options),
        "steps": options.steps,
        "versions": versions(),
    }
