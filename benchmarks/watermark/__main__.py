"""Watermarks in the noise of the embedded pipelines: the paper's table 2 and figure S1.

    python -m benchmarks.watermark --out docs                # measure, draw, write the page
    python -m benchmarks.watermark --out docs --part flow    # one part of it
    python -m benchmarks.watermark --out docs --render       # draw and write what is stored

Three keys times 100 pictures for each of two models: `diffusion`, which is sampled in 25
steps and inverted by naive DDIM, as the paper does in 50 with Stable Diffusion 2.1, and the
one-step `flow`, whose operator `solve` inverts, as the paper's InstaFlow. Pictures are saved with
8 bits. Every method gets the same pictures, and hands its latent to the same inversion of the
sampling.
Every part is stored as soon as it is measured, as `results/watermark_PART.json`.
"""

from __future__ import annotations

from benchmarks.shared.command import add_render, command_line, parse
from benchmarks.shared.machine import machine_name
from benchmarks.shared.stored import store
from benchmarks.watermark import page as watermark_page
from benchmarks.watermark.cases import CASES, SLOW
from benchmarks.watermark.classification import classification
from benchmarks.watermark.robustness import robustness


def main(arguments: list[str] | None = None) -> None:
    parser = command_line(__spec__.name, __doc__, "watermark-benchmark.md")
    parser.add_argument("--part", choices=watermark_page.PARTS, help="measure one part alone")
    parser.add_argument("--count", type=int, default=100, metavar="N", help="pictures a key")
    parser.add_argument("--lbfgs", type=int, default=100, metavar="N", help="of them for L-BFGS")
    parser.add_argument("--adam", type=int, default=100, metavar="N", help="of them for Adam")
    parser.add_argument("--robust", type=int, default=60, metavar="N", help="pictures a distortion")
    add_render(parser)
    options = parse(parser, arguments)
    slow = dict(zip(SLOW, (options.lbfgs, options.adam), strict=True))
    parts = watermark_page.PARTS if options.part is None else (options.part,)
    for part in () if options.render else parts:
        if part == "robustness":
            found = robustness(CASES["diffusion_channel_3"], options.robust)
        else:
            found = classification(part, options.count, slow)
        found["machine"] = machine_name()
        store(options.out, f"watermark_{part}", found)
    watermark_page.write(options.out)


if __name__ == "__main__":
    main()
