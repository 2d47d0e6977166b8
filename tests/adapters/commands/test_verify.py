import json

import pytest
from PIL import Image
from verification_cases import SMALL

from fixpoint.adapters.commands.main import main
from fixpoint.adapters.verification.crops import cut

pytestmark = pytest.mark.usefixtures("no_network")


def test_the_same_seed_gives_the_same_files_and_another_seed_other_crops(tmp_path, verify_run):
    again = [*SMALL, "--quiet", "--out", str(tmp_path), "--json", str(tmp_path / "j")]
    assert main(["verify", *again]) == 0
    assert json.loads((tmp_path / "j").read_text()) == verify_run[0]
    assert (tmp_path / "verify.html").read_text(encoding="utf-8") == verify_run[1]
    places = [
        [(crop.left, crop.top) for crop in cut([], count=4, size=32, seed=seed)]
        for seed in (0, 0, 1)
    ]
    assert places[0] == places[1] != places[2]


def test_the_observation_and_the_dtype_change_the_numbers(tmp_path, verify_run):
    folder = ["--quiet", "--out", str(tmp_path)]
    for option in (["--observation", "8bit"], ["--dtype", "bfloat16"]):
        assert main(["verify", *SMALL, *folder, *option, "--json", str(tmp_path / "j")]) == 0
        other = json.loads((tmp_path / "j").read_text())
        assert (
            other["crops"] != verify_run[0]["crops"] or other["methods"] != verify_run[0]["methods"]
        )
        assert other["settings"] != verify_run[0]["settings"]
    assert other["precision"] >= 2**-8


def test_an_interrupted_run_leaves_no_file(tmp_path, capsys, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("fixpoint.adapters.verification.verify._run", interrupt)
    arguments = ["--out", str(tmp_path / "o"), "--json", str(tmp_path / "j")]
    assert main(["verify", *SMALL, *arguments]) == 130
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert "interrupted" in capsys.readouterr().err


def bad_inputs(folder):
    Image.new("RGB", (40, 40), "grey").save(folder / "small.png")
    Image.new("RGB", (80, 80), "grey").save(folder / "large.png")
    Image.new("RGB", (41, 41), "grey").save(folder / "odd.png")
    (folder / "text.png").write_text("not a picture\n")
    small, large = str(folder / "small.png"), str(folder / "large.png")
    return {
        "missing picture": ([str(folder / "no.png")], "does not exist"),
        "text named png": ([str(folder / "text.png")], "not a picture"),
        "twice": ([small, small], "given twice"),
        "two sizes": ([small, large], "one size"),
        "crops": (["--crops", "0"], "--crops must be at least 1"),
        "fewer crops than pictures": ([small, large, "--crops", "1"], "at least 2"),
        "crop size": (["--crop-size", "0"], "--crop-size must be at least 1"),
        "iterations": (["--iterations", "0"], "--iterations must be at least 1"),
        "seed": (["--seed", "-1"], "--seed must be at least 0"),
        "jpeg of a png": ([small, "--observation", "jpeg"], "not a JPEG"),
        "jpeg of the bundled": (["--observation", "jpeg"], "not a JPEG"),
        "out is a file": (["--out", str(folder / "text.png")], "cannot write"),
        "json below a file": (["--json", str(folder / "text.png" / "j")], "cannot write"),
        "dtype": (["--dtype", "int8"], "int8"),
        "missing model": (["--model", str(folder / "no")], "does not exist"),
        "device": (["--device", "abacus"], "abacus"),
        "odd picture": ([str(folder / "odd.png")], "multiples of 4"),
        "odd crop size": (["--crop-size", "30"], "multiples of 4"),
    }


NEED_THE_MODEL = ("missing model", "device", "odd picture", "odd crop size")
BAD = (
    *("missing picture", "text named png", "twice", "two sizes", "crops"),
    *("fewer crops than pictures", "crop size", "iterations", "seed", "jpeg of a png"),
    *("jpeg of the bundled", "out is a file", "json below a file", "dtype"),
    *NEED_THE_MODEL,
)


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_clear_line_and_exit_code_2(case, tmp_path, assert_refused, monkeypatch):
    inputs = bad_inputs(tmp_path)
    assert set(inputs) == set(BAD)
    arguments, words = inputs[case]
    if case not in NEED_THE_MODEL:
        monkeypatch.setattr(
            "fixpoint.adapters.commands.verify.load_autoencoder",
            lambda options: pytest.fail("model loaded"),
        )
    assert_refused(["verify", *arguments], words, tmp_path / "o")
