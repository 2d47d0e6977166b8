"""The options of `fixpoint watermark embed`, `detect` and `classify`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fixpoint.adapters.commands.choices import (
    DECODER_INVERSIONS,
    GUIDANCE,
    KEY_MASKS,
    KEYS,
    NO_KEY,
    SAMPLING_INVERSIONS,
)
from fixpoint.adapters.commands.parsers.shared import add_diffusion_model, add_fitting, add_report


def add_to(commands: Any) -> None:
    """Register `watermark` and its three commands with the subparsers of `fixpoint`."""
    parser = commands.add_parser(
        "watermark",
        help="put tree-ring watermarks into generated pictures, and find them",
        description="A tree-ring watermark is a key in the Fourier transform of the noise that a "
        "picture starts from. To find it, the noise is recovered from the picture.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for add in (_add_embed, _add_detect, _add_classify):
        add(actions)


def _add_embed(actions: Any) -> None:
    parser = actions.add_parser(
        "embed",
        help="generate pictures with a key in their noise",
        description="Writes DIR/KEY-000.png and so on, KEY-000.noise.safetensors with the noise "
        "of each, and key.safetensors, which detect and classify read.",
    )
    _add_sampling(parser)
    parser.add_argument("--prompt", required=True, metavar="TEXT")
    parser.add_argument("--key", required=True, choices=KEYS)
    _add_key_options(parser)
    parser.add_argument("--count", type=int, default=1, metavar="N", help="pictures (default 1)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the noise")
    parser.add_argument("--out", type=Path, default=Path("watermarked"), metavar="DIR")
    add_report(parser)
    parser.set_defaults(module="fixpoint.adapters.commands.watermark.embed")


def _add_detect(actions: Any) -> None:
    parser = actions.add_parser(
        "detect",
        help="say of each picture whether it carries a key",
        description="Recovers the noise of every picture and tests it: the p-value is the chance "
        "that white noise comes as close to the key.",
    )
    _add_recovery(parser)
    parser.add_argument(
        "--key", required=True, metavar="KEY", help=f"a file of embed, or {', '.join(KEYS)}"
    )
    _add_key_options(parser)
    parser.add_argument(
        "--false-positive-rate",
        type=float,
        default=0.01,
        metavar="RATE",
        help="p-values up to this mean: found (default 0.01)",
    )
    add_report(parser)
    parser.set_defaults(module="fixpoint.adapters.commands.watermark.detect")


def _add_classify(actions: Any) -> None:
    parser = actions.add_parser(
        "classify",
        help="say of each picture which of several keys it carries",
        description="Recovers the noise of every picture and names the nearest key. With --truth, "
        "prints the confusion matrix.",
    )
    _add_recovery(parser)
    parser.add_argument(
        "--keys",
        nargs="+",
        default=["paper-1", "paper-2", "paper-3"],
        metavar="KEY",
        help=f"files of embed, or {', '.join(KEYS)} (default: the paper's three)",
    )
    _add_key_options(parser)
    parser.add_argument(
        "--by",
        choices=("distance", "angle"),
        default="distance",
        help="what makes a key near: the paper's distance, or the angle, which does not mind a key "
        "that came back weaker than it was (default distance)",
    )
    parser.add_argument(
        "--false-positive-rate",
        type=float,
        metavar="RATE",
        help=f"say {NO_KEY} where no key is found at this rate, which the keys share; by default "
        "the nearest key is named in any case",
    )
    parser.add_argument(
        "--truth",
        nargs="+",
        metavar="LABEL",
        help="the name of the key in each picture, or one for all of them; with "
        f"--false-positive-rate also {NO_KEY}",
    )
    add_report(parser)
    parser.set_defaults(module="fixpoint.adapters.commands.watermark.classify")


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    """The options of the model, --steps and --guidance."""
    add_diffusion_model(parser)
    parser.add_argument("--steps", type=int, default=50, metavar="N", help="of DDIM (default 50)")
    parser.add_argument(
        "--guidance",
        type=float,
        metavar="G",
        help=f"of the prompt (default {GUIDANCE:g}; without a prompt there is none)",
    )


def _add_recovery(parser: argparse.ArgumentParser) -> None:
    """The pictures and how their noise is recovered."""
    parser.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE")
    add_fitting(parser)
    _add_sampling(parser)
    parser.add_argument("--prompt", metavar="TEXT", help="of the pictures, where it is known")
    parser.add_argument(
        "--method",
        choices=DECODER_INVERSIONS,
        default="ours",
        help="how the decoder is inverted (default ours)",
    )
    parser.add_argument(
        "--sampling-inversion",
        choices=SAMPLING_INVERSIONS,
        default="naive",
        help="how the sampling is inverted (default naive; backward-euler for models of one step)",
    )


def _add_key_options(parser: argparse.ArgumentParser) -> None:
    """--mask, --radius, --channel and --key-seed."""
    group = parser.add_argument_group("keys given by name")
    group.add_argument(
        "--mask",
        choices=KEY_MASKS,
        help="centred on the zero frequency (default), or one row off as in the original",
    )
    group.add_argument("--radius", type=int, metavar="N", help="of the disc (default 6)")
    group.add_argument("--channel", type=int, metavar="N", help="of the noise (default 0)")
    group.add_argument("--key-seed", type=int, metavar="N", help="of rand and ring (default 0)")
