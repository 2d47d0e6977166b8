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

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.shared.context import machine_name, ready_for_json
from benchmarks.solvers import generated as solver_generated
from benchmarks.solvers.counting import BUDGET, TARGET, Solver, attempt
from benchmarks.solvers.own import default_name, own_solvers
from benchmarks.solvers.page import markdown
from benchmarks.solvers.peers import peers, plain_loop
from benchmarks.solvers.problems import Problem, solver_problems
from fixpoint.adapters.files import check_folder, write_json
from fixpoint.whole_file import write_whole

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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder of solvers.md")
    parser.add_argument("--sections", nargs="*", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--generated", type=int, default=10_000, help="problems to generate")
    options = parser.parse_args(arguments)
    stored = options.out / "results" / "solvers.json"
    torch.set_num_threads(1)
    try:
        check_folder(options.out)
        found = json.loads(stored.read_text()) if stored.is_file() else {}
        for section in options.sections:
            found[section] = ready_for_json(SECTIONS[section](options.generated))
            write_json(stored, found)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    text = markdown(found)
    write_whole(options.out / "solvers.md", lambda path: path.write_text(text, encoding="utf-8"))


if __name__ == "__main__":
    main()
