"""The command line: `fixpoint invert`, `demo`, `verify`, `watermark`, `noise`, `edit`, `attribute`.

Exit codes: 0 done, 1 an inversion ended in NaN or divergence, or the computation failed, 2 bad
input, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from fixpoint.adapters.commands import attribute, demo, edit, invert, noise, verify, watermark
from fixpoint.adapters.commands.options import one_line
from fixpoint.version import __version__

COMMANDS = (invert, demo, verify, watermark, noise, edit, attribute)


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except KeyboardInterrupt:
        print("fixpoint: interrupted; files already written are complete", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        print(
            f"fixpoint: error: {error.name} is not installed; "
            "pip install 'fixpoint-torch[diffusers]' brings it",
            file=sys.stderr,
        )
        return 2
    except (ValueError, TypeError, OSError) as error:
        print(f"fixpoint: error: {one_line(error)}", file=sys.stderr)
        return 2
    except (RuntimeError, MemoryError) as error:  # out of memory, above all
        print(f"fixpoint: failed: {one_line(error)}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="fixpoint",
        description="Invert the decoder of a latent diffusion model without gradients.",
    )
    parser.add_argument("--version", action="version", version=f"fixpoint {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_to(commands)
    return parser
