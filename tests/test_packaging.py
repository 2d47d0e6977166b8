"""The folders stand at the top, the import names below `fixpoint`: in every way to install it."""

import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # builds, installs and starts Python anew

ROOT = Path(__file__).parent.parent
SHOW = """
import fixpoint, fixpoint.adapters, fixpoint.kernels, sys
from pathlib import Path
import fixpoint.adapters.autoencoders.autoencoder as autoencoder
for module in (fixpoint, fixpoint.adapters, fixpoint.kernels):
    print(module.__name__, Path(module.__file__).parent)
models = Path(autoencoder.__file__).parents[1] / "models"
for name in autoencoder.EMBEDDED:
    assert (models / name / "config.json").is_file(), (models, name)
assert "adapters" not in sys.modules and "kernels" not in sys.modules
"""


def show(python, folder, *options):
    command = [str(python), *options, "-c", SHOW]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return dict(line.split(" ", 1) for line in run.stdout.splitlines())


def test_the_editable_install_shows_the_folders_of_the_repository(tmp_path):
    found = show(sys.executable, tmp_path)
    assert set(found) == {"fixpoint", "fixpoint.adapters", "fixpoint.kernels"}
    assert {Path(place).resolve() for place in found.values()} == {
        ROOT / "fixpoint",
        ROOT / "adapters",
        ROOT / "kernels",
    }


def test_the_repository_as_current_directory_shows_the_same():
    assert Path(show(sys.executable, ROOT)["fixpoint"]) == ROOT / "fixpoint"


@pytest.fixture(scope="module")
def installed_wheel(tmp_path_factory):
    """An environment that holds the wheel, built from the sdist, and the dependencies by a path."""
    folder = tmp_path_factory.mktemp("wheel")
    # A copy, so that nothing left over from an older build finds its way in.
    leave = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "tests", "docs")
    source = shutil.copytree(ROOT, folder / "source", symlinks=True, ignore=leave)
    # The sdist, and the wheel from it: what the sdist lacks is not in the wheel either.
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    (wheel,) = folder.glob("fixpoint_torch-*.whl")
    install = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    # Path files inside it are not read, so the editable install stays out.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python, site


def test_the_wheel_installs_one_package_with_everything_in_it(installed_wheel, tmp_path):
    python, site = installed_wheel
    found = show(python, tmp_path, "-E")  # whatever PYTHONPATH says
    assert Path(found["fixpoint.adapters"]) == site / "fixpoint" / "adapters"
    assert not (site / "adapters").exists()
    assert not (site / "kernels").exists()
    assert (site / "fixpoint" / "py.typed").is_file()
    assert (site / "fixpoint" / "adapters" / "photographs" / "chelsea.png").is_file()


def test_the_sdist_holds_plain_folders_where_the_repository_has_links(installed_wheel):
    python, _ = installed_wheel
    (sdist,) = python.parents[2].glob("fixpoint_torch-*.tar.gz")
    with tarfile.open(sdist) as archive:
        entries = {entry.name.split("/", 1)[-1]: entry for entry in archive}
    assert all(entry.isfile() or entry.isdir() for entry in entries.values())
    assert {"fixpoint/adapters/__init__.py", "fixpoint/kernels/__init__.py"} <= set(entries)


def test_the_public_names_of_the_wheel_are_those_of_the_list(installed_wheel, tmp_path):
    python, _ = installed_wheel
    run = subprocess.run(
        [str(python), "-E", str(ROOT / "tests" / "public_names.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    now, listed = run.stdout.split(), (ROOT / "tests" / "public_names.txt").read_text().split()
    gone, new = sorted(set(listed) - set(now)), sorted(set(now) - set(listed))
    assert not gone, f"gone: {gone}; see tests/public_names.py"
    assert not new, f"new: {new}; see tests/public_names.py"


def test_the_core_imports_no_diffusion_or_picture_library():
    code = "import fixpoint, sys; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert not loaded & {"diffusers", "PIL", "matplotlib", "fixpoint.adapters"}
