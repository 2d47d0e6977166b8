import json
import os

import pytest

from fixpoint.adapters.reports.latent_files import write_json
from fixpoint.checkpoints.whole_file import write_whole


def files_in(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_links_are_followed_and_devices_are_not_replaced(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    write_json(tmp_path / "link", {"a": 1})
    assert (tmp_path / "link").is_symlink()
    assert json.loads((tmp_path / "real").read_text()) == {"a": 1}
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_json(tmp_path / "pipe", {"a": 2})
    assert json.loads(os.read(reader, 100)) == {"a": 2}
    os.close(reader)
    assert files_in(tmp_path) == ["link", "real"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    (tmp_path / "result").write_text("old")

    def fail(path):
        path.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_whole(tmp_path / "result", fail)
    assert files_in(tmp_path) == ["result"]
    assert (tmp_path / "result").read_text() == "old"
