"""Watermarks: a few pictures, and the page."""

from pathlib import Path

from benchmarks.shared import stored as stored_results
from benchmarks.watermark import cases, classification
from benchmarks.watermark import page as watermark_page

ROOT = Path(__file__).parents[2]


def test_the_page_is_rendered_from_what_was_measured():
    names = [f"watermark_{part}" for part in watermark_page.PARTS]
    found = {
        name.removeprefix("watermark_"): results
        for name, results in stored_results.load_all(ROOT / "docs", names).items()
    }
    assert "diffusion" in found
    page = (ROOT / "docs" / "watermark-benchmark.md").read_text()
    assert watermark_page.markdown(found) == page


def test_the_watermark_benchmark_runs_on_a_few_pictures():
    case = cases.Case("flow", 1, 1.0, "backward-euler", {})
    model = case.load()
    made = cases.make(model, case, cases.LAST, 1)
    assert made.picture.shape == (3, 3, 128, 128)
    found = classification.recovered(model, case, made, cases.METHODS["encoder"])
    assert found["pictures"] == 3
    assert len(found["hits"]) == 3
    assert classification.judged(made, made.noise)["right"] == 3
    low, high = watermark_page.wilson(97, 100)
    assert 0.9 < low < 0.97 < high < 1
