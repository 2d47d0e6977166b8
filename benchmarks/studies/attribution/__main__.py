"""Attribution: how well pictures of a model are separated from other pictures.

    python -m benchmarks.studies.attribution --out docs                   # measure, fill in
    python -m benchmarks.studies.attribution --out docs --render          # fill in what is stored
    python -m benchmarks.studies.attribution --calibrations               # those that ship

Pictures of the model are those that its diffusion draws and those decoded from encodings of
photographs that it never saw. The others are such photographs, pictures decoded by the other
embedded autoencoder, and smooth ones; all of them go through the same distortion. The embedded
calibrations are of training pictures. Stored as `results/attribution.json`.
"""

from __future__ import annotations

from pathlib import Path

import fixpoint.adapters
from benchmarks.shared.command import add_quick, add_render, command_line, parse
from benchmarks.shared.pages import renew_table
from benchmarks.shared.pictures import TrainingPictures
from benchmarks.shared.stored import load, store
from benchmarks.studies.attribution.page import draw, markdown
from benchmarks.studies.attribution.rates import summarised
from benchmarks.studies.attribution.scores import measure
from benchmarks.studies.attribution.sources import COUNTS, SIDE
from fixpoint.adapters import Autoencoder
from fixpoint.adapters.autoencoders.autoencoder import EMBEDDED
from fixpoint.adapters.pictures import as_pictures
from fixpoint.adapters.provenance.calibration import calibrate

CALIBRATION_SEED = 70_007
CALIBRATION_PICTURES = 99
MODELS = Path(fixpoint.adapters.__file__).parent / "models"


def make_calibrations(out: Path) -> None:
    """Make the calibrations that ship with the package, from training pictures of 8 bits."""
    for name in EMBEDDED:
        stream = TrainingPictures(SIDE, CALIBRATION_PICTURES, CALIBRATION_SEED, procedural=24)
        made = calibrate(
            Autoencoder.embedded(name), as_pictures(next(stream)).values, value_range=(-1, 1)
        )
        made.save(out / name / "attribution.json")
        print(out / name / "attribution.json", flush=True)


def main(arguments: list[str] | None = None) -> None:
    parser = command_line(__spec__.name, __doc__, "attribution.md")
    add_render(parser)
    add_quick(parser, "two pictures each")
    parser.add_argument(
        "--without-diffusion", action="store_true", help="no pictures that a diffusion drew"
    )
    parser.add_argument(
        "--calibrations",
        type=Path,
        nargs="?",
        const=MODELS,
        metavar="DIR",
        help="make the calibrations of the embedded autoencoders, and nothing else",
    )
    options = parse(parser, arguments)
    if options.calibrations is not None:
        make_calibrations(options.calibrations)
        return
    if not options.render:
        kinds = [kind for kind in COUNTS if not (options.without_diffusion and kind == "generated")]
        results = measure(kinds, options.quick)
        results["summary"] = summarised(results)
        store(options.out, "attribution", results)
    results = load(options.out, "attribution")
    draw(results, options.out / "results" / "attribution.png")
    renew_table(options.out / "attribution.md", markdown(results))


if __name__ == "__main__":
    main()
