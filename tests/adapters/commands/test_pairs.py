"""--pair: an autoencoder from the user's own code, on the command line."""

import json
import sys

import pytest
from PIL import Image
from safetensors import safe_open

from fixpoint.adapters.commands.main import main

CODE = """
import numpy as np
import torch
from fixpoint.adapters import Autoencoder

WEIGHT = torch.nn.Conv2d(3, 3, 1)
torch.nn.init.dirac_(WEIGHT.weight)
torch.nn.init.zeros_(WEIGHT.bias)

def encode(x):
    return torch.nn.functional.avg_pool2d(x, 4)

def decode(z):
    return torch.nn.functional.interpolate(z + torch.sin(3 * z) / 10, scale_factor=4.0)

def encode_in_numpy(x):
    batch, colours, height, width = x.shape
    cells = x.numpy().reshape(batch, colours, height // 4, 4, width // 4, 4)
    return torch.from_numpy(cells.mean((3, 5)))

def decode_in_numpy(z):
    return torch.from_numpy(decode(z).numpy().copy())

def pair():
    return encode, decode

def in_numpy():
    return Autoencoder.from_functions(encode_in_numpy, decode_in_numpy, name="in numpy")

def placed(dtype, device):
    module = WEIGHT.to(device, dtype)
    return Autoencoder.from_functions(lambda x: encode(module(x)), decode)

def with_weights():
    return Autoencoder.from_functions(lambda x: encode(WEIGHT(x)), decode)

def fixed():
    def only(x):
        if x.shape[-2:] != (96, 96):
            raise RuntimeError("Got: 64 Expected: 96")
        return encode(x)
    return only, decode

def random():
    return lambda x: encode(x) + torch.randn(1), decode

def broken():
    raise RuntimeError("the weights\\nare missing")

def neither():
    return [encode, decode]

constant = 3
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A current directory with a module of pairs and a picture."""
    (tmp_path / "my_pairs.py").write_text(CODE)
    (tmp_path / "half_written.py").write_text("import torch\n1 / 0\n")
    (tmp_path / "needs_more.py").write_text("import no_such_package\n")
    Image.radial_gradient("L").resize((64, 64)).convert("RGB").save(tmp_path / "picture.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    yield tmp_path
    for name in ("my_pairs", "half_written", "needs_more"):
        sys.modules.pop(name, None)


def report(arguments):
    assert main([*arguments, "--json", "report.json", "--quiet"]) in (0, 1)
    with open("report.json") as file:
        return json.load(file)


@pytest.mark.parametrize("name", ["pair", "in_numpy", "placed"])
def test_invert_takes_a_pair_from_the_current_directory(here, name):
    spec = f"my_pairs:{name}"
    content = report(["invert", "picture.png", "--pair", spec, "--iterations", "5", "--out", "o"])
    assert content["model"] == spec
    assert "factor 4, 3 channels" in content["autoencoder"]
    assert content["pictures"][0]["psnr_db"] > 20
    with safe_open("o/picture.latent.safetensors", "pt") as file:
        assert file.metadata()["model"] == spec
        assert file.get_tensor("latent").shape == (1, 3, 16, 16)


def test_verify_and_demo_take_a_pair(here):
    options = ["--pair", "my_pairs:in_numpy", "--quiet"]
    sizes = ["--crops", "2", "--crop-size", "32", "--iterations", "3"]
    assert main(["verify", *options, *sizes, "--out", "verified"]) == 0
    assert "in numpy" in (here / "verified" / "verify.html").read_text()
    assert main(["demo", *options, "--evaluations", "2", "--out", "demo"]) == 0
    assert (here / "demo" / "demo.png").is_file()


def test_attribute_takes_a_pair_but_no_calibration_of_another_model(here, capsys):
    arguments = ["attribute", "picture.png", "--pair", "my_pairs:pair"]
    assert main([*arguments, "--quiet"]) == 2
    assert "nothing to compare the pictures with" in capsys.readouterr().err
    for number in range(2):
        Image.effect_noise((32, 32), 90 + number).convert("RGB").save(f"{number}.png")
    real = ["--real", "0.png", "1.png", "--false-positive-rate", "0.4"]
    assert report([*arguments, *real])["pictures"][0]["p_value"] <= 1


def test_a_pair_computes_in_the_dtype_that_is_asked_for(here):
    options = ["--dtype", "bfloat16", "--iterations", "2", "--out", "o"]
    for name in ("placed", "with_weights"):
        content = report(["invert", "picture.png", "--pair", f"my_pairs:{name}", *options])
        assert "bfloat16" in content["autoencoder"]


BAD = {
    "no colon": ("my_pairs", "package.module:function"),
    "a file": ("my_pairs.py:pair", "not a file"),
    "no module": ("no_such_module:pair", "no module no_such_module; it may lie in"),
    "a module that needs more": ("needs_more:pair", "no module no_such_package"),
    "a module that fails": ("half_written:pair", "ZeroDivisionError"),
    "no function": ("my_pairs:pear", "nothing by the name of pear"),
    "a constant": ("my_pairs:constant", "no function by the name of constant"),
    "a function that fails": ("my_pairs:broken", "RuntimeError: the weights are missing"),
    "another result": ("my_pairs:neither", "returned a list, expected an Autoencoder"),
    "a pair that is none": ("my_pairs:random", "encode is random"),
    "a size that does not come back": ("my_pairs:fixed", "must be 96"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_pair_that_cannot_be_used_is_refused_in_one_line(here, assert_refused, case):
    spec, words = BAD[case]
    assert_refused(["invert", "picture.png", "--pair", spec], words, here / "out")


def test_a_dtype_that_a_pair_cannot_have_is_refused(here, assert_refused):
    arguments = ["invert", "picture.png", "--pair", "my_pairs:pair", "--dtype", "float16"]
    assert_refused(arguments, "modules=", here / "out")


def test_a_model_and_a_pair_exclude_each_other(here, assert_refused):
    arguments = ["invert", "picture.png", "--pair", "my_pairs:pair", "--model", "adversarial"]
    assert_refused(arguments, "not allowed with", here / "out")
