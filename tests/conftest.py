"""Shared fixtures. Row independence is tested bit for bit, so nothing here depends on threads."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
