"""The command line answers without torch, and asks what a mistyped word meant."""

import os
import subprocess
import sys

import pytest

from fixpoint.adapters.autoencoders import autoencoder
from fixpoint.adapters.autoencoders.inverse import training
from fixpoint.adapters.commands import choices
from fixpoint.adapters.commands.main import main
from fixpoint.adapters.diffusion import latent_diffusion, noise_recovery, sampling
from fixpoint.adapters.inversion import choice, methods
from fixpoint.adapters.provenance import frequencies

WITHOUT = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise AssertionError(f"{{name}} was imported")

sys.meta_path.insert(0, Blocker())
import runpy
sys.argv = ["fixpoint", *{arguments}]
runpy.run_module("fixpoint", run_name="__main__")
"""
HEAVY = ("torch", "numpy", "diffusers", "matplotlib", "scipy", "transformers", "PIL", "safetensors")


def answer(arguments):
    """What `python -m fixpoint` does where nothing heavy can be imported."""
    code = WITHOUT.format(blocked=HEAVY, arguments=arguments)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--help"], "COMMAND"),
        (["--version"], "fixpoint 0."),
        (["invert", "--help"], "--method"),
        (["demo", "--help"], "--evaluations"),
        (["roundtrip", "--help"], "--cycles"),
        (["verify", "--help"], "--crops"),
        (["train-inverse", "--help"], "--pictures"),
        (["noise", "--help"], "--prompt"),
        (["edit", "--help"], "--mask"),
        (["attribute", "--help"], "--real"),
        (["watermark", "embed", "--help"], "--key"),
        (["watermark", "detect", "--help"], "--key"),
        (["watermark", "classify", "--help"], "--truth"),
    ],
)
def test_help_and_version_load_nothing_heavy(arguments, says):
    shown = answer(arguments)
    assert shown.returncode == 0, shown.stderr
    assert says in shown.stdout
    assert shown.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "required: COMMAND"),
        (["invrt"], "did you mean invert?"),
        (["invert", "p.png", "--itertions", "3"], "did you mean --iterations?"),
        (["invert", "p.png", "--method", "andersn"], "did you mean anderson?"),
        (["watermark", "embd"], "did you mean embed?"),
        (["noise", "p.png", "--steps", "many"], "invalid int value: 'many'"),
    ],
)
def test_an_error_in_the_arguments_is_one_line_and_loads_nothing_heavy(arguments, says):
    shown = answer(arguments)
    assert shown.returncode == 2
    assert says in shown.stderr
    assert shown.stderr.count("\n") == 1
    assert shown.stdout == ""


def test_a_word_near_to_nothing_gets_no_question(capsys):
    with pytest.raises(SystemExit):
        main(["invert", "p.png", "--xyzzy"])
    assert "did you mean" not in capsys.readouterr().err


def test_the_choices_are_the_names_of_the_tables():
    assert tuple(methods.METHODS) == choices.INVERSIONS
    assert tuple(noise_recovery.DECODER_INVERSIONS) == choices.DECODER_INVERSIONS
    assert choices.GRADIENTS == choice.GRADIENTS
    assert choices.NETWORK_DTYPES == training.DTYPES
    assert choices.SAMPLING_INVERSIONS == sampling.METHODS
    assert choices.KEY_MASKS == frequencies.MASKS
    assert choices.AUTOENCODERS == autoencoder.EMBEDDED
    assert choices.DIFFUSION_MODELS == latent_diffusion.EMBEDDED


def test_the_shell_is_told_how_a_line_may_go_on(tmp_path):
    pytest.importorskip("argcomplete")
    line = "fixpoint invert --method ander"
    told = tmp_path / "completions"
    shell = {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(told),
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
    }
    command = [sys.executable, "-m", "fixpoint"]
    subprocess.run(command, env=os.environ | shell, capture_output=True, check=True)
    assert told.read_text().strip() == "anderson"
