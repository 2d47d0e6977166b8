"""`fixpoint watermark embed`, `detect` and `classify`: tree-ring keys in generated pictures."""

from __future__ import annotations

from typing import Any

from fixpoint.adapters.commands.watermark import classify, detect, embed


def add_to(commands: Any) -> None:
    """Register `watermark` and its three commands with the subparsers of `fixpoint`."""
    parser = commands.add_parser(
        "watermark",
        help="put tree-ring watermarks into generated pictures, and find them",
        description="A tree-ring watermark is a key in the Fourier transform of the noise that a "
        "picture starts from. To find it, the noise is recovered from the picture.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for command in (embed, detect, classify):
        command.add_to(actions)
