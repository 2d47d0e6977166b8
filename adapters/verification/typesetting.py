"""Numbers and formulas as the findings and the page of `fixpoint verify` show them."""

from __future__ import annotations

import math
import re
from html import escape

from fixpoint.adapters.verification.fitted_line import Line

GREEK = {"alpha": "α", "beta": "β", "lambda": "λ", "rho": "ρ"}


def as_part(count: int, whole: int) -> str:
    """`count` of `whole` crops, in words."""
    if whole == 1:
        return "the one crop" if count else "none (there is one crop)"
    if count in (0, whole):
        return f"all {whole} crops" if count else f"none of {whole} crops"
    return f"{count} of {whole} crops"


def as_number(value: float, form: str) -> str:
    """A number as text; "-" for NaN."""
    return "-" if math.isnan(value) else format(value, form)


def as_cell(value: float, form: str) -> str:
    """A number as HTML; a dash for NaN."""
    return typeset(as_number(value, form)) if not math.isnan(value) else "–"


def typeset(text: str) -> str:
    """A sentence as HTML, with its formulas typeset."""
    text = re.sub(r"\bsum_(?=\w)", "Σ_", text)
    text = re.sub(r"<(T [^<>=]*)>", r"⟨\1⟩", text)
    for plain, sign in (("<=", "≤"), (">=", "≥"), ("->", "→"), ("||", "‖"), (" - ", " − ")):
        text = text.replace(plain, sign)
    text = re.sub(r"(?<![\w.)])-(?=[\d.]|inf\b)", "−", text)
    text = re.sub(r"\binf\b", "∞", text)
    for name, letter in GREEK.items():
        text = re.sub(rf"\b{name}\b", letter, text)
    text = escape(text).replace(" - ", " − ")
    text = re.sub(r"\^\{([^}]*)\}|\^([\w∞]+)", r"<sup>\1\2</sup>", text)
    return re.sub(r"_\{([^}]*)\}|(?<=Σ)_(\w+)", r"<sub>\1\2</sub>", text)


def as_db(value: float) -> str:
    return f"{as_number(value, '.1f')} dB"


def as_signed(value: float, form: str = ".1f") -> str:
    return format(value, f"+{form}")


def as_interval(line: Line) -> str:
    return f"{as_signed(line.low)} to {as_signed(line.high)}"
