"""Shared fixtures. Row independence is tested bit for bit, so nothing here depends on threads."""

import os
import tempfile

os.environ["TRITON_INTERPRET"] = "1"  # read when triton is imported: kernels run on the CPU
os.environ.setdefault("FIXPOINT_CACHE", tempfile.mkdtemp())  # calibrations of pairs are kept there

import pytest
import torch


def pytest_configure(config):
    # Not in pyproject.toml, where pytest would import fixpoint, and Triton, before the line above.
    config.addinivalue_line("filterwarnings", "error::fixpoint.TheoremWarning")


QUICK_TESTS_A_FILE = 1


def pytest_addoption(parser):
    parser.addoption("--quick", action="store_true", help="one test a file, none marked slow")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--quick"):
        return
    seen, kept, left_out = set(), [], []
    taken: dict[object, int] = {}
    for item in items:
        claim = item.path, item.originalname  # one for all its parameters
        fast = claim not in seen and item.get_closest_marker("slow") is None
        fast = fast and "benchmarks" not in item.path.parts
        fast = fast and taken.get(item.path, 0) < QUICK_TESTS_A_FILE
        (kept if fast else left_out).append(item)
        seen.add(claim)
        taken[item.path] = taken.get(item.path, 0) + fast
    items[:] = kept
    config.hook.pytest_deselected(items=left_out)


torch.set_num_threads(1)  # the problems are small: threads would only wait for each other


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def assert_refused(capsys):
    """Runs a command line that must be refused in one clear line, leaving nothing behind."""
    from fixpoint.adapters.commands.main import main

    def run(arguments, words, out):
        options = [] if "--out" in arguments else ["--out", str(out)]
        try:
            code = main([*arguments, *options])
        except SystemExit as stop:
            code = stop.code
        shown = capsys.readouterr()
        assert code == 2
        assert words in shown.err
        assert shown.err.count("\n") == 1
        assert "Traceback" not in shown.err
        assert not out.exists()

    return run


@pytest.fixture(scope="session")
def autoencoder():
    """The embedded autoencoder of factor 4."""
    from fixpoint.adapters import Autoencoder

    return Autoencoder.embedded()


@pytest.fixture(scope="session")
def photograph():
    """A 64 x 64 crop of the bundled photograph on [-1, 1]: (1, 3, 64, 64)."""
    from fixpoint.adapters.commands.demonstration import photograph

    return photograph(64)


@pytest.fixture
def generated(autoencoder, photograph):
    """A latent and the 8-bit picture decoded from it."""
    from fixpoint.adapters import EightBit

    with torch.no_grad():
        latent = autoencoder.encode(photograph)
        return latent, EightBit()(autoencoder.decode(latent))


def tiny_vae(**config):
    """A random AutoencoderKL of factor 2 in a few thousand parameters."""
    from diffusers import AutoencoderKL

    options = {
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "block_out_channels": (8, 8),
        "norm_num_groups": 4,
        "latent_channels": 4,
        "sample_size": 16,
    }
    return AutoencoderKL(**(options | config)).eval()


@pytest.fixture(name="tiny_vae")
def _tiny_vae():
    return tiny_vae


@pytest.fixture
def no_network(monkeypatch):
    """Any attempt to open a connection fails the test."""
    import socket

    def refuse(*arguments, **options):
        pytest.fail("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
