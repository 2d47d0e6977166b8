"""`fixpoint demo`: recover a known latent from an 8-bit picture, four ways."""

from __future__ import annotations

import argparse

from fixpoint.adapters.commands.apart import demonstrate_apart
from fixpoint.adapters.commands.choices import Default
from fixpoint.adapters.commands.demonstration import (
    SIDE,
    demonstrate,
    pass_through,
    photograph,
    table_head,
)
from fixpoint.adapters.commands.options import (
    load_autoencoder,
    printer,
    shows_progress,
)
from fixpoint.adapters.commands.reports import check_report, write_report
from fixpoint.adapters.pictures.pictures import to_pil
from fixpoint.adapters.reports import figures, latent_files
from fixpoint.checkpoints.whole_file import write_whole


def run(options: argparse.Namespace) -> int:
    """Check the options, load the model, run the methods and write table and figure."""
    say = printer(options)
    for name in ("evaluations", "gradient_steps", "cycles"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1")
    latent_files.check_folder(options.out)
    check_report(options)
    autoencoder = load_autoencoder(options)
    picture = photograph(SIDE)
    height, width = picture.shape[-2:]
    say(
        f"A photograph of {width} x {height} pixels is encoded to a latent z*, decoded and "
        f"rounded to 8 bits;\nwhat is left of z* in that picture? {autoencoder}\n"
    )
    say(table_head())
    shown = demonstrate(
        autoencoder,
        picture,
        evaluations=options.evaluations,
        gradient_steps=options.gradient_steps,
        say=say,
        progress=shows_progress(options),
    )
    write_whole(
        options.out / "picture.png",
        lambda path: to_pil(shown.picture).save(path, "PNG"),
    )
    scale = float(shown.truth.std())
    figures.demo_figure(
        options.out / "demo.png",
        shown.picture,
        {
            name: (latent.cpu() - shown.truth)[0].square().mean(0).sqrt() / scale
            for name, latent in shown.latents.items()
        },
        shown.curves,
        shown.table(),
        f"Recovering a latent from an 8-bit picture: {autoencoder}",
    )
    content = {"methods": shown.table()}
    if isinstance(options.model, Default) and options.pair is None:
        content["apart"] = demonstrate_apart(say)
    say(f"\nFigure: {options.out / 'demo.png'}")
    passed = pass_through(autoencoder, shown.picture, options.cycles, shows_progress(options))
    strip = options.out / "strip.png"
    title = f"{options.cycles} passages through encoder and decoder, nothing edited"
    figures.strip_figure(strip, passed, f"{title}: {autoencoder}")
    say(f"Strip:  {strip}: {'; '.join(passed)}")
    write_report(options, content, say)
    return 0
