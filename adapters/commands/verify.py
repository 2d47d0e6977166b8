"""`fixpoint verify`: do the convergence theorems apply to an autoencoder?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fixpoint.adapters.commands.options import (
    OBSERVATIONS,
    add_model,
    add_report,
    load_autoencoder,
    printer,
    shows_progress,
)
from fixpoint.adapters.reports import latent_files
from fixpoint.adapters.verification import crops as crop_files
from fixpoint.adapters.verification import page, results
from fixpoint.adapters.verification.findings import findings
from fixpoint.adapters.verification.methods import methods
from fixpoint.adapters.verification.terminal_table import table
from fixpoint.adapters.verification.verify import verify


def add_to(commands: Any) -> None:
    """Register the command with the subparsers of `fixpoint`."""
    parser = commands.add_parser(
        "verify",
        help="see whether the convergence theorems apply to an autoencoder",
        description="Recovers known latents of crops by forward steps, inertial KM and Adam, "
        "measures how cocoercive the operator is along each path, and writes DIR/verify.html: the "
        "paper's section 3.4 and figures 2 and 4, with a table of certificates.",
    )
    parser.add_argument(
        "pictures",
        nargs="*",
        type=Path,
        metavar="PICTURE",
        help="to take crops of; by default the bundled photograph",
    )
    add_model(parser)
    parser.add_argument(
        "--observation",
        choices=OBSERVATIONS,
        default="none",
        help="inside the operator; none: the paper's; auto: what is done to the decoder's output",
    )
    parser.add_argument(
        "--crops", type=int, metavar="N", help="in all (default 16, or one a picture if more)"
    )
    parser.add_argument("--crop-size", type=int, default=64, metavar="PIXELS")
    parser.add_argument(
        "--iterations", type=int, metavar="N", help="default 50; the paper's 100 and 50 for Adam"
    )
    parser.add_argument(
        "--paper-settings", action="store_true", help="step size 0.001 and inertia 0.9"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the crops' places")
    parser.add_argument("--out", type=Path, default=Path("verified"), metavar="DIR")
    add_report(parser, json_help="write everything as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Check options and pictures, load the model, run every method and write the page."""
    say = printer(options.quiet)
    plan = methods(
        iterations=options.iterations,
        paper=options.paper_settings,
        half_precision=options.dtype != "float32",
    )
    crops = crop_files.cut(
        options.pictures, count=options.crops, size=options.crop_size, seed=options.seed
    )
    crop_files.observation_of(options.observation, crops)
    latent_files.check_outputs(options.out, options.json)
    autoencoder = load_autoencoder(options)
    say(f"{autoencoder}, {len(crops)} crops of {crops[0].width} x {crops[0].height} pixels")
    verification = verify(
        autoencoder,
        crops,
        plan,
        observation=options.observation,
        seed=options.seed,
        say=say,
        progress=shows_progress(options),
    )
    say("\n" + table(verification))
    found = {
        result.method.name: findings(result, verification.overlapping)
        for result in verification.results
    }
    for name, lines in found.items():
        say("\n".join(["", name, *(f"  {line}" for line in lines)]))
    page.write_page(options.out / "verify.html", verification)
    say(f"\nPage: {options.out / 'verify.html'}")
    if options.json is not None:
        latent_files.write_json(options.json, results.content(verification, found))
        say(f"JSON: {options.json}")
    return 0
