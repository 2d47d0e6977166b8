"""Bars inside the code of a table: `\\|` on hosting sites, a plain `|` for Python-Markdown."""

import re
from typing import Any

ROW = re.compile(r"^\|.*$", re.MULTILINE)
CODE = re.compile(r"`[^`]+`")


def on_page_markdown(markdown: str, **_: Any) -> str:
    return ROW.sub(lambda row: CODE.sub(_plain_bars, row[0]), markdown)


def _plain_bars(code: re.Match[str]) -> str:
    return code[0].replace(r"\|", "|")
