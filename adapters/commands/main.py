# PYTHON_ARGCOMPLETE_OK
"""The command line: `fixpoint invert`, `demo`, `verify`, `watermark`, and the others of `COMMANDS`.

Exit codes: 0 done, 1 an inversion ended in NaN or divergence, or the computation failed, 2 bad
input, 130 interrupted.

The options are parsed before the module of the command is loaded, since only that one needs torch.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from fixpoint.adapters.commands.options import one_line
from fixpoint.adapters.commands.parser import Parser
from fixpoint.adapters.commands.parsers import (
    attribute,
    demo,
    edit,
    invert,
    noise,
    roundtrip,
    train_inverse,
    verify,
    watermark,
)
from fixpoint.version import __version__

COMMANDS = (invert, demo, roundtrip, verify, train_inverse, watermark, noise, edit, attribute)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    whole = parser()
    if "_ARGCOMPLETE" in os.environ:  # the shell asks for completions, and runs nothing
        import argcomplete

        argcomplete.autocomplete(whole)
    options = whole.parse_args(arguments)
    try:
        return execute(options)
    except KeyboardInterrupt:
        print("fixpoint: interrupted; files already written are complete", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever reads the output has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
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


def execute(options: argparse.Namespace) -> int:
    """Run the command that was parsed; returns the exit code.

    Raises:
        ValueError, TypeError, OSError: bad input.
    """
    return import_module(options.module).run(options)


def parser() -> Parser:
    """The parser of all commands; `options.module` names the module whose `run` does the work."""
    whole = Parser(
        prog="fixpoint",
        description="Invert the decoder of a latent diffusion model without gradients.",
    )
    whole.add_argument("--version", action="version", version=f"fixpoint {__version__}")
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_to(commands)
    return whole
