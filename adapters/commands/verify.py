"""`fixpoint verify`: do the convergence theorems apply to an autoencoder?"""

from __future__ import annotations

import argparse

from fixpoint.adapters.commands.options import (
    load_autoencoder,
    printer,
    shows_progress,
)
from fixpoint.adapters.commands.reports import check_report, write_report
from fixpoint.adapters.reports import latent_files
from fixpoint.adapters.verification import crops as crop_files
from fixpoint.adapters.verification import page, results
from fixpoint.adapters.verification.findings import findings
from fixpoint.adapters.verification.methods import methods
from fixpoint.adapters.verification.terminal_table import table
from fixpoint.adapters.verification.verify import verify


def run(options: argparse.Namespace) -> int:
    """Check options and pictures, load the model, run every method and write the page."""
    say = printer(options)
    plan = methods(
        iterations=options.iterations,
        paper=options.paper_settings,
        half_precision=options.dtype != "float32",
    )
    crops = crop_files.cut(
        options.pictures, count=options.crops, size=options.crop_size, seed=options.seed
    )
    crop_files.observation_of(options.observation, crops)
    latent_files.check_folder(options.out)
    check_report(options)
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
    write_report(options, results.content(verification, found), say)
    return 0
