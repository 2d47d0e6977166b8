"""The README's extract of table S1."""

from pathlib import Path

from benchmarks.paper import (
    readme_table,
)

ROOT = Path(__file__).parents[2]


def test_the_readme_table_takes_the_better_rate_and_stands_between_the_markers(row, tmp_path):
    shown = {family for _, _, families, _ in readme_table.SHOWN for family in families}
    rows = [
        row(family, "", steps, -10.0 - index, [100.0 / (1 + steps)], [])
        for index, family in enumerate(sorted(shown))
        for steps in (0, 5, 20, 100)
    ]
    model = {"rows": rows, "peaks": {family: 100 * len(family) for family in shown}}
    text = readme_table.readme_table({"crops": 3, "memory_side": 512, "models": {"`one`": model}})
    rates = [r["nmse_db"] for r in rows if r["family"] in readme_table.PAPER_RATES]
    assert len(text.splitlines()) == 2 + len(readme_table.SHOWN) + 2
    assert f"the better of the paper's rates | 100 steps | {min(rates):.1f} ± 0.5 dB |" in text
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- results -->\nold\n<!-- end of results -->\nafter\n")
    readme_table.replace_table(readme, text)
    expected = f"before\n<!-- results -->\n{text}\n<!-- end of results -->\nafter\n"
    assert readme.read_text() == expected


def test_the_markers_are_in_the_readme():
    text = (ROOT / "README.md").read_text()
    assert text.count(readme_table.BEGIN) == text.count(readme_table.END) == 1
