"""The model of the tests of the watermark commands."""

import pytest
from watermark_cases import Exact, load

from fixpoint.adapters.commands.watermark import recovery


@pytest.fixture
def model(monkeypatch):
    exact = Exact()
    load(monkeypatch, exact)
    monkeypatch.setattr(recovery, "recover_noise", exact.recover)
    return exact
