"""The fused updates: accuracy against float64, bytes a second against a measured copy.

    python benchmarks/kernels.py --out docs/results

On a GPU the Triton kernels are timed against eager torch, against `torch.compile` of the same
reference and against `torch.optim`'s fused Adam, on buffers that are rotated so that they come cold
from memory. Without one it says so: then the references are timed, which serve the CPU, and the
Triton kernels are checked in Triton's interpreter. `speed.py` runs this and writes the page.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from context import machine_name, number, ready_for_json, table
from torch import Tensor

from fixpoint import kernels
from fixpoint.adapters.files import check_folder, write_json
from fixpoint.kernels.device import AVAILABLE
from fixpoint.kernels.dispatch import REFERENCES

LATENT = (4, 64, 64)  # of a picture of 512 px
BATCHES = (1, 16, 128, 1024)
VIDEO = (1, 4, 16, 40, 64)  # 16 frames of 320 x 512
MEMORY = 5  # of Anderson's mixing
COMPILED = (16, 1024)  # batches at which torch.compile is tried: it takes seconds each time
COLD = 256 * 2**20  # bytes to rotate through: several times the cache of any GPU or CPU
VALUES = (torch.float32, torch.bfloat16, torch.float16)


class Buffers:
    """What the updates of one batch read: a float32 state, T in `values`."""

    def __init__(self, shape: tuple[int, ...], device: str, values: torch.dtype, seed: int) -> None:
        generator = torch.Generator(device).manual_seed(seed)

        def drawn() -> Tensor:
            return torch.randn(shape, generator=generator, device=device)

        self.z, self.previous, self.first, self.second = drawn(), drawn(), drawn(), drawn().abs()
        self.value, self.previous_value = drawn().to(values), drawn().to(values)
        self.differences = [drawn() for _ in range(MEMORY)]
        self.weights = torch.full((shape[0], MEMORY), 0.1, device=device)


@dataclass(frozen=True)
class Update:
    """An operator with its arguments, and the elements it must move.

    Attributes:
        operator: of `torch.ops.fixpoint`.
        arguments: from buffers.
        states, values: float32 elements and elements of T moved per element.
    """

    operator: str
    arguments: Callable[[Buffers], tuple[Any, ...]]
    states: int
    values: int

    def bytes(self, dtype: torch.dtype) -> int:
        """Per element."""
        return 4 * self.states + dtype.itemsize * self.values

    def call(self, buffers: Buffers) -> Any:
        """Through the dispatcher."""
        return getattr(torch.ops.fixpoint, self.operator).default(*self.arguments(buffers))

    def reference(self, buffers: Buffers) -> Any:
        return REFERENCES[self.operator](*self.arguments(buffers))


def _adam(b: Buffers, *previous: Tensor | None) -> tuple[Any, ...]:
    numbers = [0.9, 0.999, 1e-8, 0.01, 0.1, 0.001]
    return b.z, b.value, b.first, b.second, numbers, None, True, *previous, None


UPDATES = {
    "row sums": Update("row_sums", lambda b: (b.z, b.value, None, None), 1, 1),
    "forward step": Update(
        "forward_step", lambda b: (b.z, b.value, 0.5, None, True, None, None, None), 2, 1
    ),
    "forward step, monitored": Update(
        "forward_step",
        lambda b: (b.z, b.value, 0.5, None, True, b.previous, b.previous_value, None),
        3,
        2,
    ),
    "inertial KM": Update(
        "inertial_km", lambda b: (b.z, b.value, b.first, 0.3, 0.5, True, None, None, None), 4, 1
    ),
    "inertial KM, monitored": Update(
        "inertial_km",
        lambda b: (
            b.z, b.value, b.first, 0.3, 0.5, True, b.previous, b.previous_value, None,
        ),
        5,
        2,
    ),
    "Adam": Update("adam", lambda b: _adam(b, None, None), 6, 1),
    "Adam, monitored": Update("adam", lambda b: _adam(b, b.previous, b.previous_value), 7, 2),
    f"Anderson mix, memory {MEMORY}": Update(
        "anderson_mix",
        lambda b: (b.z, b.value, b.differences, b.differences[::-1], b.weights, 1.0, None, None),
        2 * MEMORY + 3,
        1,
    ),
    f"Gram row, memory {MEMORY}": Update(
        "gram_row", lambda b: (b.differences, b.value, b.previous_value, None), MEMORY + 1, 2
    ),
}  # fmt: skip


def measure(device: str | None = None, *, quick: bool = False) -> dict[str, Any]:
    """Everything that this script finds, on the GPU where there is one."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    shapes = [(batch, *LATENT) for batch in BATCHES] + [VIDEO]
    if quick:
        shapes = shapes[:1]
    with torch.no_grad():
        return {
            "machine": machine_name(),
            "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
            "accuracy": accuracy(device),
            "copy": {str(shape): copy_rate(shape, device) for shape in shapes},
            "speed": [entry for shape in shapes for entry in speed(shape, device, quick)],
            "call_overhead_us": call_overheads(device) if device == "cpu" else None,
            "code": kernel_code(),
        }


def accuracy(device: str) -> list[dict[str, Any]]:
    """The largest errors of a kernel and of its reference against the reference in float64.

    Relative to the largest element of a result, and for sums to the sum of their terms' sizes.
    """
    interpreter = AVAILABLE and os.environ.get("TRITON_INTERPRET") == "1"
    if device == "cpu" and AVAILABLE and not interpreter:  # it is chosen when triton is imported
        return _of_another_process(__file__, "--accuracy", TRITON_INTERPRET="1")
    shape = (2, *LATENT)
    found = []
    for (name, update), values in itertools.product(UPDATES.items(), VALUES):
        buffers = Buffers(shape, device, values, seed=0)
        exact = _leaves(update.reference(_wide(buffers)))
        with kernels.interpreted() if interpreter else nullcontext():
            fused = _leaves(update.call(buffers))
        found.append(
            {
                "update": name,
                "values": _name(values),
                "kernel": _largest_error(fused, exact) if interpreter or device == "cuda" else None,
                "reference": _largest_error(_leaves(update.reference(buffers)), exact),
            }
        )
    return found


def _wide(buffers: Buffers) -> Buffers:
    wide = object.__new__(Buffers)
    for name, value in vars(buffers).items():
        many = isinstance(value, list)
        setattr(wide, name, [each.double() for each in value] if many else value.double())
    return wide


def _leaves(tree: Any) -> list[Tensor]:
    return [leaf for leaf in torch.utils._pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]


def _largest_error(found: list[Tensor], exact: list[Tensor]) -> float:
    """Relative to the largest number of each result."""
    errors = []
    for a, b in zip(found, exact, strict=True):
        errors.append(float((a.double() - b).abs().max() / b.abs().max()))
    return max(errors)


def copy_rate(shape: tuple[int, ...], device: str) -> float:
    """Bytes a second of a plain copy between cold buffers of this shape, read and written."""
    size = 4 * torch.Size(shape).numel()
    sources = [torch.ones(shape, device=device) for _ in _rotation(size)]
    return 2 * size / _seconds(torch.clone, sources, device)["device"]


def _rotation(size: int) -> range:
    """As many sets of buffers, each read in so many bytes, as it takes to find the caches cold."""
    return range(max(2, min(2048, -(-COLD // size))))


def speed(shape: tuple[int, ...], device: str, quick: bool) -> Iterator[dict[str, Any]]:
    """Seconds of every update at one shape, by each way to make it."""
    elements = torch.Size(shape).numel()
    for values in (torch.float32, torch.bfloat16) if device == "cuda" else (torch.float32,):
        # The least that any update reads: a state and a value.
        sets = [
            Buffers(shape, device, values, seed)
            for seed in _rotation(elements * (4 + values.itemsize))
        ]
        for name, update in UPDATES.items():
            ways: dict[str, Callable[[Buffers], Any]] = {"eager": update.reference}
            if device == "cuda":
                ways["kernel"] = update.call
            if not quick and shape[0] in COMPILED:
                torch._dynamo.reset()  # it keeps no more than 8 compilations of a function
                compiled = torch.compile(REFERENCES[update.operator], dynamic=False)
                ways["torch.compile"] = lambda b, u=update, f=compiled: f(*u.arguments(b))
            seconds = {way: _seconds(function, sets, device) for way, function in ways.items()}
            if name == "Adam" and values == torch.float32:
                seconds["torch.optim fused"] = _fused_adam(sets, device)
            yield {
                "update": name,
                "shape": str(shape),
                "values": _name(values),
                "bytes": elements * update.bytes(values),
                "seconds": {way: found["device"] for way, found in seconds.items()},
                "call_seconds": {way: found["host"] for way, found in seconds.items()},
            }


def _fused_adam(sets: list[Buffers], device: str) -> dict[str, float | None]:
    """torch.optim's own Adam, which takes no sums, with its arguments made beforehand."""
    optimizers = []
    for buffers in sets:
        weight = torch.nn.Parameter(buffers.z)
        weight.grad = buffers.value
        optimizer = torch.optim.Adam([weight], lr=0.01, fused=True, capturable=device == "cuda")
        optimizer.step()
        optimizers.append(optimizer)
    return _seconds(lambda optimizer: optimizer.step(), optimizers, device)


def _seconds(
    function: Callable[[Any], Any], sets: list[Any], device: str
) -> dict[str, float | None]:
    """The median time of a call, over rounds through all sets of buffers.

    "device": of the work alone. On a GPU a round is replayed from a CUDA graph, so that nothing
    waits for the host; its results all live until the round ends, so that none is written where
    the last one still lies in the cache. "host": what it takes to start a call there.
    """
    for each in sets[:3]:
        function(each)
    if device == "cpu":
        times = []
        for _ in range(7):
            started = time.perf_counter()
            for each in sets:
                function(each)
            times.append((time.perf_counter() - started) / len(sets))
        return {"device": statistics.median(times), "host": None}
    torch.cuda.synchronize()
    started = time.perf_counter()
    for each in sets[:20]:  # fewer launches than a stream takes without waiting
        function(each)
    host = (time.perf_counter() - started) / len(sets[:20])
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = [function(each) for each in sets]
    times = []
    for _ in range(7):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        stop.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(stop) / 1e3 / len(sets))
    del results
    return {"device": statistics.median(times), "host": host}


def call_overheads(device: str) -> dict[str, float]:
    """Microseconds that a call through the dispatcher adds to the same plain torch code.

    The two take turns, and the best round of each counts: the least disturbed one.
    """
    buffers = Buffers((2, 8), device, torch.float32, seed=0)
    found = {}
    for name, update in UPDATES.items():
        arguments = update.arguments(buffers)
        ways = (
            getattr(torch.ops.fixpoint, update.operator).default,
            REFERENCES[update.operator],
        )
        best = [float("inf"), float("inf")]
        for _ in range(40):
            for i, function in enumerate(ways):
                started = time.perf_counter()
                for _ in range(300):
                    function(*arguments)
                best[i] = min(best[i], (time.perf_counter() - started) / 300)
        found[name] = 1e6 * (best[0] - best[1])
    return found


def kernel_code() -> list[dict[str, Any]] | None:
    """What the compiler makes of the kernels; None without Triton."""
    if not AVAILABLE:
        return None
    return _of_another_process(Path(__file__).with_name("kernel_code.py"), "--json", "/dev/stdout")


def _of_another_process(script: str | Path, *arguments: str, **variables: str) -> Any:
    """The JSON that a script prints in a process with these environment variables."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-W", "ignore", str(script), *arguments]
    ended = subprocess.run(
        command, env=environment | variables, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(ended.stdout)


def markdown(found: dict[str, Any]) -> str:
    """A section of docs/benchmarks.md."""
    on_gpu = found["device"] != "cpu"
    lines = ["## The fused updates", "", found["machine"], ""]
    if on_gpu:
        lines += [f"GPU: {found['device']}.", ""]
    else:
        lines += [
            "**No GPU was at hand.** The times below are those of the references, which serve the "
            "CPU; the Triton kernels were compiled for GPUs that were not there and run in Triton's"
            " interpreter. On a GPU the same command adds their times.",
            "",
        ]
    lines += _accuracy_page(found) + _speed_page(found)
    if found["call_overhead_us"]:
        lines += ["### What a call through torch's dispatcher adds on the CPU", ""]
        lines += table(
            ("update", "microseconds"),
            [(name, number(value)) for name, value in found["call_overhead_us"].items()],
        )
        lines.append("")
    return "\n".join(lines + _code_page(found))


def _accuracy_page(found: dict[str, Any]) -> list[str]:
    lines = [
        "### Accuracy",
        "",
        "The largest error against the reference in float64, relative to the largest number of "
        f"each result, elements and sums alike; two latents of {_times(LATENT)}.",
        "",
    ]
    names = list(dict.fromkeys(entry["update"] for entry in found["accuracy"]))
    rows = []
    for name in names:
        entries = {e["values"]: e for e in found["accuracy"] if e["update"] == name}
        cells = [name]
        for values in VALUES:
            entry = entries[_name(values)]
            cells += [number(entry["kernel"], ".0e"), number(entry["reference"], ".0e")]
        rows.append(cells)
    head = ["update"]
    for values in VALUES:
        head += [f"T in {_name(values)}: kernel", "reference"]
    return [*lines, *table(head, rows), ""]


def _speed_page(found: dict[str, Any]) -> list[str]:
    lines = [
        "### Bytes a second",
        "",
        "Of the least traffic that an update needs (the head of its file in `kernels/`), over the "
        "time it takes, as a share of a plain copy of buffers of the same shape in the same run; "
        "and its time as a multiple of the fastest way's. Buffers are rotated, so that they come "
        "cold from memory, and results go to memory of their own: on the CPU its first touch is "
        "part of every way but torch.optim's Adam, which works in place and takes no sums.",
        "",
    ]
    on_gpu = found["device"] != "cpu"
    for shape, rate in found["copy"].items():
        entries = [entry for entry in found["speed"] if entry["shape"] == shape]
        ways = list(dict.fromkeys(way for entry in entries for way in entry["seconds"]))
        rows = []
        for entry in entries:
            seconds = entry["seconds"]
            fastest = min(seconds, key=seconds.get)
            share = entry["bytes"] / seconds[fastest] / rate
            cells = [entry["update"], entry["values"], fastest, number(100 * share, ".0f")]
            for way in ways:
                ratio = seconds[way] / seconds[fastest] if way in seconds else None
                cells.append(number(ratio, ".2f"))
            if on_gpu:
                call = entry["call_seconds"]["kernel"]
                cells.append(number(1e6 * call, ".1f"))
            rows.append(cells)
        lines += [f"{shape}: a copy moves {rate / 1e9:.1f} GB/s.", ""]
        head = ["update", "T in", "fastest", "% of a copy", *(f"{way}, times" for way in ways)]
        head += ["to start the kernel, us"] * on_gpu
        lines += [*table(head, rows, words=3), ""]
    return lines


def _code_page(found: dict[str, Any]) -> list[str]:
    if not found["code"]:
        return []
    rows = []
    for entry in found["code"]:
        if entry["kernel"] == "_totals_kernel" or entry["values"] != "float32":
            continue
        wide = [sum(width == 16 for width in entry[kind]) for kind in ("loads", "stores")]
        rows.append(
            (
                f"`{entry['operator']}`",
                f"sm_{entry['arch']}",
                str(wide[0]),
                str(entry["registers"]),
                str(entry["spilt"]),
            )
        )
    return [
        "### Machine code",
        "",
        "With all that an update can be asked for (memory 5 for Anderson's). Blocks are 2048 "
        "elements of 128 threads, so that one load of 16 bytes a thread is one byte an element: "
        "the bytes an element that the code reads are those of its operands, each once.",
        "",
        *table(("operator", "GPU", "bytes read an element", "registers", "bytes spilt"), rows, 2),
        "",
    ]


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--quick", action="store_true", help="one shape, no torch.compile")
    parser.add_argument("--accuracy", action="store_true", help="print that part as JSON, no more")
    options = parser.parse_args()
    if options.accuracy:
        with torch.no_grad():
            print(json.dumps(ready_for_json(accuracy("cpu"))))
        return
    check_folder(options.out)
    found = ready_for_json(measure(quick=options.quick))
    print(markdown(found))
    write_json(options.out / "kernels.json", found)


if __name__ == "__main__":
    main()
