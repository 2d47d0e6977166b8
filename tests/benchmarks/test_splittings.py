"""fixpoint's splittings against other libraries."""

import json
from pathlib import Path

from benchmarks.shared import stored as stored_results
from benchmarks.splittings import comparison, libraries, sizes
from benchmarks.splittings import page as splittings_page

ROOT = Path(__file__).parents[2]


def test_the_page_on_other_libraries_is_rendered_from_what_was_measured():
    found = json.loads((ROOT / "docs" / "results" / "splittings.json").read_text())
    assert not found["quick"]
    page = (ROOT / "docs" / "splittings-benchmark.md").read_text()
    assert splittings_page.markdown(found) == page


def test_a_library_that_is_missing_is_named_and_the_rest_is_measured(monkeypatch):
    absent = {name: ("none", "a_module_that_is_not_there") for name in libraries.MODULES}
    monkeypatch.setattr(libraries, "MODULES", absent)
    size = sizes.Size(2, 5, 4, (2, 4), (6, 10), 12, 8, 2, 40)
    measured = stored_results.ready_for_json(comparison.measure(size, absent))
    found = json.loads(json.dumps(measured, allow_nan=False))
    for said in found["libraries"].values():
        assert said == {
            "missing": "ModuleNotFoundError: No module named 'a_module_that_is_not_there'"
        }
    assert {way["library"] for way in found["overhead"]["ways"]} == {"fixpoint"}
    assert all(way["evaluations"] == 6 for way in found["overhead"]["ways"])
    deep = found["accuracy"][-1]["ways"]
    assert any(way["iterations"] for way in deep)
    text = splittings_page.markdown(found)
    assert text.count("missing: `ModuleNotFoundError") == len(absent)
    assert "overhead below SciPy's | not measured: missing |" in text
    assert "nan" not in text.lower()
