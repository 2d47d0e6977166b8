"""The page on solvers, from what `solvers` measured."""

from __future__ import annotations

import math
from typing import Any

from benchmarks.shared.tables import table

OWN = "fixpoint"
Found = dict[str, Any]


def markdown(found: Found) -> str:
    """The page of the sections that are stored."""
    lines = [
        "# Solvers compared",
        "",
        "How many evaluations of a map G a solver needs until |z - G z| is a millionth of what it "
        "was at the start, and whether its word can be trusted. Measure again with `make solvers` "
        "(`python -m benchmarks.solvers --out docs`).",
        "",
    ]
    lines += _in_short(found)
    if "comparison" in found:
        lines += _comparison(found["comparison"])
    if "generated" in found:
        lines += _generated(found["generated"])
    return "\n".join(lines)


# ---------------------------------------------------------------- one solver, one problem


def _name(solver: Found) -> str:
    return f"{solver['library']} {solver['method']}"


def _reached(solver: Found) -> int:
    return sum(outcome["evaluations"] is not None for outcome in solver["outcomes"])


def _cell(outcome: Found) -> str:
    """Evaluations; a dash where the target was not reached; a star at a false success."""
    shown = "–" if outcome["evaluations"] is None else str(outcome["evaluations"])
    return shown + "*" * outcome["false_success"]


def _best(solvers: list[Found], index: int) -> tuple[int, str] | None:
    """The fewest evaluations on a problem, and the name of their solver."""
    counts = [(solver["outcomes"][index]["evaluations"], _name(solver)) for solver in solvers]
    return min(((count, name) for count, name in counts if count is not None), default=None)


def _false_successes(solvers: list[Found]) -> int:
    return sum(outcome["false_success"] for solver in solvers for outcome in solver["outcomes"])


def _mean_ratio(ratios: list[float]) -> str:
    return f"{math.exp(sum(map(math.log, ratios)) / len(ratios)):.2f}" if ratios else "–"


def _in_short(found: Found) -> list[str]:
    """The claims, with the numbers of this run."""
    rows = []
    if "comparison" in found:
        comparison = found["comparison"]
        solvers = comparison["solvers"]
        own, others = _sides(solvers)
        default = _default(comparison)
        untuned = [solver for solver in others if not solver["tuned"]]
        count = len(comparison["problems"])
        for words, group in (
            ("fixpoint, nothing chosen", [default]),
            ("fixpoint, the best iterator", own),
            ("others, the best with defaults", untuned),
            ("others, the best of all", others),
        ):
            best = max(group, key=_reached, default=None)
            if best is not None:
                rows.append(
                    (words, _name(best), f"{_reached(best)} of {count}", _false_successes([best]))
                )
    lines = ["## In short", ""]
    if rows:
        cells = [(words, name, reached, str(false)) for words, name, reached, false in rows]
        head = ("", "solver", "problems solved", "false successes")
        lines += [*table(head, cells, words=2), ""]
    if "generated" in found:
        families = found["generated"]["families"]
        names = list(families[0]["methods"])
        counts = {name: sum(line["methods"][name]["false"] for line in families) for name in names}
        total = sum(line["problems"] for line in families)
        listed = ", ".join(f"{name} {false}" for name, false in counts.items())
        lines += [f"False successes on {total:,} generated problems: {listed}.", ""]
    return lines


def _sides(solvers: list[Found]) -> tuple[list[Found], list[Found]]:
    """fixpoint's solvers, and those of others that need no derivatives."""
    own = [solver for solver in solvers if solver["library"] == OWN]
    others = [solver for solver in solvers if solver["library"] != OWN]
    return own, [solver for solver in others if not solver["derivatives"]]


def _default(comparison: Found) -> Found:
    return next(
        solver for solver in comparison["solvers"] if _name(solver) == comparison["default"]
    )


# ---------------------------------------------------------------- the comparison


def _comparison(found: Found) -> list[str]:
    solvers, count = found["solvers"], len(found["problems"])
    lines = [found["machine"], ""]
    versions = list(found["libraries"].items())
    lines += [*table(("library", "version"), versions, words=2), ""]
    lines += [
        f"{count} problems, float64, one row each, at most {found['budget']} evaluations. The map "
        "itself counts: an evaluation counts whatever it is for, a finite difference and a step of "
        "a line search too, and the number given is that of the first point evaluated within the "
        "target, whatever the solver's own test says. That test is set to the same target, and "
        "judged at the point that the solver returns: a *false success* is one claimed while the "
        "residual there is above the target. A solver that gave up early was run again with a "
        "tolerance of a thousandth of the target, and is judged by that run.",
        "",
        "## Totals",
        "",
        "*Tuned*: settings that were chosen for these problems, no line search and little "
        "regularisation; the other solvers have their defaults, but for JAXopt's Broyden, whose "
        "line search asks for gradients. *With derivatives*: it asks for the derivative of G along "
        "a direction, which counts as an evaluation here and is not to be had from a black box. "
        "*Times the best*: the geometric mean, over the problems reached, of the evaluations over "
        "the fewest that any solver without derivatives needs.",
        "",
        *_totals(solvers, count),
        "",
        *_default_against_others(found),
        "## Evaluations",
        "",
        "A dash: not reached.",
        "",
    ]
    for library in dict.fromkeys(_name_of_table(solver) for solver in solvers):
        chosen = [solver for solver in solvers if _name_of_table(solver) == library]
        lines += [f"### {library}", "", *_evaluations(found, chosen), ""]
    rows = [
        (problem["name"], problem["note"], str(problem["unknowns"]), str(problem["plain"] or "–"))
        for problem in found["problems"]
    ]
    head = ("problem", "note", "unknowns", "evaluations of z = G(z)")
    return [*lines, "## The problems", "", *table(head, rows, words=2), ""]


def _name_of_table(solver: Found) -> str:
    return solver["library"] + ", tuned" * bool(solver["tuned"])


def _totals(solvers: list[Found], count: int) -> list[str]:
    allowed = [solver for solver in solvers if not solver["derivatives"]]
    best = [_best(allowed, index) for index in range(count)]
    rows = []
    for solver in sorted(solvers, key=_reached, reverse=True):
        outcomes = solver["outcomes"]
        ratios = [
            outcome["evaluations"] / least[0]
            for outcome, least in zip(outcomes, best, strict=True)
            if outcome["evaluations"] is not None and least is not None
        ]
        kind = "tuned" if solver["tuned"] else "with derivatives" * solver["derivatives"]
        claims = [outcome["claimed"] for outcome in outcomes]
        silent = None in claims and True not in claims
        name = f"**{_name(solver)}**" if solver["library"] == OWN else _name(solver)
        claimed = "no test" if silent else str(sum(map(bool, claims)))
        reached = f"{_reached(solver)} of {count}"
        false_cell = "–" if silent else str(_false_successes([solver]))
        rows.append((name, kind, reached, _mean_ratio(ratios), claimed, false_cell))
    head = ("solver", "", "reached", "times the best", "successes claimed", "false")
    return table(head, rows, words=2)


def _default_against_others(found: Found) -> list[str]:
    """Our default against the best of the others, problem by problem."""
    default = _default(found)
    rivals = _sides(found["solvers"])[1]
    untuned = [solver for solver in rivals if not solver["tuned"]]
    rows = []
    ratios: dict[str, list[float]] = {"untuned": [], "tuned": []}
    for index, problem in enumerate(found["problems"]):
        ours = default["outcomes"][index]
        cells = [problem["name"]]
        numbers = [_cell(ours)]
        for key, group in (("untuned", untuned), ("tuned", rivals)):
            best = _best(group, index)
            cells.append("–" if best is None else best[1])
            numbers.append("–" if best is None else str(best[0]))
            if best is None or ours["evaluations"] is None:
                numbers.append("–")
                continue
            ratio = ours["evaluations"] / best[0]
            ratios[key].append(ratio)
            numbers.append(f"{ratio:.2f}")
        rows.append((*cells, *numbers))
    means = [_mean_ratio(ratios[key]) for key in ("untuned", "tuned")]
    rows.append(("geometric mean", "", "", "", "", means[0], "", means[1]))
    chosen = (
        "`solve` without an iterator"
        if found["default"].endswith("default")
        else f"`{found['default'].removeprefix(OWN + ' ')}`, its probe included"
    )
    head = ("problem", "best with defaults", "best of all", "ours")
    return [
        f"## What a user gets who chooses nothing: {chosen}",
        "",
        "Against the best of the others, which differs from problem to problem, so that nobody "
        "gets it without trying them all. *Ratio*: ours over it. Solvers with derivatives are left "
        "out.",
        "",
        *table((*head, "with defaults", "ratio", "of all", "ratio"), rows, words=3),
        "",
    ]


def _evaluations(found: Found, solvers: list[Found]) -> list[str]:
    rows = [
        (problem["name"], *(_cell(solver["outcomes"][index]) for solver in solvers))
        for index, problem in enumerate(found["problems"])
    ]
    count = len(found["problems"])
    rows.append(("reached", *(f"{_reached(solver)} of {count}" for solver in solvers)))
    return table(("problem", *(solver["method"] for solver in solvers)), rows)


# ---------------------------------------------------------------- generated problems


def _generated(found: Found) -> list[str]:
    families = found["families"]
    names = list(families[0]["methods"])
    problems = sum(family["problems"] for family in families)
    lines = [
        "## Zeros that are none",
        "",
        f"{problems:,} generated problems T z = 0 of 8 numbers, half in float64 and half in "
        "float32, each at a scale of its own from 1e-6 to 1e6, as rows of batches: `solve` with "
        f"its tolerances as they are and at most {found['max_iterations']} iterations. Whether a "
        "problem has a zero is known by its construction. A success is false where there is no "
        "zero, or where the residual of the returned point, evaluated again in float64, is beyond "
        "the tolerance. Where there is no zero, only a row that runs away can be called a success: "
        "its norm grows until the relative tolerance covers a residual that does not fall.",
        "",
        found["machine"],
        "",
    ]
    for solvable in (True, False):
        chosen = [family for family in families if family["solvable"] == solvable]
        key = "solved" if solvable else "false"
        rows = [
            (
                family["family"],
                str(family["problems"]),
                *(str(family["methods"][name][key]) for name in names),
            )
            for family in chosen
        ]
        heading = "with a zero: solved" if solvable else "without a zero: false successes"
        lines += [*table((heading, "problems", *names), rows), ""]
    totals = [
        (
            words,
            *(str(sum(family["methods"][name][key] for family in families)) for name in names),
        )
        for words, key in (
            ("false successes", "false"),
            ("of them beyond the tolerance", "beyond"),
            ("true successes", "solved"),
        )
    ]
    return [*lines, *table(("in all", *names), totals), ""]
