"""`fixpoint train-inverse`: a network that inverts a decoder, learned from what the pair makes."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from fixpoint.adapters.commands.options import load_autoencoder, printer, shows_progress
from fixpoint.adapters.commands.reports import check_report, write_report
from fixpoint.adapters.reports import latent_files


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    latent_files.check_folder(options.out)
    check_report(options)
    if not options.pictures.is_dir():
        raise ValueError(f"--pictures {options.pictures} is not a folder")
    autoencoder = load_autoencoder(options)
    say = printer(options)
    say(f"{autoencoder}, {options.steps} steps")
    inverse = autoencoder.train_inverse(
        options.pictures,
        steps=options.steps,
        out=options.out / "inverse.safetensors",
        side=options.crop_size,
        batch=options.batch,
        seed=options.seed,
        network_dtype=options.network_dtype,
        progress=shows_progress(options),
    )
    card = inverse.card
    passes = ", ".join(f"{each:.1f}" for each in card.passes_db)
    say(
        f"{card.held_out} held-out crops, mean NMSE in dB: encoder {card.encoder_db:.1f}, "
        f"calibrated steps {card.calibrated_db:.1f}, learned passes {passes}; "
        f"{card.worse} worse than the encoder"
    )
    say(f"{options.out / 'inverse.safetensors'}, with its card beside it")
    write_report(options, asdict(card), say)
    return 0
