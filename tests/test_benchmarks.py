"""The benchmarks run, and say what they measured. No network, and few steps of small pictures."""

import json
import sys
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest
import torch

import benchmarks.paper.__main__ as paper
from benchmarks.paper import (
    figure_3,
    figures_theorems,
    methods,
    published,
    readme_table,
    sections,
    shapes,
    table_s1,
    table_s2,
)
from benchmarks.shared import context, fresh_process, pages, stable_diffusion_shape
from benchmarks.shared import stored as stored_results
from benchmarks.speed import cold_timing, evaluation_cases, inversion_gpu, loop_cost, updates
from benchmarks.speed import kernels as kernel_speed
from benchmarks.speed import page as speed_page
from benchmarks.splittings import comparison, libraries, sizes
from benchmarks.splittings import page as splittings_page
from benchmarks.studies import diffusion_inversion, priors
from benchmarks.watermark import cases, classification
from benchmarks.watermark import page as watermark_page
from fixpoint import ForwardStep, schedules, solve
from fixpoint.adapters import Autoencoder, DecoderInversion, EightBit, nmse_db, to_pil
from fixpoint.adapters.demo import PHOTOGRAPH, photograph

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "adapters" / "models" / "adversarial"
MEASURED = ("table_s1", "table_s2", "figures_theorems", "shapes")
FIGURES = {"table_s1": 1, "table_s2": 1, "figures_theorems": 2, "shapes": 0}


@pytest.fixture(scope="module")
def small():
    """Two crops of 32 pixels, the second one darker."""
    crop = photograph(32)
    return context.Context(
        {"small": MODEL},
        {"small": Autoencoder.from_pretrained(MODEL)},
        torch.cat((crop, crop - 0.2)).clamp(-1, 1),
        "the bundled photograph",
        quick=True,
    )


@pytest.fixture(scope="module")
def measured(small):
    """What every section measures, as JSON gives it back. Nothing is started for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fresh_process, "measure", fresh_process.measure_here)
        patch.setattr(stable_diffusion_shape, "CHANNELS", (16, 16, 16, 16))
        found = {
            name: import_module(f"benchmarks.paper.{name}").measure(small) for name in MEASURED
        }
    return json.loads(json.dumps(stored_results.ready_for_json(found), allow_nan=False))


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


def test_every_method_has_a_row_and_a_memory(measured):
    model = measured["table_s1"]["models"]["small"]
    lines = methods.methods(quick=True)
    assert len(model["rows"]) == len(lines)
    assert {row["memory"] for row in model["rows"]} == set(model["peaks"])
    assert {row["dtype"] for row in model["rows"]} == {"float32", "bfloat16", "float16"}
    assert all(len(row["curve"]) == len(row["clock"]) for row in model["rows"])


def test_ours_is_more_accurate_than_the_encoder_where_it_begins(measured):
    rows = measured["table_s1"]["models"]["small"]["rows"]
    ours = [row["nmse_db"] for row in rows if row["family"] == "ours"]
    assert max(ours) < rows[0]["nmse_db"]


def test_the_published_numbers_stand_beside_ours(measured):
    text = table_s1.markdown(measured["table_s1"])
    for number in ("-24.82 ± 1.08 dB, 31.7 s, 8.83 GB", "64.7 GB", "-17.82 ± 0.71"):
        assert number in text
    text = table_s2.markdown(measured["table_s2"])
    for number in ("-19.35", "-20.91", "-21.71", "-21.22", "-20.59"):
        assert number in text
    assert published.OPTIMIZERS["Adam"][0] == -21.85
    assert "| LaVie | the paper's Adam, 16 bit | 0.416 | 7.13 | 0.11 |" in shapes.markdown(
        measured["shapes"]
    )


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


def test_the_pareto_front_is_what_no_other_point_beats():
    points = [(1, 0), (2, -1), (2, -3), (3, -2), (3, -3), (4, -5), (1, 1), (4, -5)]
    assert figure_3.pareto_front(points) == [(1, 0), (2, -3), (4, -5)]
    assert figure_3.pareto_front([]) == []


def row(family, kind, steps, nmse, clock, curve, dtype="float32"):
    return {
        "family": family,
        "kind": kind,
        "steps": steps,
        "dtype": dtype,
        "nmse_db": nmse,
        "interval_db": 0.5,
        "milliseconds": clock[-1],
        "clock": clock,
        "curve": curve,
        "memory": family,
    }


def test_the_time_to_beat_is_the_least_of_any_gradient_setting():
    rows = [
        row("slow", "gradient", 3, -30, [10, 20, 30], [-10, -20, -30]),
        row("fast at first", "gradient", 3, -29, [10, 15, 25], [-20, -31, -29]),
        row("the paper's Adam", "paper", 3, -25, [5, 10, 15], [-10, -20, -25]),
        row("ours", "ours", 3, -40, [1, 3, 5], [-10, -30, -40]),
    ]
    reached = table_s1.time_to_accuracy(rows)
    assert (reached["target_db"], reached["target_of"]) == (-30, "slow, 3 steps")
    assert (reached["family"], reached["steps"], reached["milliseconds"]) == (
        "fast at first",
        2,
        15,
    )
    paper_adam, ours = reached["methods"]
    assert paper_adam["evaluations"] is None
    assert (ours["evaluations"], ours["milliseconds"]) == (2, 3)
    assert (ours["ratio_to_run"], ours["ratio"]) == (0.1, 0.2)


def test_the_readme_table_takes_the_better_rate_and_stands_between_the_markers(tmp_path):
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


def test_a_constant_schedule_is_the_iterator_itself(small):
    autoencoder = small.autoencoders["small"]
    truth, pictures = small.observed("small")
    operator = DecoderInversion(autoencoder.encode, autoencoder.decode, pictures, EightBit())
    trajectory = table_s2.steps_of_varying_size(
        operator, truth, lambda rate: ForwardStep(step_size=rate), schedules.constant(0.5), 4
    )
    iterator = ForwardStep(step_size=0.5)
    options = {"rtol": 0.0, "atol": 0.0, "max_iterations": 3, "keep": "last"}
    solution = solve(operator, operator.start, iterator, **options)
    assert torch.equal(trajectory.errors[-1], nmse_db(solution.z, truth))


def test_a_replay_visits_the_recorded_points(small):
    truth, pictures = small.observed("small")
    autoencoder = small.autoencoders["small"]
    operator = DecoderInversion(autoencoder.encode, autoencoder.decode, pictures)
    points = [truth + 0.1, truth - 0.1]
    seen = []
    solve(
        operator,
        truth,
        figures_theorems.Replay(points),
        max_iterations=2,
        rtol=0.0,
        atol=0.0,
        callback=lambda iterate: seen.append(iterate.state.point),
    )
    assert all(torch.equal(a, b) for a, b in zip(seen, [truth, *points], strict=True))


def test_the_limits_of_the_machine_are_shown_for_everything_that_was_measured(monkeypatch):
    monkeypatch.setattr(fresh_process, "measure", fresh_process.measure_here)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    monkeypatch.setattr(loop_cost, "LOOP", 3)
    plan = evaluation_cases.Plan(
        device=torch.device("cpu"),
        inputs={"16 x 16": (1, 3, 16, 16)},
        precisions=(evaluation_cases.Precision("bfloat16", torch.bfloat16),),
        matrix=32,
        calls=1,
        repeats=1,
        iterations=1,
        channels=(16,),
    )
    results = json.loads(json.dumps(inversion_gpu.measure(plan), allow_nan=False))
    text = inversion_gpu.markdown(results)
    assert text.startswith("## ")
    assert "nan" not in text.lower()
    assert text.count("| 16 x 16 | bfloat16 |") == 3 + 4
    plain, compiled, gradient = results["evaluations"]
    assert [plain["failed"], compiled["failed"], gradient["failed"]] == [None, None, None]
    assert plain["flop"] == compiled["flop"] > 0
    assert plain["floor_milliseconds"] == 1e3 * plain["flop"] / results["peak_flops"]["bfloat16"]
    assert gradient["flop"] != plain["flop"]
    failed = compiled | {"milliseconds": None, "failed": "no compiler"}
    text = inversion_gpu.markdown(results | {"evaluations": [plain, failed, gradient]})
    assert "16 x 16, bfloat16, evaluation, compiled: failed with `no compiler`." in text


def test_a_fresh_process_measures_and_a_failure_is_told(tmp_path):
    line = {"family": "encoder alone", "kind": "encoder"}
    found = fresh_process.measure(
        "benchmarks.paper.table_s1:one_picture", folder="nowhere", line=line, picture=""
    )
    assert found["peak_bytes"] is None
    assert "nowhere does not exist" in found["failed"]
    picture = tmp_path / "picture.png"
    to_pil(photograph(128)[0]).save(picture)
    found = fresh_process.measure(
        "benchmarks.paper.table_s1:one_picture", folder=str(MODEL), line=line, picture=str(picture)
    )
    assert found["failed"] is None
    if sys.platform == "linux":
        assert found["peak_bytes"] > picture.stat().st_size


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


def test_every_update_is_checked_and_timed(monkeypatch):
    monkeypatch.setattr(kernel_speed, "LATENT", (2, 3, 5))
    monkeypatch.setattr(cold_timing, "COLD", 1)
    monkeypatch.setattr(kernel_speed, "call_overheads", lambda device: {"row sums": 1.5})
    monkeypatch.setattr(kernel_speed, "kernel_code", lambda: None)
    found = json.loads(json.dumps(kernel_speed.measure("cpu", quick=True), allow_nan=False))
    assert {entry["update"] for entry in found["accuracy"]} == set(updates.UPDATES)
    assert {entry["update"] for entry in found["speed"]} == set(updates.UPDATES)
    for entry in found["accuracy"]:
        assert entry["reference"] < 1e-5
        assert entry["kernel"] is None or entry["kernel"] < 1e-5  # None: without Triton
    text = kernel_speed.markdown(found)
    assert "No GPU was at hand" in text
    assert "nan" not in text.lower()


def test_the_page_of_benchmarks_is_rendered_from_what_was_measured():
    stored = ROOT / "docs" / "results"
    assert {path.stem for path in stored.glob("*.json")} >= set(speed_page.SECTIONS)
    assert speed_page.page(ROOT / "docs") == (ROOT / "docs" / "benchmarks.md").read_text()


def test_the_page_on_other_libraries_is_rendered_from_what_was_measured():
    found = json.loads((ROOT / "docs" / "results" / "splittings.json").read_text())
    assert not found["quick"]
    page = (ROOT / "docs" / "splittings-benchmark.md").read_text()
    assert splittings_page.markdown(found) == page


def test_a_library_that_is_missing_is_named_and_the_rest_is_measured(monkeypatch):
    absent = {name: ("none", "a_module_that_is_not_there") for name in libraries.MODULES}
    monkeypatch.setattr(libraries, "MODULES", absent)
    size = sizes.Size(2, 5, 4, (2, 4), (6, 10), 12, 8, 2, 40)
    measured = stored_results.ready_for_json(comparison.measure(size, absent))
    found = json.loads(json.dumps(measured, allow_nan=False))
    for said in found["libraries"].values():
        assert said == {
            "missing": "ModuleNotFoundError: No module named 'a_module_that_is_not_there'"
        }
    assert {way["library"] for way in found["overhead"]["ways"]} == {"fixpoint"}
    assert all(way["evaluations"] == 6 for way in found["overhead"]["ways"])
    deep = found["accuracy"][-1]["ways"]
    assert any(way["iterations"] for way in deep)
    text = splittings_page.markdown(found)
    assert text.count("missing: `ModuleNotFoundError") == len(absent)
    assert "overhead below SciPy's | not measured: missing |" in text
    assert "nan" not in text.lower()


def test_the_table_of_priors_is_rendered_from_what_was_measured():
    stored = json.loads((ROOT / "docs" / "results" / "priors.json").read_text())
    page = (ROOT / "docs" / "priors.md").read_text()
    assert pages.with_table(page, priors.markdown(stored)) == page


@pytest.mark.parametrize("name", ["diffusion_inversion", "watermark"])
def test_the_pages_on_diffusion_are_rendered_from_what_was_measured(name):
    results = ROOT / "docs" / "results"
    if name == "watermark":
        page = watermark_page
        stored = {part: results / f"watermark_{part}.json" for part in page.PARTS}
        found = {
            part: json.loads(path.read_text()) for part, path in stored.items() if path.is_file()
        }
        assert "diffusion" in found
        expected = page.markdown(found)
        assert expected == (ROOT / "docs" / "watermark-benchmark.md").read_text()
    else:
        benchmark = diffusion_inversion
        told = benchmark.markdown(json.loads((results / f"{name}.json").read_text()))
        page = (ROOT / "docs" / "diffusion-inversion.md").read_text()
        assert pages.with_table(page, told) == page


def test_the_watermark_benchmark_runs_on_a_few_pictures():
    case = cases.Case("flow", 1, 1.0, "backward-euler", {})
    model = case.load()
    made = cases.make(model, case, cases.LAST, 1)
    assert made.picture.shape == (3, 3, 128, 128)
    found = classification.recovered(model, case, made, cases.METHODS["encoder"])
    assert found["pictures"] == 3
    assert len(found["hits"]) == 3
    assert classification.judged(made, made.noise)["right"] == 3
    low, high = watermark_page.wilson(97, 100)
    assert 0.9 < low < 0.97 < high < 1
