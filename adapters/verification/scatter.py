"""Figure 2 of the paper as inline SVG: cocoercivity against convergence, coloured by accuracy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from itertools import pairwise

from fixpoint.adapters.verification.fitted_line import Line
from fixpoint.adapters.verification.typesetting import as_cell

WIDTH, HEIGHT = 380, 290
LEFT, RIGHT, TOP, BOTTOM = 60, 12, 10, 44


def scatter(
    points: Sequence[tuple[float, float, float, int]],
    line: Line | None,
    x_label: str,
    y_label: str,
    needed: float | None = None,
) -> str:
    """Points and a fitted line as inline SVG, drawn in the colours of the page.

    Args:
        points: abscissa, ordinate, NMSE in dB (the colour; NaN for none), number of the crop.
        line: fitted to the points.
        x_label, y_label: of the axes.
        needed: the ratio that the theorem requires; marked if it lies inside the axes.
    """
    xs, ys = [x for x, *_ in points], [y for _, y, *_ in points]
    if line is not None:
        ys += [line.intercept + line.slope * x for x in (min(xs), max(xs))]
    (x_low, x_high), (y_low, y_high) = _range(xs), _range(ys)

    def across(x: float) -> float:
        return LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)

    def down(y: float) -> float:
        return HEIGHT - BOTTOM - (y - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(y_label)} against '
        f'{escape(x_label)}, {len(points)} points">'
    ]
    base = HEIGHT - BOTTOM
    for tick, text in _ticks(x_low, x_high):
        x = across(tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{base}"/>')
        parts.append(f'<text x="{x:.1f}" y="{base + 17}" text-anchor="middle">{text}</text>')
    for tick, text in _ticks(y_low, y_high):
        y = down(tick)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
    marks = [(0.0, "0: not cocoercive")]
    if needed is not None:
        marks.append((needed, f"theorem: {needed:g}"))
    for value, text in marks:
        if x_low < value < x_high:
            x = across(value)
            side = "end" if x > WIDTH / 2 else "start"
            shift = -4 if side == "end" else 4
            parts.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{base}"/>')
            parts.append(
                f'<text class="mark" x="{x + shift:.1f}" y="{TOP + 11}" text-anchor="{side}">'
                f"{text}</text>"
            )
    if line is not None:
        ends = [(x, line.intercept + line.slope * x) for x in (min(xs), max(xs))]
        (x1, y1), (x2, y2) = ends
        parts.append(
            f'<line class="fit" x1="{across(x1):.1f}" y1="{down(y1):.1f}" x2="{across(x2):.1f}" '
            f'y2="{down(y2):.1f}"/>'
        )
    colours = _colours([nmse for *_, nmse, _ in points])
    for (x, y, nmse, index), colour in zip(points, colours, strict=True):
        parts.append(
            f'<circle cx="{across(x):.1f}" cy="{down(y):.1f}" r="5" fill="{colour}"><title>crop '
            f"{index}: ratio {x:.3g}, {escape(y_label)} {y:.1f}, NMSE {as_cell(nmse, '.1f')} dB"
            "</title></circle>"
        )
    middle = (TOP + base) / 2
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 8}" text-anchor="middle">'
        f"{escape(x_label)}</text>"
        f'<text transform="translate(14 {middle:.0f}) rotate(-90)" text-anchor="middle">'
        f"{escape(y_label)}</text></svg>"
    )
    return "".join(parts)


def _range(values: Sequence[float]) -> tuple[float, float]:
    """The span of the values with a margin; a little around them where they are all equal."""
    low, high = min(values), max(values)
    room = 0.07 * (high - low) or max(1e-3, 0.05 * abs(low))
    return low - room, high + room


def _ticks(low: float, high: float) -> list[tuple[float, str]]:
    from matplotlib.ticker import MaxNLocator

    values = [
        float(v)
        for v in MaxNLocator(nbins=5, steps=[1, 2, 5, 10]).tick_values(low, high)
        if low <= v <= high
    ]
    step = min((b - a for a, b in pairwise(values)), default=1.0)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return [(value, as_cell(round(value, decimals) + 0.0, f".{decimals}f")) for value in values]


def _colours(values: Sequence[float]) -> list[str]:
    """Dark for the most accurate; grey where the accuracy is not finite."""
    finite = [value for value in values if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    return [
        shade((value - low) / (high - low) if high > low else 0.0)
        if math.isfinite(value)
        else "#888888"
        for value in values
    ]


def shade(part: float) -> str:
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return to_hex(colormaps["viridis"](part))
