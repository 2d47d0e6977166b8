"""Formulae become MathML while the site is built: a browser shows it without a script."""

import html
import re
from typing import Any

from latex2mathml.converter import convert

FORMULA = re.compile(
    r'<(span|div) class="arithmatex">(\\\(|\\\[)(.*?)(?:\\\)|\\\])</\1>', re.DOTALL
)
NAME = re.compile(
    r"(<msub>)?<m[io]>([a-z]{2,})</m[io]>(?(1)(<m([inr]|row)>(?:(?!</?msub>).)*?</m\4></msub>))"
    r"(?=(<mo stretchy=.false.>&#x00028;)?)"
)
THIN = '<mspace width="0.17em" />'
BAR = re.compile(r"<m[io]>(&#x0(?:2016|007C|27E8|27E9);)</m[io]>")


def on_page_content(content: str, **_: Any) -> str:
    """Replace what `pymdownx.arithmatex` marked as a formula, in a line or on lines of its own."""
    return FORMULA.sub(_mathml, content)


def _mathml(formula: re.Match[str]) -> str:
    tag, opening, latex = formula.groups()
    display = "block" if opening == r"\[" else "inline"
    mathml = convert(html.unescape(latex).strip(), display=display)
    mathml = NAME.sub(_named_function, mathml)
    # Bars and angles are as high as letters: stretched alone, the right one of a norm would sink.
    mathml = BAR.sub(r'<mo stretchy="false" lspace="0" rspace="0">\1</mo>', mathml)
    return f'<{tag} class="formula">{mathml}</{tag}>'


def _named_function(name: re.Match[str]) -> str:
    """`min`, `log`, `prox`: an upright word, apart from its neighbours but for a bracket."""
    opening, word, subscript = (name[group] or "" for group in (1, 2, 3))
    after = "" if name[5] else THIN
    return f"{THIN}{opening}<mi>{word}</mi>{subscript}{after}"
