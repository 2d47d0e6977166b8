"""The section on an inversion against the limits of the machine."""

from __future__ import annotations

from typing import Any

from benchmarks.shared.tables import mebibytes, number, table


def markdown(results: dict[str, Any]) -> str:
    """Two tables of what `measure` found."""
    peaks = ", ".join(
        f"{name} {rate / 1e12:.{0 if rate > 1e14 else 2}f} TFLOP/s"
        for name, rate in results["peak_flops"].items()
    )
    without_gpu = "**the CPU, because there is no GPU: a small part, to try the program**"
    place = results["gpu"] or without_gpu
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
            [evaluation_cells(row) for row in results["evaluations"]],
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


def evaluation_cells(row: dict[str, Any]) -> tuple[str, ...]:
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
