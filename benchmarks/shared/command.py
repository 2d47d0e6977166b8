"""The command line that the benchmarks share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from fixpoint.adapters.reports.latent_files import check_folder


def command_line(module: str, documentation: str | None, page: str) -> argparse.ArgumentParser:
    """A parser with `--out`.

    Args:
        module: `__spec__.name` of the program.
        documentation: `__doc__` of the program, shown by `--help`.
        page: what the folder `--out` contains, in words.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {module.removesuffix('.__main__')}",
        description=documentation,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("docs"), help=f"folder of {page}")
    return parser


def add_render(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--render", action="store_true", help="write what is stored; no measuring")


def add_quick(parser: argparse.ArgumentParser, words: str = "few steps") -> None:
    parser.add_argument("--quick", action="store_true", help=f"{words}, to try the program")


def parse(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None = None
) -> argparse.Namespace:
    """The options. An unusable folder is refused before anything is measured."""
    options = parser.parse_args(arguments)
    try:
        check_folder(options.out)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return options
