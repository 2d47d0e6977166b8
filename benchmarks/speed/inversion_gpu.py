"""What an inversion costs on a GPU, against what the GPU could do.

    python -m benchmarks.speed.inversion_gpu --out docs

An autoencoder in the shape of Stable Diffusion 2.1's with random weights: the time of an evaluation
as it is and compiled, beside the least that its arithmetic would take at the rate of a matrix
product in the same precision; the peak of memory, also of a gradient step; and what `solve` adds to
the evaluations. Without a GPU a small part runs on the CPU, to try the program.
Prints two tables and writes `results/inversion_gpu.json`.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.shared import fresh_process
from benchmarks.shared.command import command_line, parse
from benchmarks.shared.machine import machine_name
from benchmarks.shared.stable_diffusion_shape import SMALL, weights_bytes
from benchmarks.shared.stored import load, ready_for_json, store
from benchmarks.speed.device_clock import peak_rate, seconds_of, tf32
from benchmarks.speed.evaluation_cases import Case, Plan, default_plan
from benchmarks.speed.inversion_page import evaluation_cells, markdown
from benchmarks.speed.loop_cost import loop
from fixpoint.adapters.reports.peak_memory import PeakMemory

EAGER, COMPILED, GRADIENT = "evaluation", "evaluation, compiled", "gradient step"


def measure(plan: Plan | None = None) -> dict[str, Any]:
    """Measure everything in the plan, for `markdown`."""
    plan = plan or default_plan()
    results: dict[str, Any] = {
        "machine": machine_name(),
        "gpu": plan.gpu,
        "channels": list(plan.channels),
        "peak_flops": {},
        "evaluations": [],
        "loop": [],
    }
    for precision in plan.precisions:
        with tf32(plan.device, precision.tf32):
            peak = peak_rate(plan, precision.dtype)
            results["peak_flops"][precision.name] = peak
            for name, shape in plan.inputs.items():
                case = Case(plan, precision.dtype, shape)
                about = {"input": name, "precision": precision.name}
                for row in evaluations(case):
                    row["floor_milliseconds"] = row["flop"] and 1e3 * row["flop"] / peak
                    results["evaluations"].append(about | row)
                    print(*evaluation_cells(about | row), sep="  ", flush=True)
                results["loop"] += [about | row for row in loop(case)]
    return ready_for_json(results)


def evaluations(case: Case) -> list[dict[str, Any]]:
    """Time, arithmetic and memory of an evaluation, as it is and compiled, and a gradient step."""
    rows = [_row(case, EAGER, case.evaluate), _row(case, GRADIENT, case.gradient_step)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the row says why it was not compiled
        started = time.perf_counter()
        try:
            operator = case.operator(compile=True)
            operator(operator.start)
            seconds = time.perf_counter() - started
            compiled = _row(case, COMPILED, lambda: operator(operator.start))
            compiled |= {"flop": rows[0]["flop"], "seconds_to_compile": seconds}
            if not operator.compiled:
                compiled |= {"milliseconds": None, "failed": operator.not_compiled_because}
        except torch.OutOfMemoryError as error:
            compiled = _failed(case, COMPILED, error)
    return [rows[0], compiled, rows[1]]


def _row(case: Case, kind: str, work: Callable[[], object]) -> dict[str, Any]:
    """Measure one kind of work. Memory comes first: earlier work would change it."""
    plan = case.plan
    try:
        peak = peak_bytes(case, kind, work)
        flop = None
        if kind != COMPILED:
            with FlopCounterMode(display=False) as counter:
                work()
            flop = counter.get_total_flops()
        return {
            "kind": kind,
            "milliseconds": 1e3 * seconds_of(work, plan.device, plan.calls, plan.repeats),
            "flop": flop,
            "peak_bytes": peak,
            "weights_bytes": weights_bytes(case.autoencoder),
            "failed": None,
        }
    except torch.OutOfMemoryError as error:
        return _failed(case, kind, error)


def _failed(case: Case, kind: str, error: Exception) -> dict[str, Any]:
    nothing = dict.fromkeys(("milliseconds", "flop", "peak_bytes"))
    reason = str(error).splitlines()[0]
    return {
        "kind": kind,
        **nothing,
        "weights_bytes": weights_bytes(case.autoencoder),
        "failed": reason,
    }


def peak_bytes(case: Case, kind: str, work: Callable[[], object]) -> int | None:
    """Bytes that the work adds to memory.

    On the CPU the heap keeps what earlier work freed, so a fresh process measures it. Compiled work
    on the CPU is not measured.
    """
    if case.plan.device.type == "cuda":
        work()
        with PeakMemory(case.plan.device) as memory:
            work()
        return memory.added
    if kind == COMPILED:
        return None
    found = fresh_process.measure(
        "benchmarks.speed.inversion_gpu:work_alone",
        channels=list(case.plan.channels),
        shape=list(case.shape),
        dtype=str(case.dtype).removeprefix("torch."),
        kind=kind,
    )
    return found["peak_bytes"]


def work_alone(channels: list[int], shape: list[int], dtype: str, kind: str) -> Callable[[], None]:
    """The same work, for a fresh process."""
    plan = Plan(torch.device("cpu"), {}, (), 0, 1, 1, 1, tuple(channels))
    small = (1, 3, SMALL, SMALL)
    case = Case(plan, getattr(torch, dtype), small)
    case.picture = torch.zeros(shape)
    factor = case.autoencoder.factor
    latent = (shape[0], case.autoencoder.channels, shape[2] // factor, shape[3] // factor)
    case.eager.image, case.eager.start = case.picture, torch.zeros(latent)
    return case.evaluate if kind == EAGER else case.gradient_step


def main(arguments: list[str] | None = None) -> None:
    parser = command_line(__spec__.name, __doc__, "results/inversion_gpu.json")
    plan = default_plan()
    names = [precision.name for precision in plan.precisions]
    add = parser.add_argument
    add("--inputs", nargs="+", choices=plan.inputs, default=list(plan.inputs))
    add("--precisions", nargs="+", choices=names, default=names)
    options = parse(parser, arguments)
    if not torch.cuda.is_available():
        print("no GPU here: a small part runs on the CPU, to try the program", flush=True)
    plan = replace(
        plan,
        inputs={name: plan.inputs[name] for name in options.inputs},
        precisions=tuple(each for each in plan.precisions if each.name in options.precisions),
    )
    store(options.out, "inversion_gpu", measure(plan))
    print(markdown(load(options.out, "inversion_gpu")))


if __name__ == "__main__":
    main()
