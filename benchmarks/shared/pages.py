"""Pages of the documentation, written whole or between two marks."""

from __future__ import annotations

from pathlib import Path

from fixpoint.checkpoints.whole_file import write_whole

BEGIN, END = "<!-- table -->", "<!-- end of table -->"


def write_page(page: Path, text: str) -> None:
    """Replace a page; an interrupted run leaves the old one."""
    write_whole(page, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def replace_between(text: str, begin: str, end: str, content: str) -> str:
    """The text with new content between two marks, each of which occurs once."""
    before, rest = text.split(begin)
    _, after = rest.split(end)
    return f"{before}{begin}{content}{end}{after}"


def with_table(page: str, table: str) -> str:
    """The page with a new table between its two marks."""
    return replace_between(page, BEGIN, END, f"\n\n{table}\n\n")


def renew_table(page: Path, table: str) -> None:
    """Print a table, and put it between the marks of a page where there is one."""
    if page.is_file():
        write_page(page, with_table(page.read_text(encoding="utf-8"), table))
    print(table)
