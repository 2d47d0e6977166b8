"""The page of what was measured."""

from __future__ import annotations

from typing import Any

from benchmarks.shared.tables import number, table


def markdown(found: dict[str, Any]) -> str:
    lines = [
        "# fixpoint and others",
        "",
        "What an iteration costs beyond the map, how many evaluations and how much time an accuracy"
        " takes, and what a batch saves, against SciPy, PyProximal, torchdeq, deepinv and JAXopt; "
        "float64, all in one process on one thread.",
        "",
        found["machine"],
        "",
        *table(
            ("library", "version"),
            [
                (name, entry.get("version") or f"missing: `{entry['missing']}`")
                for name, entry in found["libraries"].items()
            ],
            words=2,
        ),
        "",
        f"Times are medians of {found['rounds']} rounds ({2 * found['rounds']} for overheads, "
        f"{max(2, found['rounds'] // 5)} for batches), which go through all methods in turn; in "
        "brackets the quartiles, which are far apart where the machine had other work. Every method"
        " runs for a fixed number of iterations with its stopping test in place and out of reach. "
        "Measure again with `python -m benchmarks.splittings`.",
        "",
    ]
    return "\n".join(
        [
            *lines,
            *_claims_page(found),
            *_overhead_page(found),
            *_accuracy_page(found["accuracy"]),
            *_batching_page(found["batching"]),
        ]
    )


def claims(found: dict[str, Any]) -> list[tuple[str, bool | None]]:
    """Claims, and whether they hold in this run; None where there is nothing to compare with."""
    results = []
    for family, words in (("plain", "plain iteration"), ("Anderson", "Anderson")):
        ways = [way for way in found["overhead"]["ways"] if way["family"] == family]
        ours = [w for w in ways if w["library"] == "fixpoint"]
        own = max(w["overhead_us"]["median"] for w in ours)
        for library in ("torchdeq", "deepinv", "SciPy"):
            theirs = [w["overhead_us"]["median"] for w in ways if w["library"] == library]
            text = f"{words}: overhead below {library}'s"
            if theirs:
                text += f" ({own:.0f} against {min(theirs):.0f} microseconds)"
            results.append((text, own < min(theirs) if theirs else None))
    for line in found["batching"]:
        ratio = line["ratio"]["median"]
        text = f"{line['method']}, {line['width']} numbers: a row at batch {line['batch']} at "
        results.append((f"{text}least 100 times cheaper ({ratio:.0f} times)", ratio >= 100))
    return results


def _claims_page(found: dict[str, Any]) -> list[str]:
    words = {True: "yes", False: "**no**", None: "not measured: missing"}
    rows = [(text, words[answer]) for text, answer in claims(found)]
    lines = ["## In short", "", *table(("claim", "in this run"), rows, words=2), ""]
    lines += [
        "Against the best of the others, to the same accuracy: the time of fixpoint's fastest "
        "method over that of theirs, and the fewest evaluations of both.",
        "",
    ]
    head = ["problem", "fastest of the others", "times their time"]
    head += ["fewest evaluations, others", "fixpoint"]
    return [*lines, *table(head, _against_the_best(found["accuracy"]), words=2), ""]


def _against_the_best(parts: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    rows = []
    for part in parts:
        reached = [way for way in part["ways"] if way["iterations"]]
        ours = [way for way in reached if way["library"] == "fixpoint"]
        theirs = [way for way in reached if way["library"] != "fixpoint"]
        if not ours or not theirs:
            continue
        best = theirs[0]  # they are in the order of their times
        ratio = ours[0]["milliseconds"]["median"] / best["milliseconds"]["median"]
        fewest = [min(way["evaluations"] for way in ways) for ways in (theirs, ours)]
        rows.append(
            (
                f"{part['problem']}: {part['criterion']}",
                f"{best['library']}, {best['method']}",
                number(ratio),
                *(number(value, ".0f") for value in fewest),
            )
        )
    return rows


def _spread(value: dict[str, float] | None, form: str = ".1f") -> str:
    if value is None:
        return "–"
    low, high = number(value["low"], form), number(value["high"], form)
    return f"{number(value['median'], form)} [{low}, {high}]"


def _overhead_page(found: dict[str, Any]) -> list[str]:
    over = found["overhead"]
    own = "; ".join(f"{name} {_spread(value)}" for name, value in over["map_us"].items())
    lines = [
        "## Overhead",
        "",
        f"z = tanh(W z + b) with {over['width']} numbers and one row, {over['iterations']} "
        "iterations: microseconds per counted evaluation of the map, in all, and beyond the map's "
        f"own time in the same round ({own}). The map of SciPy is in NumPy, that of JAXopt in JAX; "
        "jitted, its whole loop is compiled and its evaluations are one an iteration. The clock "
        "cannot tell an overhead near 0 from one below it.",
        "",
    ]
    for family in ("plain", "plain, unwatched", "Anderson", "Broyden"):
        ways = [way for way in over["ways"] if way["family"] == family]
        ways.sort(key=lambda way: way["overhead_us"]["median"])
        rows = [
            (
                way["library"],
                way["method"],
                number(way["evaluations"], ".0f"),
                _spread(way["total_us"]),
                _spread(way["overhead_us"]),
                number(way["overhead_us"]["least"]),
            )
            for way in ways
        ]
        if rows:
            head = ["library", f"method ({family})", "evaluations", "in all, us"]
            head += ["overhead, us", "least"]
            lines += [*table(head, rows, words=2), ""]
    return lines


def _accuracy_page(parts: list[dict[str, Any]]) -> list[str]:
    lines = [
        "## To the same accuracy",
        "",
        "Judged on the point that is returned. Of each method with settings to choose, the one "
        "that needs the fewest evaluations among those tried, for every library, and the default.",
        "",
    ]
    for part in parts:
        rows = [
            (
                way["library"],
                way["method"],
                number(way["evaluations"], ".0f") if way["iterations"] else "not reached",
                _spread(way["milliseconds"], ".2f"),
            )
            for way in part["ways"]
        ]
        head = ("library", "method", part["unit"], "milliseconds")
        lines += [f"### {part['problem']}: {part['criterion']}", ""]
        lines += [*table(head, rows, words=2), ""]
    return lines


def _batching_page(rows: list[dict[str, Any]]) -> list[str]:
    first = rows[0]
    return [
        "## Many rows at once",
        "",
        f"z = tanh(W z + b), each row its own b, to a relative residual of 1e-6: {first['batch']} "
        f"rows in one `solve`, and {first['alone']} of them in a `solve` each.",
        "",
        *table(
            (
                "method",
                "numbers a row",
                "evaluations a row",
                "rows a second, batch",
                "rows a second, one by one",
                "microseconds a row, batch",
                "one by one",
                "times cheaper",
            ),
            [
                (
                    row["method"],
                    str(row["width"]),
                    number(row["evaluations"]),
                    number(1e6 / row["batch_us_per_row"]["median"], ",.0f"),
                    number(1e6 / row["single_us_per_row"]["median"], ",.0f"),
                    _spread(row["batch_us_per_row"]),
                    _spread(row["single_us_per_row"], ".0f"),
                    _spread(row["ratio"], ".0f"),
                )
                for row in rows
            ],
        ),
        "",
    ]
