"""The command line: `fixpoint invert`, `demo`, `verify`, `watermark`, `noise`, `edit`, `attribute`.

Exit codes: 0 done, 1 an inversion ended in NaN or divergence, or the computation failed, 2 bad
input, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from fixpoint.adapters.commands import attribute, edit, noise, watermark
from fixpoint.adapters.commands.options import add_model, load_autoencoder, one_line, sayer
from fixpoint.checkpoints.whole_file import write_whole
from fixpoint.version import __version__

METHODS = (
    "auto",
    "forward-step",
    "anderson",
    "inertial-km",
    "broyden",
    "paper-adam",
    "gradient",
    "gradient-lbfgs",
    "encoder",
)
OBSERVATIONS = ("auto", "none", "clip", "8bit", "jpeg")


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

    invert = commands.add_parser(
        "invert",
        help="find the latent behind each picture",
        description="Writes, for every picture, NAME.latent.safetensors (in the pipeline's "
        "scaling), NAME.reconstruction.png and NAME.report.png.",
    )
    invert.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE")
    add_model(invert)
    invert.add_argument("--method", choices=METHODS, default="auto")
    invert.add_argument(
        "--observation",
        choices=OBSERVATIONS,
        default="auto",
        help="what happened to the decoder's output; auto: what the file shows",
    )
    invert.add_argument(
        "--iterations",
        type=int,
        metavar="N",
        help="limit on iterations (default 50; 100 for paper-adam and the gradients)",
    )
    invert.add_argument(
        "--noise-level",
        type=float,
        metavar="RMS",
        help="white noise was added to the picture: its root mean square on [-1, 1]",
    )
    invert.add_argument("--step-size", type=float, metavar="RHO", help="for forward-step")
    invert.add_argument(
        "--truth",
        type=Path,
        metavar="FILE",
        help="safetensors with the true latent of the (one) picture, to report the NMSE",
    )
    invert.add_argument(
        "--compile",
        action="store_true",
        help="compile the autoencoder: worth its time where many pictures of one size follow",
    )
    invert.add_argument("--out", type=Path, default=Path("inverted"), metavar="DIR")
    invert.add_argument("--json", type=Path, metavar="FILE", help="write a report as JSON")
    invert.add_argument("--quiet", action="store_true", help="print nothing but errors")
    invert.set_defaults(run=_invert)

    demo = commands.add_parser(
        "demo",
        help="recover a known latent from an 8-bit picture, four ways",
        description="Encodes a photograph to a known latent, decodes it to an 8-bit picture, and "
        "recovers the latent by the encoder alone, by gradient descent, by the paper's method and "
        "by ours.",
    )
    add_model(demo)
    demo.add_argument(
        "--evaluations", type=int, default=20, metavar="N", help="of E(D(z)), for ours"
    )
    demo.add_argument("--gradient-steps", type=int, default=100, metavar="N")
    demo.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR")
    demo.add_argument("--json", type=Path, metavar="FILE", help="write the table as JSON")
    demo.add_argument("--quiet", action="store_true", help="print nothing but errors")
    demo.set_defaults(run=_demo)

    verify = commands.add_parser(
        "verify",
        help="see whether the convergence theorems apply to an autoencoder",
        description="Recovers known latents of crops by forward steps, inertial KM and Adam, "
        "measures how cocoercive the operator is along each path, and writes DIR/verify.html: the "
        "paper's section 3.4 and figures 2 and 4, with a table of certificates.",
    )
    verify.add_argument(
        "pictures",
        nargs="*",
        type=Path,
        metavar="PICTURE",
        help="to take crops of; by default the bundled photograph",
    )
    add_model(verify)
    verify.add_argument(
        "--observation",
        choices=OBSERVATIONS,
        default="none",
        help="inside the operator; none: the paper's; auto: what is done to the decoder's output",
    )
    verify.add_argument(
        "--crops", type=int, metavar="N", help="in all (default 16, or one a picture if more)"
    )
    verify.add_argument("--crop-size", type=int, default=64, metavar="PIXELS")
    verify.add_argument(
        "--iterations", type=int, metavar="N", help="default 50; the paper's 100 and 50 for Adam"
    )
    verify.add_argument(
        "--paper-settings", action="store_true", help="step size 0.001 and inertia 0.9"
    )
    verify.add_argument("--seed", type=int, default=0, metavar="N", help="of the crops' places")
    verify.add_argument("--out", type=Path, default=Path("verified"), metavar="DIR")
    verify.add_argument("--json", type=Path, metavar="FILE", help="write everything as JSON")
    verify.add_argument("--quiet", action="store_true", help="print nothing but errors")
    verify.set_defaults(run=_verify)
    for command in (watermark, noise, edit, attribute):
        command.add_to(commands)
    return parser


def _invert(options: argparse.Namespace) -> int:
    from fixpoint.adapters.commands import invert

    return invert.run(options, lambda: load_autoencoder(options), sayer(options.quiet))


def _demo(options: argparse.Namespace) -> int:
    from fixpoint.adapters.commands import demonstration as demo
    from fixpoint.adapters.pictures.pictures import to_pil
    from fixpoint.adapters.reports import figures, latent_files

    say = sayer(options.quiet)
    for name in ("evaluations", "gradient_steps"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1")
    latent_files.check_outputs(options.out, options.json)
    autoencoder = load_autoencoder(options)
    picture = demo.photograph(demo.SIDE)
    height, width = picture.shape[-2:]
    say(
        f"A photograph of {width} x {height} pixels is encoded to a latent z*, decoded and "
        f"rounded to 8 bits;\nwhat is left of z* in that picture? {autoencoder}\n"
    )
    say(demo.table_head())
    shown = demo.demonstrate(
        autoencoder,
        picture,
        evaluations=options.evaluations,
        gradient_steps=options.gradient_steps,
        say=say,
        progress=not options.quiet and sys.stderr.isatty(),
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
    say(f"\nFigure: {options.out / 'demo.png'}")
    if options.json is not None:
        latent_files.write_json(options.json, {"methods": shown.table()})
        say(f"JSON:   {options.json}")
    return 0


def _verify(options: argparse.Namespace) -> int:
    from fixpoint.adapters.reports import latent_files
    from fixpoint.adapters.verification import crops as crop_files
    from fixpoint.adapters.verification import findings, page, theorems

    say = sayer(options.quiet)
    plan = theorems.methods(
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
    verification = theorems.verify(
        autoencoder,
        crops,
        plan,
        observation=options.observation,
        seed=options.seed,
        say=say,
        progress=not options.quiet and sys.stderr.isatty(),
    )
    say("\n" + page.table(verification))
    found = {
        result.method.name: findings.findings(result, verification.overlapping)
        for result in verification.results
    }
    for name, lines in found.items():
        say("\n".join(["", name, *(f"  {line}" for line in lines)]))
    page.write_page(options.out / "verify.html", verification)
    say(f"\nPage: {options.out / 'verify.html'}")
    if options.json is not None:
        latent_files.write_json(options.json, theorems.content(verification, found))
        say(f"JSON: {options.json}")
    return 0
