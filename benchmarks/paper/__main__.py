"""Every table and figure of the paper, on the embedded autoencoders or on any others.

    python -m benchmarks.paper --out docs                        # or: make figures
    python -m benchmarks.paper --model my-autoencoder --pictures a.png b.png --out mine
    python -m benchmarks.paper --sections table_s1               # measure one section again
    python -m benchmarks.paper --sections                        # render what is stored

Each section is measured and stored as `results/SECTION.json` in turn, so that an interrupted run
loses no finished section; `results.md` is rendered from all that are stored.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.paper.readme_table import readme_table, replace_table
from benchmarks.paper.sections import SECTIONS, measure, render
from benchmarks.shared.command import add_quick, command_line, parse
from benchmarks.shared.context import CROP, make_context


def main(arguments: list[str] | None = None) -> None:
    parser = command_line(__spec__.name, __doc__, "results.md and results/")
    add = parser.add_argument
    add("--model", type=Path, action="append", default=[], help="folder of an autoencoder; again")
    add("--pictures", type=Path, nargs="+", default=[], help="files instead of held-out crops")
    add("--crops", type=int, default=48)
    add("--crop-size", type=int, default=CROP)
    add("--sections", nargs="*", choices=SECTIONS, default=list(SECTIONS), help="to measure")
    add("--memory-side", type=int, default=512, help="of the picture whose memory is measured")
    add("--video-size", type=_size, default=(128, 192), metavar="HEIGHTxWIDTH")
    add("--readme", type=Path, help="put the extract of table S1 into this file")
    add("--seed", type=int, default=0)
    add_quick(parser)
    options = parse(parser, arguments)
    if options.quick and options.readme is not None:
        parser.error("--quick makes no table for the README")
    try:
        if options.sections:
            context = make_context(
                options.model,
                options.pictures,
                crops=options.crops,
                crop_size=options.crop_size,
                quick=options.quick,
                seed=options.seed,
                memory_side=options.memory_side,
                video_size=options.video_size,
            )
    except (OSError, TypeError, ValueError) as error:
        parser.error(str(error))
    for name in options.sections:
        measure(name, context, options.out)
        render(options.out)
    stored = render(options.out)
    if options.readme is not None and "table_s1" in stored:
        replace_table(options.readme, readme_table(stored["table_s1"]["results"]))


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    return int(height), int(width)


if __name__ == "__main__":
    main()
