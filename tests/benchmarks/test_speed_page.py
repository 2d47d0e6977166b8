"""The page on speed."""

from pathlib import Path

from benchmarks.speed import page as speed_page

ROOT = Path(__file__).parents[2]


def test_the_page_of_benchmarks_is_rendered_from_what_was_measured():
    stored = ROOT / "docs" / "results"
    assert {path.stem for path in stored.glob("*.json")} >= set(speed_page.SECTIONS)
    assert speed_page.page(ROOT / "docs") == (ROOT / "docs" / "benchmarks.md").read_text()
