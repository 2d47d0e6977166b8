import json

import pytest

from fixpoint.adapters.commands.main import main

pytestmark = pytest.mark.usefixtures("no_network")


@pytest.mark.slow
def test_demo_prints_draws_and_writes_its_table(tmp_path, capsys):
    arguments = ["--gradient-steps", "5", "--evaluations", "8", "--out", str(tmp_path / "d")]
    assert main(["demo", *arguments, "--json", str(tmp_path / "demo.json")]) == 0
    written = json.loads((tmp_path / "demo.json").read_text())
    methods = written["methods"]
    assert [method["name"] for method in methods] == [
        "encoder alone",
        "gradient descent",
        "the paper's Adam",
        "ours",
    ]
    assert all(
        set(method) == {"name", "nmse_db", "evaluations", "seconds", "peak_bytes"}
        for method in methods
    )
    by_name = {method["name"]: method for method in methods}
    assert by_name["ours"]["nmse_db"] < -40
    assert by_name["ours"]["evaluations"] <= 8
    assert by_name["ours"]["nmse_db"] < by_name["gradient descent"]["nmse_db"] - 10
    assert by_name["gradient descent"]["evaluations"] == 5
    drawn = sorted(path.name for path in (tmp_path / "d").iterdir())
    assert drawn == ["demo.png", "picture.png", "strip.png"]
    shown = capsys.readouterr().out
    for method in [*methods, *written["apart"]]:
        assert f"{method['name']:<18}{method['nmse_db']:>10.1f}" in shown
    encoder, ours = written["apart"]
    assert encoder["verdict"] is None
    assert ours["verdict"] in shown
    assert ours["nmse_db"] < encoder["nmse_db"]
