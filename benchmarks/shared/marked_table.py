"""The part of a page that a benchmark writes, between two marks."""

from __future__ import annotations

from pathlib import Path

from fixpoint.whole_file import write_whole

BEGIN, END = "<!-- table -->", "<!-- end of table -->"


def with_table(page: str, told: str) -> str:
    """The page with what stands between its two marks renewed."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n{told}\n\n{END}{rest.split(END)[1]}"


def fill_in(page: Path, told: str) -> None:
    """Renew the table of a page, where there is one."""
    if page.is_file():
        text = with_table(page.read_text(encoding="utf-8"), told)
        write_whole(page, lambda temporary: temporary.write_text(text, encoding="utf-8"))
