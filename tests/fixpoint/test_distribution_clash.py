"""`fixpoint-torch` and the other distribution `fixpoint`, side by side, in both orders."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import fixpoint
from fixpoint import distribution_clash
from fixpoint.distribution_clash import clash, warn_of_clash


def install(site, name, version):
    """Metadata as an installer leaves them."""
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (folder / "RECORD").write_text("fixpoint/__init__.py,,\nfixpoint/py.typed,,\n")
    return folder


@pytest.fixture
def site(tmp_path, monkeypatch):
    """The only folder where distributions are looked for."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    return tmp_path


@pytest.mark.parametrize("names", [(), ("fixpoint",), ("fixpoint-torch",)])
def test_one_distribution_alone_is_no_clash(site, names):
    for name in names:
        install(site, name, "1.2.3")
    assert clash() is None


def test_both_are_named_with_their_versions_and_the_remedy(site):
    install(site, "fixpoint-torch", "0.1.0")
    install(site, "fixpoint", "0.28.0")
    with pytest.warns(
        RuntimeWarning, match=r"fixpoint-torch 0\.1\.0 and fixpoint 0\.28\.0 "
    ) as said:
        warn_of_clash()
    assert len(said) == 1
    words = str(said[0].message)
    assert "pip uninstall fixpoint fixpoint-torch, then pip install fixpoint-torch" in words


def test_what_a_build_leaves_in_a_checkout_is_not_installed(site):
    install(site, "fixpoint-torch", "0.1.0")
    left = site / "fixpoint.egg-info"
    left.mkdir()
    (left / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: fixpoint\nVersion: 0.1.0\n")
    (left / "SOURCES.txt").write_text("fixpoint/__init__.py\n")
    assert clash() is None


def test_metadata_that_cannot_be_read_neither_raise_nor_warn(monkeypatch):
    def broken(**options):
        raise OSError("no such disk")

    monkeypatch.setattr(distribution_clash, "distributions", broken)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_clash()


@pytest.mark.slow
@pytest.mark.parametrize("ours_last", [True, False])
def test_importing_says_so_whichever_was_installed_last(tmp_path, ours_last):
    """Installed last means: whose `fixpoint/__init__.py` is there."""
    package = tmp_path / "fixpoint"
    package.mkdir()
    for entry in Path(fixpoint.__file__).parent.iterdir():
        if entry.name != "__init__.py" or ours_last:
            (package / entry.name).symlink_to(entry.resolve())
    if not ours_last:
        (package / "__init__.py").write_text('"""Another project."""\n')
    install(tmp_path, "fixpoint-torch", "0.1.0")
    install(tmp_path, "fixpoint", "0.28.0")
    run = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import fixpoint{'; fixpoint.solve' if ours_last else '.kernels, fixpoint._solve'}",
        ],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stderr.count("are both installed") == 1, run.stderr
