import pytest
from watermark_cases import embed, report_of, run

from fixpoint.adapters.commands.watermark.named_keys import KEYS

pytestmark = pytest.mark.usefixtures("no_network")


@pytest.mark.parametrize("key", KEYS)
def test_detect_finds_a_key_by_its_file_and_by_its_name_and_not_where_it_is_not(
    model, tmp_path, key
):
    marked = embed(tmp_path / "marked", key)
    other = embed(tmp_path / "other", "rand", "--key-seed", 5)
    for named in (tmp_path / "marked" / "key.safetensors", key):
        report = tmp_path / "r.json"
        assert run("detect", *marked, *other, "--key", named, "--json", report) == 0
        entries = report_of(report)["pictures"]
        assert [entry["found"] for entry in entries] == [True] * 3 + [False] * 3
        assert all(entry["log10_p"] < -10 for entry in entries[:3])
        assert all(entry["p_value"] > 0.01 for entry in entries[3:])
        assert max(e["distance"] for e in entries[:3]) < min(e["distance"] for e in entries[3:])


def test_detect_says_its_verdict_at_the_rate_asked_for(model, tmp_path, capsys):
    pictures = embed(tmp_path / "o", "ring", "--quiet", count=1)
    for rate, words in (("0.01", ": not found, p = "), ("0.999999", ": found, p = ")):
        run("detect", *pictures, "--key", "rand", "--false-positive-rate", rate)
        assert words in capsys.readouterr().out
    run("detect", *pictures, "--key", "ring", "--quiet")
    assert capsys.readouterr() == ("", "")
