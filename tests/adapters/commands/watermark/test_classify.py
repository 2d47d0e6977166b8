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
