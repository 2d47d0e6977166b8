"""The command line of the trainings."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path


def command_line(
    module: str, documentation: str | None, names: Iterable[str] = ()
) -> argparse.ArgumentParser:
    """A parser for the name of a model, where there are several, its folder and the threads."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=documentation,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    choices = list(names)
    if choices:
        parser.add_argument("name", choices=choices)
    parser.add_argument("--out", type=Path, required=True, help="folder of the model")
    parser.add_argument("--threads", type=int, default=1)
    return parser
