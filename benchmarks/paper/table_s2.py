"""Table S2: how much the optimiser and the schedule matter, on two operators.

Two parts: the paper's ablation on T z = E(D(z)) - E(x), and the iterators of this library with
their own settings, with nothing, rounding, or the cells of rounding inside the operator.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.paper import published
from benchmarks.paper.trajectory import Trajectory
from benchmarks.shared.context import Context
from benchmarks.shared.tables import mean_and_interval, number, summary, table
from fixpoint import (
    Adam,
    Anderson,
    Broyden,
    ForwardStep,
    Halpern,
    InertialKM,
    Iterator,
    NewtonKrylov,
    schedules,
    solve,
)
from fixpoint.adapters import DecoderInversion, EightBit, Identity, RoundingCells, invert, nmse_db
from fixpoint.checkpoints.whole_file import write_whole

STEPS = (20, 50, 100)
EVALUATIONS = 30
NEWTON = NewtonKrylov(difference=0.05)
ITERATORS: dict[str, tuple[Iterator[Any], int]] = {  # and evaluations a step
    "forward step, rho = 1": (ForwardStep(step_size=1), 1),
    "inertial KM, alpha = 0.3, rho = 1": (
        InertialKM(inertia=0.3, relaxation=0.5, cocoercivity=1.0),
        1,
    ),
    "Anderson": (Anderson(), 1),
    "Anderson, least deviation": (Anderson(minimize="deviation"), 1),
    "Halpern": (Halpern(), 1),
    "Broyden": (Broyden(), 1),
    "Newton-Krylov": (NEWTON, NEWTON.krylov + 1),
}
OBSERVATIONS = {
    "E(D(z)), the paper's": Identity(),
    "8 bits inside": EightBit(),
    "rounding cells inside": RoundingCells(),
}
DEFAULTS = "`invert`, all defaults"

Choice = Callable[[float], Iterator[Any]]
OPTIMIZERS: dict[str, Choice] = {
    "forward step": lambda rate: ForwardStep(step_size=rate),
    # rho = 2 lambda beta; lambda = 0.005 is within theorem 2's bound for alpha = 0.9.
    "inertial KM": lambda rate: InertialKM(inertia=0.9, relaxation=0.005, cocoercivity=100 * rate),
}


def measure(context: Context) -> dict[str, Any]:
    models = {}
    for name in context.autoencoders:
        models[name] = {"paper": _paper(context, name), "ours": _ours(context, name)}
    steps, evaluations = _lengths(context)
    return {"steps": list(steps), "evaluations": evaluations, "models": models}


def _lengths(context: Context) -> tuple[tuple[int, ...], int]:
    return ((2, 3), 8) if context.quick else (STEPS, EVALUATIONS)


def _operator(context: Context, name: str, observation: Any) -> tuple[DecoderInversion, Tensor]:
    truth, pictures = context.observed(name)
    autoencoder = context.autoencoders[name]
    return DecoderInversion(autoencoder.encode, autoencoder.decode, pictures, observation), truth


@torch.no_grad()
def steps_of_varying_size(
    operator: DecoderInversion,
    truth: Tensor,
    choice: Choice,
    schedule: schedules.Schedule,
    evaluations: int,
) -> Trajectory:
    """An iterator whose step size follows a schedule: each step gets an iterator of its own.

    The state of one step is the start of the next.
    """
    trajectory = Trajectory(truth)
    state = choice(schedule(0)).init(operator, operator.start)
    for step in range(evaluations):
        if step:
            state = choice(schedule(step - 1)).step(operator, state)
        trajectory.add(state.point)
    return trajectory


def _paper(context: Context, name: str) -> list[dict[str, Any]]:
    """The paper's ablation; the point returned is the last, as in the paper."""
    operator, truth = _operator(context, name, Identity())
    steps, _ = _lengths(context)
    rows = []

    def add(method: str, rate: str, runs: dict[int, Trajectory]) -> None:
        cells = {
            str(count): {
                "returned": summary(run.errors[count - 1]),
                "oracle": summary(torch.stack(run.errors[:count]).amin(0)),
            }
            for count, run in runs.items()
        }
        rows.append({"method": method, "rate": rate, "cells": cells})
        end = cells[str(steps[-1])]["returned"]["nmse_db"]
        print(f"{name:<26}{method + ', ' + rate:<42}{steps[-1]:>4} {end:>7.1f} dB", flush=True)

    for method, choice in OPTIMIZERS.items():
        fixed = steps_of_varying_size(operator, truth, choice, lambda step: 0.01, steps[-1])
        add(method, "0.01 fixed", dict.fromkeys(steps, fixed))
        scheduled = {
            count: steps_of_varying_size(
                operator, truth, choice, schedules.warmup_cosine(0.01, count), count
            )
            for count in steps
        }
        add(method, "0.01 scheduled", scheduled)
    for rate in (0.01, 0.002):
        fixed = _solved(operator, truth, Adam(schedule=schedules.constant(rate)), steps[-1])[0]
        add("Adam", f"{rate:g} fixed", dict.fromkeys(steps, fixed))
    scheduled = {
        count: _solved(operator, truth, Adam(schedule=schedules.warmup_cosine(0.01, count)), count)[
            0
        ]
        for count in steps
    }
    add("Adam", "0.01 scheduled", scheduled)
    return rows


def _solved(
    operator: DecoderInversion, truth: Tensor, iterator: Iterator[Any], points: int
) -> tuple[Trajectory, Any]:
    trajectory = Trajectory(truth)

    solution = solve(
        operator,
        operator.start,
        iterator,
        rtol=0.0,
        atol=0.0,
        max_iterations=points - 1,
        callback=trajectory,
    )
    return trajectory, solution


def _ours(context: Context, name: str) -> list[dict[str, Any]]:
    """Every iterator with every observation; the point returned is that of least residual."""
    _, evaluations = _lengths(context)
    rows = []
    for observed, observation in OBSERVATIONS.items():
        operator, truth = _operator(context, name, observation)
        for method, (iterator, cost) in ITERATORS.items():
            points = 1 + (evaluations - 1) // cost
            trajectory, solution = _solved(operator, truth, iterator, points)
            rows.append(
                {
                    "method": method,
                    "observation": observed,
                    "cost": cost,
                    "evaluations": float(solution.evaluations.float().mean()),
                    "returned": summary(nmse_db(solution.z, truth)),
                    "oracle": summary(trajectory.oracle),
                    "curve": [round(value, 3) for value in trajectory.curve.tolist()],
                }
            )
            _print_row(name, rows[-1])
    truth, pictures = context.observed(name)
    trajectory = Trajectory(truth)
    inversion = invert(
        context.autoencoders[name],
        pictures,
        max_iterations=evaluations - 1,
        value_range=(-1, 1),
        callback=trajectory,
    )
    rows.append(
        {
            "method": DEFAULTS,
            "observation": repr(inversion.observation),
            "cost": 1,
            "evaluations": float(inversion.evaluations.float().mean()),
            "returned": summary(inversion.nmse_db(truth)),
            "oracle": summary(trajectory.oracle),
            "curve": [round(value, 3) for value in trajectory.curve.tolist()],
        }
    )
    _print_row(name, rows[-1])
    return rows


def _print_row(name: str, row: dict[str, Any]) -> None:
    print(
        f"{name:<26}{row['method'] + ', ' + row['observation']:<60}"
        f"{row['returned']['nmse_db']:>7.1f} dB",
        flush=True,
    )


def markdown(results: dict[str, Any]) -> str:
    steps = [str(count) for count in results["steps"]]
    last = steps[-1]
    lines = [
        "## Optimisers and schedules (table S2)",
        "",
        "The paper's ablation on its operator, T z = E(D(z)) - E(x), float32: NMSE in dB of the "
        "last of so many points, and, as the *oracle*, of the best point of each crop on the way. "
        "Inertial KM has alpha = 0.9. "
        "Published are the values for Stable Diffusion 2.1: the schedules of table S2b, and the "
        "last column of table S2a for forward step and inertial KM, whose rate is not stated.",
        "",
    ]
    for name, model in results["models"].items():
        head = ["method", "rate", *steps, f"oracle, {last}", "published, 100"]
        rows = [
            [
                row["method"],
                row["rate"],
                *(mean_and_interval(row["cells"][count]["returned"]) for count in steps),
                mean_and_interval(row["cells"][last]["oracle"]),
                _published(row["method"], row["rate"]),
            ]
            for row in model["paper"]
        ]
        lines += [f"### {name}, the paper's settings", "", *table(head, rows, words=2), ""]
    lines += [
        f"The iterators of this library after at most {results['evaluations']} evaluations, "
        "without stop rules (Newton-Krylov with differences of 0.05), with nothing, rounding to 8 "
        "bits, or its cells between D and E. "
        "Returned is the point of least residual of each crop; the last line is what a user gets.",
        "",
    ]
    for name, model in results["models"].items():
        head = ("method", "operator", "NMSE (dB)", "worst crop", "oracle", "evaluations")
        rows = [
            (
                row["method"],
                row["observation"],
                mean_and_interval(row["returned"]),
                number(row["returned"]["worst_db"]),
                mean_and_interval(row["oracle"]),
                number(row["evaluations"], ".0f"),
            )
            for row in model["ours"]
        ]
        lines += [f"### {name}, this library's settings", "", *table(head, rows, words=2), ""]
    return "\n".join([*lines, "![NMSE along the way](results/table_s2.png)", ""])


def _published(method: str, rate: str) -> str:
    found = published.SCHEDULES.get(f"{method}, {rate}")
    if found is not None:
        return published.with_interval(*found[100])
    if rate == "0.01 scheduled":
        return published.with_interval(*published.OPTIMIZERS[method])
    return "–"


def draw(results: dict[str, Any], folder: Path) -> list[Path]:
    models = results["models"]
    shape = (len(models), len(OBSERVATIONS))
    figure = Figure(figsize=(13, 4 * len(models)), layout="constrained", dpi=110)
    panels = figure.subplots(*shape, squeeze=False, sharex=True, sharey="row")
    shown: dict[str, Any] = {}
    for (name, model), line in zip(models.items(), panels, strict=True):
        for observed, axes in zip(OBSERVATIONS, line, strict=True):
            chosen = [row for row in model["ours"] if row["observation"] == observed]
            for index, row in enumerate(chosen):
                evaluations = [1 + row["cost"] * k for k in range(len(row["curve"]))]
                (drawn,) = axes.plot(
                    evaluations, row["curve"], color=f"C{index}", marker=".", lw=1.4
                )
                shown.setdefault(row["method"], drawn)
            axes.set_title(f"{name.strip('`')}\n{observed}", fontsize=10)
            axes.set_xscale("log")
            axes.set_xticks([1, 2, 5, 10, 20, 30], ["1", "2", "5", "10", "20", "30"])
            axes.grid(alpha=0.25)
        line[0].set_ylabel("NMSE (dB), mean over crops")
    for axes in panels[-1]:
        axes.set_xlabel("evaluations of E(D(z))")
    figure.legend(shown.values(), shown, loc="outside right center", frameon=False, fontsize=9)
    path = folder / "table_s2.png"
    write_whole(path, figure.savefig)
    return [path]
