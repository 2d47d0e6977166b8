"""fixpoint.testing needs Hypothesis; fixpoint does not."""

import builtins
import subprocess
import sys

import pytest


def test_fixpoint_itself_imports_no_hypothesis():
    code = "import fixpoint, sys; print('hypothesis' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_without_hypothesis_the_import_says_what_to_install(monkeypatch):
    original = builtins.__import__

    def refuse(name, *arguments, **options):
        if name.split(".")[0] == "hypothesis":
            raise ModuleNotFoundError("No module named 'hypothesis'", name="hypothesis")
        return original(name, *arguments, **options)

    for name in list(sys.modules):
        if name.split(".")[:2] == ["fixpoint", "testing"]:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r"pip install 'fixpoint-torch\[test\]'"):
        original("fixpoint.testing")
