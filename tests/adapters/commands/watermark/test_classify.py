import pytest
from watermark_cases import embed, report_of, run

pytestmark = pytest.mark.usefixtures("no_network")


def test_classify_tells_the_papers_keys_apart_and_prints_the_confusion_matrix(
    model, tmp_path, capsys
):
    pictures = [
        path for n in (1, 2, 3) for path in embed(tmp_path / str(n), f"paper-{n}", "--quiet")
    ]
    truth = [path.name[:7] for path in pictures]
    report = tmp_path / "r.json"
    assert run("classify", *pictures, "--truth", *truth, "--json", report) == 0
    content = report_of(report)
    assert content["confusion"] == [[3, 0, 0], [0, 3, 0], [0, 0, 3]]
    assert content["accuracy"] == 1
    assert [entry["label"] for entry in content["pictures"]] == truth
    shown = capsys.readouterr().out
    assert "9 of 9 right: 100.0% (95 % interval 66.4% to 100.0%)" in shown
    assert f"{pictures[0]}: paper-1 (distances: paper-1 " in shown


def test_classify_takes_any_keys_and_one_label_for_all_pictures(model, tmp_path):
    pictures = embed(tmp_path / "o", "rand", "--key-seed", 4)
    report, file = tmp_path / "r.json", tmp_path / "o" / "key.safetensors"
    options = ["--keys", "zeros", file, "ring", "--truth", "rand-4", "--json", report]
    assert run("classify", *pictures, *options) == 0
    assert report_of(report)["keys"] == ["zeros", "rand-4", "ring-0"]
    assert report_of(report)["confusion"] == [[0, 0, 0], [0, 3, 0], [0, 0, 0]]


def test_at_a_false_positive_rate_a_picture_without_a_key_is_told_so(model, tmp_path, capsys):
    marked = embed(tmp_path / "o", "ring", "--quiet", count=1)
    key, report = tmp_path / "o" / "key.safetensors", tmp_path / "r.json"
    plain = embed(tmp_path / "p", "rand", "--quiet", count=1)  # carries none of the keys asked for
    given = ["classify", *marked, *plain, "--keys", key, "paper-1", "--truth", "ring-0", "none"]
    assert run(*given, "--false-positive-rate", "0.01", "--json", report) == 0
    content = report_of(report)
    assert [entry["label"] for entry in content["pictures"]] == ["ring-0", "none"]
    assert content["confusion"] == [[1, 0, 0], [0, 0, 0], [0, 0, 1]]
    first, second = (entry["p_value"] for entry in content["pictures"])
    assert first <= 0.01 < second
    with pytest.raises(ValueError, match="without --false-positive-rate every picture is given"):
        run(*given)
