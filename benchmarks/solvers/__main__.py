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

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch

from benchmarks.shared.command import command_line, parse
from benchmarks.shared.machine import machine_name
from benchmarks.shared.pages import write_page
from benchmarks.shared.stored import load_all, ready_for_json, store
from benchmarks.solvers import generated as solver_generated
from benchmarks.solvers.counting import BUDGET, TARGET, Solver, attempt
from benchmarks.solvers.own import default_name, own_solvers
from benchmarks.solvers.page import markdown
from benchmarks.solvers.peers import peers, plain_loop
from benchmarks.solvers.problems import Problem, solver_problems

PLAIN_LIMIT = 20_000
"""Evaluations of plain steps at most, which say how hard a problem is."""


def compare(problems: Sequence[Problem], solvers: Sequence[Solver]) -> dict[str, Any]:
    """Every solver on every problem."""
    plain = plain_loop()
    return {
        "target": TARGET,
        "budget": BUDGET,
        "default": f"fixpoint {default_name()}",
        "problems": [
            {
                "name": problem.name,
                "unknowns": problem.start.shape[1],
                "note": problem.note,
                "plain": attempt(plain, problem, PLAIN_LIMIT).evaluations,
            }
            for problem in problems
        ],
        "solvers": [
            {
                "library": solver.library,
                "method": solver.method,
                "tuned": solver.tuned,
                "derivatives": solver.derivatives,
                "outcomes": [_line(solver, problem) for problem in problems],
            }
            for solver in solvers
        ],
    }


def _line(solver: Solver, problem: Problem) -> dict[str, Any]:
    found = attempt(solver, problem)
    return asdict(found) | {"false_success": found.false_success}


def measure_comparison(_: int) -> dict[str, Any]:
    others, libraries = peers()
    found = compare(solver_problems(), [*own_solvers(), *others])
    return {"machine": machine_name(), "libraries": libraries} | found


def measure_generated(problems: int) -> dict[str, Any]:
    return {"machine": machine_name()} | solver_generated.measure(problems)


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
