"""fixpoint against SciPy, PyProximal, torchdeq, deepinv and JAXopt: one process, one thread.

    pip install scipy pyproximal torchdeq jaxopt deepinv      # each only where it can be installed
    OMP_NUM_THREADS=1 python -m benchmarks.splittings --out docs
    python -m benchmarks.splittings --render                  # the page from what is stored

A library that cannot be imported is named with the reason, and left out. Results are stored as
`results/splittings.json`; `splittings-benchmark.md` is rendered from them.

Every method runs for a fixed number of iterations, with its own stopping test in place but out of
reach. How many iterations an accuracy takes is found beforehand, and judged here, from the point
that a run of that length returns. Rounds go through all methods in turn, so that drift hits all.
"""

from __future__ import annotations

from benchmarks.shared.command import add_quick, add_render, command_line, parse
from benchmarks.shared.pages import write_page
from benchmarks.shared.stored import load, store
from benchmarks.splittings.comparison import measure
from benchmarks.splittings.page import markdown
from benchmarks.splittings.sizes import QUICK


def main(arguments: list[str] | None = None) -> None:
    parser = command_line(__spec__.name, __doc__, "splittings-benchmark.md")
    add_render(parser)
    add_quick(parser, "small sizes")
    options = parse(parser, arguments)
    if not options.render:
        store(options.out, "splittings", measure(QUICK if options.quick else None))
    found = load(options.out, "splittings")
    write_page(options.out / "splittings-benchmark.md", markdown(found))


if __name__ == "__main__":
    main()
