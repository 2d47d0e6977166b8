"""What the compiler makes of the Triton kernels: registers, spills, width of memory accesses.

    python -m benchmarks.speed.kernel_code --arch 80 90

Triton compiles for a GPU that is not there, so that this needs none. Every kernel is launched on
CPU tensors of the usual layouts; the launch is caught and compiled for the architectures named.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import triton
from triton._C.libtriton import native_specialize_impl
from triton.backends.compiler import BaseBackend, GPUTarget
from triton.compiler import ASTSource

from fixpoint import kernels
from fixpoint.kernels import launch
from fixpoint.kernels.dispatch import LAUNCHES

LATENTS = (4, 4, 64, 64)  # a batch of four latents of a 512 px picture


def launches(
    z: torch.Tensor, value: torch.Tensor, memory: int = 5, bare: bool = False
) -> dict[str, tuple[Any, ...]]:
    """The arguments of every operator's launch.

    All options at once, or as few as possible (`bare`).
    """
    batch = len(z)
    wide = torch.zeros_like(z, dtype=kernels.accumulation_dtype(z.dtype))
    differences = [wide] * memory
    done = torch.zeros(batch, dtype=torch.bool)
    numbers = torch.ones(batch, dtype=wide.dtype)
    weights = torch.ones(batch, memory, dtype=wide.dtype)
    scales = torch.ones(3, dtype=torch.float64)
    if bare:
        no = (None, None, None)  # neither a pair nor flags
        moments = [0.9, 0.9, 1e-8, 0.1, 1, 1]
        return {
            "row_sums": (z, value, None, None),
            "forward_step": (z, value, 0.5, None, False, *no),
            "inertial_km": (z, value, z, 0.5, 0.5, True, *no),
            "adam": (z, value, wide, wide, moments, None, True, *no),
            "anderson_mix": (z, value, [], [], weights[:, :0], 1.0, None, None),
            "gram_row": ([], value, value, None),
            "broyden_direction": (value, [], [], weights[:, :0], 1.0),
        }
    return {
        "row_dot": (z, value),
        "row_sums": (z, value, z, value),
        "forward_step": (z, value, 0.5, numbers, True, z, value, done),
        "inertial_km": (z, value, z, 0.5, 0.5, True, z, value, done),
        "adam": (z, value, wide, wide, [0.9, 0.9, 1e-8, 0.1, 1, 1], scales, True, z, value, done),
        "anderson_mix": (z, value, differences, differences, weights, 1.0, numbers, done),
        "gram_row": (differences, value, value, done),
        "halpern": (z, value, z, 0.5, numbers),
        "broyden_direction": (value, differences, differences, weights, 1.0),
        "broyden_products": (differences, differences, wide, wide, value),
    }  # fmt: skip


def compiled(name: str, arguments: tuple[Any, ...], arch: int) -> list[dict[str, Any]]:
    """The compiled kernels that the launch of an operator starts, one entry each."""
    found: list[dict[str, Any]] = []

    def catch(kernel: Any, programs: int, *given: Any, **constants: Any) -> None:
        names = list(kernel.arg_names)
        values = dict(zip(names, given, strict=False)) | constants
        code = _compile(kernel, [(each, values[each]) for each in names], arch)
        found.append({"operator": name, "kernel": kernel.fn.__name__, "arch": arch} | code)

    start, launch.start = launch.start, catch
    try:
        LAUNCHES[name](*arguments)
    finally:
        launch.start = start
    return found


def _compile(kernel: Any, arguments: list[tuple[str, Any]], arch: int) -> dict[str, Any]:
    signature: dict[str, Any] = {}
    constants: dict[tuple[int, ...], Any] = {}
    attributes: dict[tuple[int, ...], Any] = {}
    for i, (name, value) in enumerate(arguments):
        parameter = kernel.params[i]
        if parameter.is_constexpr:
            kind, key = "constexpr", value
        elif parameter.annotation_type:
            kind, key = parameter.annotation_type, None
        else:
            kind, key = native_specialize_impl(BaseBackend, value, False, True, True)
        signature[name] = kind
        for path, each, mark in _flat(kind, key, (i,)):
            if each == "constexpr":
                constants[path] = mark
            elif mark == "D":
                attributes[path] = [["tt.divisibility", 16]]
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)
    options = {"num_warps": launch.WARPS, "enable_fp_fusion": False}
    result = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
    return _read(result.asm["ptx"], result.asm["cubin"])


def _flat(kind: Any, key: Any, path: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], Any, Any]]:
    if isinstance(kind, tuple):
        for i, (each, mark) in enumerate(zip(kind, key, strict=True)):
            yield from _flat(each, mark, (*path, i))
    else:
        yield path, kind, key


def _read(ptx: str, cubin: bytes) -> dict[str, Any]:
    """Accesses of 16 bytes among those of global memory, registers and spilt bytes."""
    accesses = re.findall(r"(ld|st)\.global\S*?(?:\.v(\d))?\.b(\d+)", ptx)
    widths: dict[str, list[int]] = {"ld": [], "st": []}
    for kind, vector, bits in accesses:
        widths[kind].append(int(vector or 1) * int(bits) // 8)
    cuobjdump = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage = subprocess.run(
            [cuobjdump, "-res-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    registers = re.search(r"REG:(\d+)", usage)
    local = re.search(r"LOCAL:(\d+)", usage)
    stack = re.search(r"STACK:(\d+)", usage)
    if not (registers and local and stack):
        raise RuntimeError(f"cuobjdump does not report the usage of resources: {usage}")
    return {
        "loads": widths["ld"],
        "stores": widths["st"],
        "registers": int(registers[1]),
        "spilt": int(local[1]) + int(stack[1]),
    }


def awkward_operands() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """z and T z of odd sizes, strides and dtypes."""
    mixed = torch.zeros(3, 4, 5, 6, dtype=torch.float64)
    return [
        (torch.zeros(1, 1), torch.zeros(1, 1)),
        (torch.zeros(3, 41), torch.zeros(3, 41, dtype=torch.float16)),
        (torch.zeros(5, 4103, dtype=torch.bfloat16), torch.zeros(5, 4103, dtype=torch.bfloat16)),
        (mixed, mixed.to(memory_format=torch.channels_last)),
    ]


def all_kernels(arch: int, dtype: torch.dtype, value_dtype: torch.dtype) -> list[dict[str, Any]]:
    z = torch.zeros(LATENTS, dtype=dtype)
    value = torch.zeros(LATENTS, dtype=value_dtype)
    found = []
    for name, arguments in launches(z, value).items():
        found += compiled(name, arguments, arch)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        prog=f"python -m {__spec__.name}", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--arch", type=int, nargs="+", default=[80, 90])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--awkward", action="store_true", help="odd sizes, strides and dtypes")
    options = parser.parse_args()
    if options.awkward:
        for arch, (z, value) in itertools.product(options.arch, awkward_operands()):
            all_asked, bare = launches(z, value, memory=1), launches(z, value, bare=True)
            for name, arguments in (*all_asked.items(), *bare.items()):
                compiled(name, arguments, arch)
                print(f"sm_{arch} {name} {tuple(z.shape)} {z.dtype}: compiled")
        return
    found = []
    for arch in options.arch:
        for value_dtype in (torch.float32, torch.bfloat16):
            for entry in all_kernels(arch, torch.float32, value_dtype):
                entry["values"] = str(value_dtype).removeprefix("torch.")
                found.append(entry)
                if not options.json:
                    print(
                        f"sm_{arch} {entry['kernel']:22} {entry['values']:9} "
                        f"{entry['registers']:3} registers, {entry['spilt']} bytes spilt, "
                        f"loads of {sorted(set(entry['loads']))} bytes, "
                        f"stores of {sorted(set(entry['stores']))}"
                    )
    if options.json:
        options.json.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
