"""What an inversion costs on a GPU, against what the GPU could do.

    python benchmarks/inversion_gpu.py --out DIR

An autoencoder in the shape of Stable Diffusion 2.1's with random weights (see shapes.py): the time
of an evaluation as it is and compiled, beside the least that its arithmetic would take at the rate
of a matrix product in the same precision; the peak of memory, also of a gradient step; and what
`solve` adds to the evaluations. Without a GPU a small part runs on the CPU, to try the script.
Prints two tables and writes `DIR/inversion_gpu.json`.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import fresh_process
import shapes
import torch
from context import machine_name, mebibytes, number, ready_for_json, table
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from fixpoint import InertialKM, Operator, solve
from fixpoint.adapters import Autoencoder, DecoderInversion, EightBit, default_observation
from fixpoint.adapters.inversion.defaults import default_iterator
from fixpoint.adapters.reports.latent_files import check_folder, write_json
from fixpoint.adapters.reports.peak_memory import PeakMemory
from fixpoint.iterator import Iterator as Method
from fixpoint.monitors import Cocoercivity, Convergence, Fejer, InertialKMTheorem, Monitor
from fixpoint.trees.rows import select_rows

SEED = 0
LOOP = 50  # iterations around an operator that costs nothing
EAGER, COMPILED, GRADIENT = "evaluation", "evaluation, compiled", "gradient step"


@dataclass(frozen=True)
class Precision:
    """A dtype, and whether a GPU may round the factors of float32 products to TF32."""

    name: str
    dtype: torch.dtype
    tf32: bool = False


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        inputs: shapes of pictures by name.
        matrix: side of the square matrices whose product gives the peak rate.
        calls: evaluations between two looks at the clock.
        repeats: such blocks, of which the median counts.
        iterations: of `solve` around the evaluations that are timed.
    """

    device: torch.device
    inputs: Mapping[str, tuple[int, ...]]
    precisions: tuple[Precision, ...]
    matrix: int
    calls: int
    repeats: int
    iterations: int
    channels: tuple[int, ...] = field(default_factory=lambda: shapes.CHANNELS)

    @property
    def gpu(self) -> str | None:
        on_gpu = self.device.type == "cuda"
        return torch.cuda.get_device_name(self.device) if on_gpu else None


def default_plan() -> Plan:
    """Everything where there is a GPU, else one small picture on the CPU."""
    single, half = Precision("float32", torch.float32), Precision("bfloat16", torch.bfloat16)
    if not torch.cuda.is_available():
        inputs = {"128 x 128": (1, 3, 128, 128)}
        return Plan(torch.device("cpu"), inputs, (single, half), 1024, 1, 2, 1)
    inputs = {
        "512 x 512": (1, 3, 512, 512),
        "16 frames of 320 x 512": (16, 3, 320, 512),
    }
    precisions = (single, Precision("float32, TF32", torch.float32, tf32=True), half)
    return Plan(torch.device("cuda"), inputs, precisions, 8192, 5, 5, 15)


def measure(plan: Plan | None = None) -> dict[str, Any]:
    """Everything in the plan; what the dictionary holds, `markdown` shows."""
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
        with _tf32(plan.device, precision.tf32):
            peak = peak_rate(plan, precision.dtype)
            results["peak_flops"][precision.name] = peak
            for name, shape in plan.inputs.items():
                case = Case(plan, precision.dtype, shape)
                about = {"input": name, "precision": precision.name}
                for row in evaluations(case):
                    row["floor_milliseconds"] = row["flop"] and 1e3 * row["flop"] / peak
                    results["evaluations"].append(about | row)
                    print(*_evaluation_cells(about | row), sep="  ", flush=True)
                results["loop"] += [about | row for row in loop(case)]
    return ready_for_json(results)


class Case:
    """One input in one precision: the autoencoder, a picture that it made, and the operators."""

    def __init__(self, plan: Plan, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
        self.plan, self.dtype, self.shape = plan, dtype, shape
        built = shapes.build(plan.channels, dtype, SEED)
        self.autoencoder = Autoencoder.from_diffusers(built.model.to(plan.device))
        batch, _, height, width = shape
        sides = height // built.factor, width // built.factor
        generator = torch.Generator().manual_seed(SEED)
        truth = torch.randn(batch, built.channels, *sides, generator=generator)
        self.truth = truth.to(plan.device)
        with torch.no_grad():
            self.picture = EightBit()(self.autoencoder.decode(self.truth))
        self.eager = self.operator(compile=False)

    def operator(self, *, compile: bool) -> DecoderInversion:
        return DecoderInversion(
            self.autoencoder.encode,
            self.autoencoder.decode,
            self.picture,
            default_observation(EightBit(), self.dtype),
            compile=compile,
        )

    def evaluate(self) -> None:
        self.eager(self.eager.start)

    def gradient_step(self) -> None:
        """The gradient of ||D(z) - x||^2: what a step of the gradient-based method computes."""
        z = self.eager.start.clone().requires_grad_(True)
        with torch.enable_grad():
            loss = (self.autoencoder.decode(z) - self.picture).square().sum()
            torch.autograd.grad(loss, z)

    @property
    def weights_bytes(self) -> int:
        weights = self.autoencoder.parameters()
        return sum(weight.numel() * weight.element_size() for weight in weights)


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
    """Memory first: what runs before it would leave its traces there."""
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
            "weights_bytes": case.weights_bytes,
            "failed": None,
        }
    except torch.OutOfMemoryError as error:
        return _failed(case, kind, error)


def _failed(case: Case, kind: str, error: Exception) -> dict[str, Any]:
    nothing = dict.fromkeys(("milliseconds", "flop", "peak_bytes"))
    reason = str(error).splitlines()[0]
    return {"kind": kind, **nothing, "weights_bytes": case.weights_bytes, "failed": reason}


def peak_bytes(case: Case, kind: str, work: Callable[[], object]) -> int | None:
    """What the work adds to memory; on the CPU, where the heap has a memory of its own, in a fresh
    process, and for compiled work not at all."""
    if case.plan.device.type == "cuda":
        work()
        with PeakMemory(case.plan.device) as memory:
            work()
        return memory.added
    if kind == COMPILED:
        return None
    found = fresh_process.measure(
        "inversion_gpu:work_alone",
        channels=list(case.plan.channels),
        shape=list(case.shape),
        dtype=str(case.dtype).removeprefix("torch."),
        kind=kind,
    )
    return found["peak_bytes"]


def work_alone(channels: list[int], shape: list[int], dtype: str, kind: str) -> Callable[[], None]:
    """The same work in a process that has done nothing else."""
    plan = Plan(torch.device("cpu"), {}, (), 0, 1, 1, 1, tuple(channels))
    small = (1, 3, shapes.SMALL, shapes.SMALL)
    case = Case(plan, getattr(torch, dtype), small)
    case.picture = torch.zeros(shape)
    factor = case.autoencoder.factor
    latent = (shape[0], case.autoencoder.channels, shape[2] // factor, shape[3] // factor)
    case.eager.image, case.eager.start = case.picture, torch.zeros(latent)
    return case.evaluate if kind == EAGER else case.gradient_step


def loop(case: Case) -> list[dict[str, Any]]:
    """What `solve` adds to an evaluation, alone and as the difference of two runs.

    The evaluation is the compiled one where there is one: the shorter, the larger the share.
    """
    plan = case.plan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        operator = case.operator(compile=True)
        evaluation = seconds_of(
            lambda: operator(operator.start), plan.device, plan.calls, plan.repeats
        )
    recorded = Recorded(operator)
    rows = []
    for name, iterator in (
        ("the default", default_iterator(operator.observation, case.dtype)),
        ("inertial KM", InertialKM()),
    ):
        for watched in (False, True):
            monitors = all_monitors(iterator, case.truth) if watched else ()
            alone, whole = (
                _seconds_an_iteration(each, iterator, monitors, plan, iterations)
                for each, iterations in ((recorded, LOOP), (operator, plan.iterations))
            )
            rows.append(
                {
                    "iterator": name,
                    "monitors": watched,
                    "evaluation_milliseconds": 1e3 * evaluation,
                    "loop_milliseconds": 1e3 * alone,
                    "iteration_milliseconds": 1e3 * whole,
                    "share": alone / evaluation,
                    "difference_share": whole / evaluation - 1,
                }
            )
    return rows


def _seconds_an_iteration(
    operator: DecoderInversion | Recorded,
    iterator: Method[Any],
    monitors: tuple[Monitor, ...],
    plan: Plan,
    iterations: int,
) -> float:
    def run() -> None:
        solve(
            operator,
            operator.start,
            iterator,
            rtol=0.0,
            atol=0.0,
            max_iterations=iterations,
            monitors=monitors,
        )

    return seconds_of(run, plan.device, 1, plan.repeats) / (iterations + 1)


def all_monitors(iterator: Method[Any], zero: Tensor) -> tuple[Monitor, ...]:
    """Every monitor that fits the iterator."""
    monitors: tuple[Monitor, ...] = (Cocoercivity(zero=zero), Convergence(), Fejer(zero=zero))
    if isinstance(iterator, InertialKM):
        theorem = InertialKMTheorem(
            inertia=iterator.inertia,
            relaxation=iterator.relaxation,
            cocoercivity=iterator.cocoercivity,
            zero=zero,
        )
        return (*monitors, theorem)
    return monitors


class Recorded(Operator):
    """An operator at no cost: what another one gave at some points, in turn."""

    def __init__(self, operator: DecoderInversion, points: int = 8) -> None:
        self.start = operator.start
        step = 0.1 * torch.randn_like(self.start)
        self.given = [operator.evaluate(self.start + step / (k + 1)) for k in range(points)]
        self.calls = 0

    def __call__(self, z: Tensor) -> Tensor:
        return self.evaluate(z)[0]

    def evaluate(self, z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        self.calls += 1
        return self.given[self.calls % len(self.given)]

    def select(self, rows: Tensor) -> Recorded:
        selected = copy.copy(self)
        selected.given = [select_rows(each, rows) for each in self.given]
        return selected


def peak_rate(plan: Plan, dtype: torch.dtype) -> float:
    """FLOP/s of a matrix product, the fastest of all that were tried."""
    side = plan.matrix
    a, b = (torch.randn(side, side, device=plan.device, dtype=dtype) for _ in range(2))
    torch.mm(a, b)
    blocks = [seconds_of(lambda: torch.mm(a, b), plan.device, plan.calls, 1) for _ in range(10)]
    return 2 * side**3 / min(blocks)


def seconds_of(work: Callable[[], object], device: torch.device, calls: int, repeats: int) -> float:
    """Seconds a call: the median of some blocks of calls, after one block that is not counted."""
    blocks = []
    for _ in range(repeats + 1):
        _synchronize(device)
        started = time.perf_counter()
        for _ in range(calls):
            work()
        _synchronize(device)
        blocks.append((time.perf_counter() - started) / calls)
    return statistics.median(blocks[1:])


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def _tf32(device: torch.device, allowed: bool) -> Iterator[None]:
    """TF32 for products and convolutions alike inside the block, or for neither."""
    if device.type != "cuda":
        yield
        return
    backends: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    try:
        for backend in backends:
            backend.allow_tf32 = allowed
        yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.allow_tf32 = value


def markdown(results: dict[str, Any]) -> str:
    """Two tables of what `measure` found."""
    peaks = ", ".join(
        f"{name} {rate / 1e12:.{0 if rate > 1e14 else 2}f} TFLOP/s"
        for name, rate in results["peak_flops"].items()
    )
    place = results["gpu"] or "**the CPU, for want of a GPU: a small part, to try the script**"
    lines = [
        "## An inversion against the limits of the machine",
        "",
        f"On {place}. {results['machine']}",
        "",
        f"An AutoencoderKL with channels {tuple(results['channels'])} and random weights. One "
        "evaluation is E(Q(D(z))) with the observation of 8-bit pictures and all that an operator "
        "measures on the way; compiled, it runs on a copy in `channels_last`. The floor is the "
        "counted arithmetic of convolutions and products at the peak rate of a matrix product, "
        f"measured in the same run: {peaks}. A gradient step is the decoder forward and backward. "
        "Peak memory is added to the weights.",
        "",
        *table(
            ("input", "precision", "work", "ms", "TFLOP", "floor, ms", "of the peak", "peak MiB"),
            [_evaluation_cells(row) for row in results["evaluations"]],
            words=3,
        ),
        "",
    ]
    for row in results["evaluations"]:
        if row["failed"]:
            about = f"{row['input']}, {row['precision']}, {row['kind']}"
            lines += [f"{about}: failed with `{row['failed']}`.", ""]
    lines += [
        "What `solve` adds to an evaluation: the loop around an operator that costs nothing, and, "
        "less exact but with all that overlaps, an iteration minus the bare evaluation.",
        "",
        *table(
            (
                "input",
                "precision",
                "iterator",
                "monitors",
                "evaluation, ms",
                "loop alone, ms",
                "of an evaluation",
                "iteration, ms",
                "minus evaluation",
            ),
            [
                (
                    row["input"],
                    row["precision"],
                    row["iterator"],
                    "all" if row["monitors"] else "none",
                    number(row["evaluation_milliseconds"], ".2f"),
                    number(row["loop_milliseconds"], ".3f"),
                    number(row["share"], ".1%"),
                    number(row["iteration_milliseconds"], ".2f"),
                    number(row["difference_share"], "+.1%"),
                )
                for row in results["loop"]
            ],
            words=4,
        ),
        "",
    ]
    return "\n".join(lines)


def _evaluation_cells(row: dict[str, Any]) -> tuple[str, ...]:
    took, floor, flop = row["milliseconds"], row["floor_milliseconds"], row["flop"]
    return (
        row["input"],
        row["precision"],
        row["kind"],
        number(took, ".2f"),
        number(flop and flop / 1e12, ".3f"),
        number(floor, ".2f"),
        number(floor / took if took and floor else None, ".0%"),
        mebibytes(row["peak_bytes"]),
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    plan = default_plan()
    names = [precision.name for precision in plan.precisions]
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR")
    add("--inputs", nargs="+", choices=plan.inputs, default=list(plan.inputs))
    add("--precisions", nargs="+", choices=names, default=names)
    options = parser.parse_args(arguments)
    try:
        check_folder(options.out)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    if not torch.cuda.is_available():
        print("no GPU here: a small part runs on the CPU, to try the script", flush=True)
    plan = replace(
        plan,
        inputs={name: plan.inputs[name] for name in options.inputs},
        precisions=tuple(each for each in plan.precisions if each.name in options.precisions),
    )
    results = measure(plan)
    print(markdown(results))
    write_json(options.out / "inversion_gpu.json", results)


if __name__ == "__main__":
    main()
