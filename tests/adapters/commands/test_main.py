import os
import subprocess
import sys

import pytest
from PIL import Image

from fixpoint.adapters.autoencoders.diffusers_autoencoder import DiffusersAutoencoder
from fixpoint.adapters.commands.main import main


def test_the_command_is_installed_and_knows_its_version():
    command = os.path.join(os.path.dirname(sys.executable), "fixpoint")
    shown = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout.startswith("fixpoint 0.")


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("invert", ["p.png", "--method", "magic"]),
        ("noise", ["p.png", "--decoder-inversion", "magic"]),
        ("edit", ["p.png", "--decoder-inversion", "magic"]),
    ],
)
def test_an_unknown_method_is_answered_with_the_names_of_the_table(command, arguments, capsys):
    from fixpoint.adapters.diffusion.noise_recovery import DECODER_INVERSIONS
    from fixpoint.adapters.inversion.methods import METHODS

    with pytest.raises(SystemExit):
        main([command, *arguments])
    shown = capsys.readouterr().err
    for name in METHODS if command == "invert" else DECODER_INVERSIONS:
        assert name in shown


def test_a_computation_that_fails_gets_one_line_and_exit_code_1(tmp_path, capsys, monkeypatch):
    def exhausted(self, pictures):
        raise RuntimeError("out of\nmemory")

    monkeypatch.setattr(DiffusersAutoencoder, "encode", exhausted)
    picture = tmp_path / "picture.png"
    Image.new("RGB", (64, 64)).save(picture)
    assert main(["invert", str(picture), "--out", str(tmp_path / "o")]) == 1
    assert capsys.readouterr().err == "fixpoint: failed: out of memory\n"
