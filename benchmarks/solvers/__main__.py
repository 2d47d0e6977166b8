"""fixpoint's solvers against those of SciPy, torchdeq, JAXopt and optimistix, by evaluations.

    pip install fixpoint[peers]                       # those missing are named and left out
    OMP_NUM_THREADS=1 python -m benchmarks.solvers --out docs        # or: make solvers
    python -m benchmarks.solvers --sections generated --generated 100000
    python -m benchmarks.solvers --sections           # the page from what is stored

`comparison` runs every solver on seventeen problems, `generated` those of fixpoint on many problems
whose zeros are known. Each is stored in `results/solvers.json`; `solvers.md` is rendered from both.
No number but the versions depends on time or chance.
"""

from __future__ import annotations

import torch

from benchmarks.shared.command import command_line, parse
from benchmarks.shared.pages import write_page
from benchmarks.shared.stored import load_all, ready_for_json, store
from benchmarks.solvers.comparison import measure_comparison, measure_generated
from benchmarks.solvers.page import markdown

SECTIONS = {"comparison": measure_comparison, "generated": measure_generated}


def main(arguments: list[str] | None = None) -> None:
    parser = command_line(__spec__.name, __doc__, "solvers.md")
    parser.add_argument("--sections", nargs="*", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--generated", type=int, default=10_000, help="problems to generate")
    options = parse(parser, arguments)
    torch.set_num_threads(1)
    found = load_all(options.out, ["solvers"]).get("solvers", {})
    for section in options.sections:
        found[section] = SECTIONS[section](options.generated)
        store(options.out, "solvers", found)
    write_page(options.out / "solvers.md", markdown(ready_for_json(found)))


if __name__ == "__main__":
    main()
