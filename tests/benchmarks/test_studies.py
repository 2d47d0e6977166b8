"""The tables of the studies are what their stored results say."""

from importlib import import_module
from pathlib import Path

import pytest

from benchmarks.shared.pages import with_table
from benchmarks.shared.stored import load

DOCS = Path(__file__).parents[2] / "docs"
STUDIES = {
    "autoencoder_classes": "autoencoders.md",
    "diffusion_inversion": "diffusion-inversion.md",
    "editing": "editing.md",
    "priors": "priors.md",
    "video": "video.md",
}


@pytest.mark.parametrize("name", STUDIES)
def test_the_table_is_rendered_from_what_was_measured(name):
    page = (DOCS / STUDIES[name]).read_text(encoding="utf-8")
    table = import_module(f"benchmarks.studies.{name}").markdown(load(DOCS, name))
    assert with_table(page, table) == page
