"""Attribution: the page, and what its stored results say."""

import json
from pathlib import Path

import pytest

from benchmarks.shared.pages import with_table
from benchmarks.shared.stored import load
from benchmarks.studies.attribution.page import markdown
from benchmarks.studies.attribution.rates import summarised

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def stored():
    return load(DOCS, "attribution")


def test_the_page_is_rendered_from_what_was_measured(stored):
    page = (DOCS / "attribution.md").read_text(encoding="utf-8")
    assert with_table(page, markdown(stored)) == page
    assert stored["summary"] == json.loads(json.dumps(summarised(stored)))


def test_ours_tells_pictures_apart_at_least_as_well_as_the_others_where_nothing_was_harmed(stored):
    found = {name: cell["auc"] for name, cell in stored["summary"]["8 bit"].items()}
    assert found["ours"] == max(found.values())
