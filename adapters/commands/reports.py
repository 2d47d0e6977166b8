"""The JSON report of a command: its schema has a number, and is described in docs/json.md.

A number stays as long as fields are only added. It goes up when one goes or changes its meaning.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fixpoint.adapters.reports import latent_files

SCHEMA = 1
STANDARD_OUTPUT = Path("-")


def check_report(options: argparse.Namespace) -> None:
    """Refuse a --json that cannot be written.

    Raises:
        ValueError: it cannot.
    """
    if options.json not in (None, STANDARD_OUTPUT):
        latent_files.check_file(options.json)


def write_report(
    options: argparse.Namespace, content: Mapping[str, Any], say: Callable[[str], object]
) -> None:
    """Write what --json asks for: to a file, or to standard output for "-".

    Args:
        options: with `json`, and `command` and `action` as the parser sets them.
        content: the fields beyond "schema" and "command".
        say: is told the name of the file.
    """
    if options.json is None:
        return
    words = (options.command, getattr(options, "action", None))
    report = {"schema": SCHEMA, "command": " ".join(filter(None, words))} | dict(content)
    if options.json == STANDARD_OUTPUT:
        sys.stdout.write(latent_files.json_text(report))
        sys.stdout.flush()
        return
    latent_files.write_json(options.json, report)
    say(f"JSON: {options.json}")
