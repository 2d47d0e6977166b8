"""The folders stand at the top, the import names below `fixpoint`: in every way to install it."""

import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SHOW = """
import fixpoint, fixpoint.adapters, fixpoint.kernels, sys
from pathlib import Path
import fixpoint.adapters.autoencoders.autoencoder as autoencoder
for module in (fixpoint, fixpoint.adapters, fixpoint.kernels):
    print(module.__name__, Path(module.__file__).parent)
models = Path(autoencoder.__file__).parents[1] / "models"
assert (models / "kl" / "config.json").is_file(), models
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
    """An environment that holds the built wheel, and the dependencies by a path file."""
    folder = tmp_path_factory.mktemp("wheel")
    # A copy, so that nothing left over from an older build finds its way in.
    leave = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "tests", "docs")
    source = shutil.copytree(ROOT, folder / "source", symlinks=True, ignore=leave)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    build += ["--quiet", "--wheel-dir", str(folder), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    (wheel,) = folder.glob("fixpoint-*.whl")
    install = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    # Path files inside it are not read, so the editable install stays out.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python, site


def test_the_wheel_installs_one_package_with_everything_in_it(installed_wheel, tmp_path):
    python, site = installed_wheel
    assert Path(show(python, tmp_path)["fixpoint.adapters"]) == site / "fixpoint" / "adapters"
    assert not (site / "adapters").exists()
    assert not (site / "kernels").exists()
    assert (site / "fixpoint" / "py.typed").is_file()
    assert (site / "fixpoint" / "adapters" / "photographs" / "chelsea.png").is_file()


def test_the_core_imports_no_diffusion_or_picture_library():
    code = "import fixpoint, sys; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert not loaded & {"diffusers", "PIL", "matplotlib", "fixpoint.adapters"}
