"""A small run of `fixpoint verify`, for the tests of what it computes, says and draws."""

import json

import pytest
from verification_cases import SMALL

from fixpoint.adapters.commands.main import main


@pytest.fixture(scope="session")
def verify_run(tmp_path_factory):
    """The JSON and the HTML of one small run, and what it printed to the terminal."""
    folder = tmp_path_factory.mktemp("verify")
    shown = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.print", lambda *parts, **_: shown.append(" ".join(parts)))
        arguments = ["--out", str(folder / "out"), "--json", str(folder / "verify.json")]
        assert main(["verify", *SMALL, *arguments]) == 0
    text = (folder / "verify.json").read_text()
    html = (folder / "out" / "verify.html").read_text(encoding="utf-8")
    return json.loads(text), html, "\n".join(shown)
