import argparse
import json

import pytest
from PIL import Image

from fixpoint.adapters.commands.per_picture import PerPicture, PictureFile


class Recorded(PerPicture):
    """Records the order of the calls; a picture's status is the stem of its name."""

    def __init__(self, options):
        super().__init__(options)
        self.calls = []

    def check_options(self):
        self.calls.append("check_options")

    def check_files(self, files):
        assert all(isinstance(file, PictureFile) for file in files)
        self.calls.append("check_files")

    def prepare(self, files):
        self.calls.append("prepare")

    def process(self, file):
        self.calls.append("process")
        status = file.path.stem
        if status == "REFUSED":
            raise ValueError("not this\none")
        if status == "INTERRUPTED":
            raise KeyboardInterrupt
        return {"picture": str(file.path), "status": status}

    def line(self, entry):
        return f"done: {entry['status']}"

    def summary(self, entries):
        self.calls.append("summary")
        return {"count": len(entries)}

    def settings(self):
        self.calls.append("settings")
        return {"model": "none"}


@pytest.fixture
def command(tmp_path):
    def make(*names):
        paths = [tmp_path / f"{name}.png" for name in names]
        for path in paths:
            Image.new("RGB", (8, 8)).save(path)
        options = argparse.Namespace(
            command="record", pictures=paths, json=tmp_path / "report.json", quiet=False
        )
        return Recorded(options)

    return make


def report_of(command):
    return json.loads(command.options.json.read_text())


def test_everything_is_checked_before_the_first_picture_is_treated(command):
    run = command("CONVERGED", "STALLED")
    assert run.run() == 0
    assert run.calls == [
        *("check_options", "check_files", "prepare"),
        *("process", "process", "summary", "settings"),
    ]
    assert report_of(run)["count"] == 2


@pytest.mark.parametrize(
    ("names", "code"),
    [
        (["CONVERGED"], 0),
        (["CONVERGED", "DIVERGED"], 1),
        (["NONFINITE"], 1),
        (["REFUSED", "NONFINITE", "DONE"], 2),
    ],
)
def test_the_exit_code_is_that_of_the_worst_picture(command, names, code):
    run = command(*names)
    assert run.run() == code
    assert [entry["status"] for entry in report_of(run)["pictures"]] == names


def test_a_refused_picture_is_told_of_in_one_line_and_does_not_stop_the_others(command, capsys):
    run = command("REFUSED", "DONE")
    run.run()
    shown = capsys.readouterr()
    assert shown.err == f"fixpoint: error: {run.options.pictures[0]}: not this one\n"
    assert shown.out == f"done: DONE\nJSON: {run.options.json}\n"
    assert report_of(run)["pictures"][0]["message"] == "not this one"


def test_an_interrupted_run_reports_what_was_done(command):
    run = command("DONE", "INTERRUPTED")
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert [entry["status"] for entry in report_of(run)["pictures"]] == ["DONE"]
    assert "count" not in report_of(run)


def test_each_file_is_read_and_converted_once(command, monkeypatch):
    from fixpoint.adapters.commands import per_picture

    count = {"read_picture": 0, "as_pictures": 0}
    for name in count:
        plain = getattr(per_picture, name)

        def counted(given, name=name, plain=plain):
            count[name] += 1
            return plain(given)

        monkeypatch.setattr(per_picture, name, counted)
    command("DONE", "STALLED").run()
    assert count == {"read_picture": 2, "as_pictures": 2}


def test_a_file_that_is_no_picture_is_refused_before_anything_is_prepared(command):
    run = command("DONE")
    run.options.pictures[0].write_text("no picture")
    with pytest.raises(ValueError, match="not a picture"):
        run.run()
    assert run.calls == ["check_options"]
    assert not run.options.json.exists()
