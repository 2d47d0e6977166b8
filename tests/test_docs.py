"""The documentation runs: the Python blocks of a page, in order, in one namespace.

Dead anchors, and pages outside the navigation, are found by `make docs`.
"""

import re
from pathlib import Path
from types import ModuleType

import pytest

import fixpoint

ROOT = Path(__file__).parents[1]
PAGES = sorted(ROOT.glob("docs/*.md")) + sorted(ROOT.glob("README.md"))
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#]+)[^)]*\)")
BESIDE = {"adapters", "iterators", "kernels", "proximal", "testing"}  # imported by their full name


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_blocks_of_a_page_run_in_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding="utf-8")
    namespace = {"__name__": "__main__"}
    for block in BLOCK.finditer(text):
        lines_above = text.count("\n", 0, block.start(1))
        source = "\n" * lines_above + block[1]  # a failure points at the line of the page
        exec(compile(source, str(page), "exec", dont_inherit=True), namespace)


@pytest.mark.parametrize("page", [*PAGES, *ROOT.glob("docs/api/*.md")], ids=lambda page: page.name)
def test_the_links_of_a_page_lead_somewhere(page):
    links = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]
    assert [link for link in links if not (page.parent / link).is_file()] == []


def test_every_public_package_has_a_page_in_the_reference():
    modules = {name for name in fixpoint.__all__ if isinstance(getattr(fixpoint, name), ModuleType)}
    pages = {page.stem for page in ROOT.glob("docs/api/*.md")}
    assert modules | BESIDE | {"fixpoint", "index"} <= pages
