"""The program of the paper's tables and figures, and its page. No network."""

import json
from importlib import import_module
from pathlib import Path

import pytest

import benchmarks.paper.__main__ as paper
from benchmarks.paper import (
    sections,
    shapes,
    table_s1,
    table_s2,
)
from fixpoint.adapters.commands.demonstration import PHOTOGRAPH

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "adapters" / "models" / "adversarial"
MEASURED = ("table_s1", "table_s2", "figures_theorems", "shapes")
FIGURES = {"table_s1": 1, "table_s2": 1, "figures_theorems": 2, "shapes": 0}


def store(folder, small, measured, *names):
    (folder / "results").mkdir()
    for name in names:
        content = {"setting": sections.setting(small), "results": measured[name]}
        (folder / "results" / f"{name}.json").write_text(json.dumps(content))


@pytest.mark.parametrize("name", MEASURED)
def test_every_section_says_and_draws_what_it_measured(name, measured, tmp_path):
    section = import_module(f"benchmarks.paper.{name}")
    text = section.markdown(measured[name])
    assert text.startswith("## ")
    assert "nan" not in text.lower()
    paths = section.draw(measured[name], tmp_path)
    assert len(paths) == FIGURES[name]
    for path in paths:
        assert path.read_bytes().startswith(b"\x89PNG")
        assert f"(results/{path.name})" in text


def test_results_are_rendered_from_what_is_stored_alone(small, measured, tmp_path, monkeypatch):
    store(tmp_path, small, measured, "table_s2", "shapes")
    monkeypatch.setattr(paper, "make_context", None)
    paper.main(["--out", str(tmp_path), "--sections"])
    text = (tmp_path / "results.md").read_text()
    assert table_s2.markdown(measured["table_s2"]) in text
    assert shapes.markdown(measured["shapes"]) in text
    assert "table S1, figure 3" not in text
    assert "trial run" in text
    assert (tmp_path / "results" / "table_s2.png").is_file()


def test_one_command_measures_any_folder_and_pictures(tmp_path):
    command = f"--out {tmp_path} --model {MODEL} --pictures {PHOTOGRAPH} --crops 2 --crop-size 32"
    paper.main([*command.split(), "--quick", "--sections", "table_s2"])
    stored = json.loads((tmp_path / "results" / "table_s2.json").read_text())
    assert list(stored["results"]["models"]) == ["`adversarial`"]
    assert "2 crops of 32 x 32 pixels (chelsea.png)" in (tmp_path / "results.md").read_text()


def test_an_interrupted_run_keeps_the_sections_before(small, measured, tmp_path, monkeypatch):
    def interrupt(context):
        raise KeyboardInterrupt

    monkeypatch.setattr(paper, "make_context", lambda *arguments, **options: small)
    monkeypatch.setattr(table_s1, "measure", lambda context: measured["table_s1"])
    monkeypatch.setattr(table_s2, "measure", interrupt)
    with pytest.raises(KeyboardInterrupt):
        paper.main(["--out", str(tmp_path), "--sections", "table_s1", "table_s2"])
    assert [path.name for path in tmp_path.glob("results/*.json")] == ["table_s1.json"]
    assert "table S1, figure 3" in (tmp_path / "results.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "nowhere"], "does not exist"),
        (["--pictures", str(PHOTOGRAPH), "--crop-size", "30"], "30"),
        (["--quick", "--readme", "README.md"], "--quick"),
    ],
)
def test_unusable_options_are_refused_before_anything_runs(arguments, words, tmp_path, capsys):
    if "--pictures" not in arguments:
        arguments = [*arguments, "--pictures", str(PHOTOGRAPH)]
    with pytest.raises(SystemExit):
        paper.main([*arguments, "--out", str(tmp_path / "out")])
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_page_of_results_is_rendered_from_what_was_measured(tmp_path):
    stored = sorted((ROOT / "docs" / "results").glob("*.json"))
    assert {path.stem for path in stored} >= {"table_s1", "hard"}
    (tmp_path / "results").mkdir()
    for path in stored:
        (tmp_path / "results" / path.name).write_text(path.read_text())
    contents = sections.render(tmp_path)
    assert not any(content["setting"]["quick"] for content in contents.values())
    assert (tmp_path / "results.md").read_text() == (ROOT / "docs" / "results.md").read_text()
    figures = {path.name for path in (tmp_path / "results").glob("*.png")}
    others = {"attribution.png", "editing.png", "watermark_confusion.png"}  # of pages of their own
    drawn = {path.name for path in (ROOT / "docs" / "results").glob("*.png")}
    assert figures == drawn - others
