"""The fused updates: accuracy against float64, bytes a second against a measured copy.

    python -m benchmarks.speed.kernels --out docs

On a GPU the Triton kernels are timed against eager torch, against `torch.compile` of the same
reference and against `torch.optim`'s fused Adam, on buffers that are rotated so that they come cold
from memory. Without one it says so: then the references are timed, which serve the CPU, and the
Triton kernels are checked in Triton's interpreter. `benchmarks.speed` runs this
and writes the page.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.shared.command import add_quick, command_line, parse
from benchmarks.shared.machine import machine_name
from benchmarks.shared.stored import load, ready_for_json, store
from benchmarks.speed.cold_timing import copy_rate, rotation, seconds_of_calls
from benchmarks.speed.kernels_page import markdown
from benchmarks.speed.updates import LATENT, UPDATES, VALUES, Buffers, dtype_name
from fixpoint import kernels
from fixpoint.kernels.device import AVAILABLE
from fixpoint.kernels.dispatch import REFERENCES

BATCHES = (1, 16, 128, 1024)
INSTALLED = importlib.util.find_spec("triton") is not None
VIDEO = (1, 4, 16, 40, 64)  # 16 frames of 320 x 512
COMPILED = (16, 1024)  # batches at which torch.compile is tried: it takes seconds each time


def measure(device: str | None = None, *, quick: bool = False) -> dict[str, Any]:
    """All measurements, on the GPU where there is one."""
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
    if device == "cpu" and INSTALLED and not interpreter:  # it is chosen when triton is imported
        return json_of_process("benchmarks.speed.kernels", "--accuracy", TRITON_INTERPRET="1")
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
                "values": dtype_name(values),
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
    """The largest error, relative to the largest number of each result."""
    errors = []
    for a, b in zip(found, exact, strict=True):
        errors.append(float((a.double() - b).abs().max() / b.abs().max()))
    return max(errors)


def speed(shape: tuple[int, ...], device: str, quick: bool) -> Iterator[dict[str, Any]]:
    """Seconds of every update at one shape: eager, compiled by torch, and by the kernel."""
    elements = torch.Size(shape).numel()
    for values in (torch.float32, torch.bfloat16) if device == "cuda" else (torch.float32,):
        # The least that any update reads: a state and a value.
        sets = [
            Buffers(shape, device, values, seed)
            for seed in rotation(elements * (4 + values.itemsize))
        ]
        for name, update in UPDATES.items():
            ways: dict[str, Callable[[Buffers], Any]] = {"eager": update.reference}
            if device == "cuda":
                ways["kernel"] = update.call
            if not quick and shape[0] in COMPILED:
                torch._dynamo.reset()  # it keeps no more than 8 compilations of a function
                compiled = torch.compile(REFERENCES[update.operator], dynamic=False)
                ways["torch.compile"] = lambda b, u=update, f=compiled: f(*u.arguments(b))
            seconds = {
                way: seconds_of_calls(function, sets, device) for way, function in ways.items()
            }
            if name == "Adam" and values == torch.float32:
                seconds["torch.optim fused"] = _fused_adam(sets, device)
            yield {
                "update": name,
                "shape": str(shape),
                "values": dtype_name(values),
                "bytes": elements * update.bytes(values),
                "seconds": {way: found["device"] for way, found in seconds.items()},
                "call_seconds": {way: found["host"] for way, found in seconds.items()},
            }


def _fused_adam(sets: list[Buffers], device: str) -> dict[str, float | None]:
    """Seconds of torch.optim's Adam, which computes no sums."""
    optimizers = []
    for buffers in sets:
        weight = torch.nn.Parameter(buffers.z)
        weight.grad = buffers.value
        optimizer = torch.optim.Adam([weight], lr=0.01, fused=True, capturable=device == "cuda")
        optimizer.step()
        optimizers.append(optimizer)
    return seconds_of_calls(lambda optimizer: optimizer.step(), optimizers, device)


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
    if not INSTALLED:
        return None
    return json_of_process("benchmarks.speed.kernel_code", "--json", "/dev/stdout")


def json_of_process(module: str, *arguments: str, **variables: str) -> Any:
    """The JSON that a module prints in a process with these environment variables."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-W", "ignore", "-m", module, *arguments]
    ended = subprocess.run(
        command,
        env=environment | variables,
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(ended.stdout)


def main(arguments: list[str] | None = None) -> None:
    parser = command_line(__spec__.name, __doc__, "results/kernels.json")
    add_quick(parser, "one shape and no torch.compile")
    parser.add_argument("--accuracy", action="store_true", help="print that part as JSON, no more")
    options = parse(parser, arguments)
    if options.accuracy:
        with torch.no_grad():
            print(json.dumps(ready_for_json(accuracy("cpu"))))
        return
    store(options.out, "kernels", measure(quick=options.quick))
    print(markdown(load(options.out, "kernels")))


if __name__ == "__main__":
    main()
