"""Every program of the benchmarks names itself and explains its options."""

from importlib import import_module

import pytest

PROGRAMS = (
    "paper",
    "solvers",
    "speed",
    "speed.inversion_gpu",
    "speed.kernels",
    "speed.monitors",
    "splittings",
    "studies.attribution",
    "studies.autoencoder_classes",
    "studies.diffusion_inversion",
    "studies.editing",
    "studies.priors",
    "studies.real_pairs",
    "studies.video",
    "training.autoencoders",
    "training.diffusion",
    "watermark",
)


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_names_the_command(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    module = import_module(f"benchmarks.{name}")
    if hasattr(module, "__path__"):
        module = import_module(f"benchmarks.{name}.__main__")
    with pytest.raises(SystemExit) as ended:
        module.main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: python -m benchmarks.{name} ")
    assert "--out" in shown


def test_a_folder_that_cannot_be_used_is_refused_before_anything_is_measured(tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("")
    program = import_module("benchmarks.studies.priors")
    with pytest.raises(SystemExit):
        program.main(["--out", str(file)])
    assert str(file) in capsys.readouterr().err
