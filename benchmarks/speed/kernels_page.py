"""The section on the fused updates."""

from __future__ import annotations

from typing import Any

from benchmarks.shared.tables import number, table
from benchmarks.speed.updates import LATENT, VALUES, dtype_name


def markdown(found: dict[str, Any]) -> str:
    """A section of docs/benchmarks.md."""
    on_gpu = found["device"] != "cpu"
    lines = ["## The fused updates", "", found["machine"], ""]
    if on_gpu:
        lines += [f"GPU: {found['device']}.", ""]
    else:
        lines += [
            "**There was no GPU.** The times below are those of the references, which serve the "
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
            entry = entries[dtype_name(values)]
            cells += [number(entry["kernel"], ".0e"), number(entry["reference"], ".0e")]
        rows.append(cells)
    head = ["update"]
    for values in VALUES:
        head += [f"T in {dtype_name(values)}: kernel", "reference"]
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


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
