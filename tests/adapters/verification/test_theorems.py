import json
import math
import re
from dataclasses import replace
from html import unescape

import numpy as np
import pytest
import torch
from PIL import Image

import fixpoint
from fixpoint import ForwardStep
from fixpoint.adapters import (
    DecoderInversion,
    EightBit,
    Identity,
    Jpeg,
    fitted_line,
    nmse_db,
    to_pil,
    verify_crops,
)
from fixpoint.adapters.autoencoders.autoencoder import Autoencoder
from fixpoint.adapters.commands.main import main
from fixpoint.adapters.verification import theorems as verification
from fixpoint.adapters.verification.crops import cut
from fixpoint.adapters.verification.findings import findings
from fixpoint.adapters.verification.fitted_line import fit_line
from fixpoint.adapters.verification.page import page
from fixpoint.adapters.verification.scatter import scatter
from fixpoint.adapters.verification.theorems import MethodResult, Outcome, methods
from fixpoint.monitors import ForwardStepTheorem

pytestmark = pytest.mark.usefixtures("no_network")

SMALL = ["--crops", "4", "--crop-size", "32", "--iterations", "4"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The JSON and the HTML of one small run, and what it printed to the terminal."""
    folder = tmp_path_factory.mktemp("verify")
    shown = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.print", lambda *parts, **_: shown.append(" ".join(parts)))
        arguments = ["--out", str(folder / "out"), "--json", str(folder / "verify.json")]
        assert main(["verify", *SMALL, *arguments]) == 0
    text = (folder / "verify.json").read_text()
    html = (folder / "out" / "verify.html").read_text(encoding="utf-8")
    return json.loads(text), html, "\n".join(shown)


def by_name(content):
    return {method["name"]: method for method in content["methods"]}


# --- the numbers ---


@pytest.mark.parametrize("name", ["forward step", "inertial KM", "Adam"])
def test_every_number_is_that_of_a_plain_solve(run, autoencoder, name):
    (method,) = (one for one in methods(iterations=4) if one.name == name)
    crops = cut([], count=4, size=32, seed=0)
    with torch.no_grad():
        truth = autoencoder.encode(torch.cat([crop.values for crop in crops]))
        x = EightBit()(autoencoder.decode(truth))
    operator = DecoderInversion(autoencoder.encode, autoencoder.decode, x, Identity())
    states = []
    fixpoint.solve(
        operator,
        operator.start,
        method.iterator,
        rtol=0,
        atol=0,
        max_iterations=12,
        callback=lambda iterate: states.append(iterate.state),
    )
    points = [state.point.double().flatten(1) for state in states]
    values = [state.residual.double().flatten(1) for state in states]
    ratios = []
    for z, t in zip(points[:5], values[:5], strict=True):
        dz, dt = points[12] - z, values[12] - t
        ratios.append((dz * dt).sum(1) / dt.square().sum(1))
    least = torch.stack(ratios).min(0)
    distance = (points[4] - points[12]).norm(dim=1) / points[12].norm(dim=1)
    expected = {
        "cocoercivity": least.values,
        "convergence_db": 20 * distance.log10(),
        "nmse_db": nmse_db(states[12].point, truth),
        "nmse_n_db": nmse_db(states[4].point, truth),
        "residual": values[4].norm(dim=1) / values[0].norm(dim=1),
        "limit_residual": values[12].norm(dim=1) / values[0].norm(dim=1),
    }
    shown = by_name(run[0])[name]
    assert (shown["iterations"], shown["limit"]) == (4, 12)
    for key, numbers in expected.items():
        given = [crop[key] for crop in shown["crops"]]
        if key == "cocoercivity":  # taken at the upper end of its rounding error
            assert all(a > b - 1e-5 for a, b in zip(given, numbers.tolist(), strict=True))
            assert given == pytest.approx(numbers.tolist(), rel=1e-2)
        else:
            assert given == pytest.approx(numbers.tolist(), rel=1e-4)
    assert [crop["cocoercivity_at"] for crop in shown["crops"]] == least.indices.tolist()
    start = [crop["encoder_nmse_db"] for crop in run[0]["crops"]]
    assert start == pytest.approx(nmse_db(operator.start, truth).tolist())
    fraction = (least.values > 0).double().mean()
    assert shown["positive_fraction"] == pytest.approx(float(fraction))
    line = fit_line(least.values.tolist(), expected["convergence_db"].tolist())
    assert shown["convergence_line"]["slope"] == pytest.approx(line.slope, rel=0.05)


def test_a_line_is_that_of_least_squares_with_students_interval():
    x, y = np.array([0.0, 1, 2, 3, 5]), np.array([1.0, 0, 0.5, -2, -3])
    line = fit_line(x.tolist(), y.tolist())
    (slope, intercept), covariance = np.polyfit(x, y, 1, cov="unscaled")
    left = ((y - slope * x - intercept) ** 2).sum() / 3
    half = 3.182446 * math.sqrt(left * covariance[0, 0])  # Student's t, 3 degrees of freedom
    assert (line.slope, line.intercept) == pytest.approx((slope, intercept))
    assert (line.low, line.high) == pytest.approx((slope - half, slope + half), rel=1e-6)
    assert line.correlation == pytest.approx(np.corrcoef(x, y)[0, 1])
    noisy = fit_line([*x.tolist(), math.nan, 1.0], [*y.tolist(), 3.0, -math.inf])
    assert noisy == line
    assert line.points == 5


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [(1, 12.7062), (2, 4.30265), (3, 3.18245), (10, 2.22814), (99, 1.98422)],
)
def test_students_quantile_is_that_of_the_tables(freedom, quantile):
    assert fitted_line.student_quantile(freedom) == pytest.approx(quantile, rel=1e-5)


def test_no_line_below_three_points_or_without_spread():
    assert fit_line([1, 2], [1, 2]) is None
    assert fit_line([1, 1, 1 + 1e-9], [1, 2, 3]) is None
    assert fit_line([], []) is None
    level = fit_line([1, 2, 3], [0.1, 0.1, 0.1])
    assert (level.slope, level.low, level.high, level.correlation) == (0, 0, 0, None)


def test_the_same_seed_gives_the_same_files_and_another_seed_other_crops(tmp_path, run):
    again = [*SMALL, "--quiet", "--out", str(tmp_path), "--json", str(tmp_path / "j")]
    assert main(["verify", *again]) == 0
    assert json.loads((tmp_path / "j").read_text()) == run[0]
    assert (tmp_path / "verify.html").read_text(encoding="utf-8") == run[1]
    places = [
        [(crop.left, crop.top) for crop in cut([], count=4, size=32, seed=seed)]
        for seed in (0, 0, 1)
    ]
    assert places[0] == places[1] != places[2]


def test_the_papers_settings_are_the_papers():
    forward, inertial, adam = methods(paper=True)
    assert [(m.iterations, m.limit) for m in (forward, inertial, adam)] == [
        (100, 300),
        (100, 300),
        (50, 300),
    ]
    assert forward.iterator.step_size == 0.001
    assert inertial.iterator.inertia == 0.9
    assert inertial.iterator.step_size == pytest.approx(0.001)
    assert adam.iterator.schedule == fixpoint.schedules.warmup_cosine(0.01, 50)
    assert methods()[0].iterator.step_size == 1


def test_the_observation_and_the_dtype_change_the_numbers(tmp_path, run):
    folder = ["--quiet", "--out", str(tmp_path)]
    for option in (["--observation", "8bit"], ["--dtype", "bfloat16"]):
        assert main(["verify", *SMALL, *folder, *option, "--json", str(tmp_path / "j")]) == 0
        other = json.loads((tmp_path / "j").read_text())
        assert other["crops"] != run[0]["crops"] or other["methods"] != run[0]["methods"]
        assert other["settings"] != run[0]["settings"]
    assert other["precision"] >= 2**-8


# --- crops ---


def test_crops_lie_on_a_grid_where_there_is_room_and_else_overlap():
    crops = cut([], count=6, size=64, seed=0)  # 225 x 150 pixels hold 3 x 2
    assert len({(crop.left, crop.top) for crop in crops}) == 6
    assert not any(a.overlaps(b) for a in crops for b in crops if a is not b)
    crops = cut([], count=7, size=64, seed=0)
    assert any(a.overlaps(b) for a in crops for b in crops if a is not b)
    assert {tuple(crop.values.shape) for crop in crops} == {(1, 3, 64, 64)}
    assert len(cut([], count=None, size=64, seed=0)) == 16


def test_crops_are_cut_from_every_picture_and_never_resized(tmp_path, photograph):
    image = to_pil(photograph[0])
    paths = [tmp_path / "a.png", tmp_path / "b.jpg"]
    image.save(paths[0])
    image.save(paths[1], quality=90)
    crops = cut(paths, count=5, size=16, seed=3)
    assert [crop.picture for crop in crops].count(str(paths[0])) == 3
    crop = crops[0]
    inside = photograph[..., crop.top : crop.top + 16, crop.left : crop.left + 16]
    torch.testing.assert_close(crop.values, inside)
    small = cut(paths, count=2, size=128, seed=0)
    assert [crop.values.shape[-2:] for crop in small] == [(64, 64), (64, 64)]
    made, inside = verify_crops.observation_of("auto", crops)
    assert inside is made
    assert isinstance(made.observations[3], Jpeg)
    assert verify_crops.observation_of("none", crops) == (EightBit(), Identity())


# --- the sentences ---


def outcome(ratio=1.0, convergence=-40.0, nmse=-35.0, residual=0.01, **changes):
    one = Outcome(
        cocoercivity=ratio,
        cocoercivity_at=0,
        pairwise=0.8,
        pairwise_at=1,
        convergence_db=convergence,
        nmse_db=nmse,
        nmse_n_db=nmse,
        residual=residual,
        limit_residual=residual / 10,
        rate=0.9,
        status="MAX_ITERATIONS",
        converged=residual < 0.1,
    )
    return replace(one, **changes)


def result(outcomes, method=None):
    ratios = [one.cocoercivity for one in outcomes]
    convergence = [one.convergence_db for one in outcomes]
    nmse = [one.nmse_db for one in outcomes]
    return MethodResult(
        method=method or methods()[2],
        outcomes=tuple(outcomes),
        convergence_line=fit_line(ratios, convergence),
        accuracy_line=fit_line(ratios, nmse),
        agreement_line=fit_line(convergence, nmse),
        claims=(),
        certificate=None,
        remarks=(),
    )


def line_of(noise, slope):
    return [
        outcome(ratio=x, convergence=slope * x - 40 + noise * (-1) ** x, nmse=-30 + slope * x)
        for x in range(1, 9)
    ]


CASES = {
    "falling": (line_of(0.5, -3), ["has a negative slope (-3", "the better it converged"]),
    "rising": (line_of(0.5, 3), ["has a positive slope (+3", "the worse it converged"]),
    "lost in noise": (line_of(30, -1), ["no slope can be told from zero"]),
    "level": ([outcome(ratio=x) for x in (1, 2, 3)], ["no slope can be told from zero (+0.0"]),
    "two crops": ([outcome(1), outcome(2)], ["takes 3 crops with finite values, and there are 2"]),
    "one ratio": ([outcome()] * 5, ["No line was fitted: the ratio is the same"]),
    "one crop": ([outcome()], ["stays above 0 for the one crop", "there are 1"]),
    "negative": (
        [outcome(-0.1), outcome(0.0), outcome(2)],
        ["stays above 0 for 1 of 3 crops"],
    ),
    "none positive": ([outcome(-1), outcome(-2)], ["stays above 0 for none of 2 crops"]),
    "all positive": ([outcome(1), outcome(2)], ["stays above 0 for all 2 crops"]),
    "local": (
        [outcome(pairwise=-1), outcome(pairwise=-1, residual=0.5), outcome()],
        ["Locally not cocoercive, yet converged: 1 of 3 crops (2 of 3 crops had"],
    ),
    "on the way": (
        [outcome(residual=0.9, limit_residual=0.7)] * 3,
        ["for none of 3 crops", "Even at k = 150 it is 0.7 of its first value"],
    ),
    "worse later": ([outcome(nmse=-30, nmse_n_db=-40)], ["iterating on made the latents worse"]),
    "exact": (
        [outcome(convergence=-math.inf), outcome(2), outcome(3)],
        ["z^n is exactly z^inf for 1 of 3 crops", "there are 2"],
    ),
    "still": (
        [outcome(ratio=math.inf, cocoercivity_at=-1)] * 4,
        ["No two values of T differed on all 4 crops", "there are 0"],
    ),
    "lost": (
        [
            outcome(
                math.nan,
                math.nan,
                math.nan,
                math.nan,
                nmse_n_db=math.nan,
                limit_residual=math.nan,
                status="NONFINITE",
            ),
            outcome(),
        ],
        ["1 of 2 crops ended in NaN or infinity", "stays above 0 for the one crop"],
    ),
    "all lost": (
        [outcome(*[math.nan] * 4, nmse_n_db=math.nan, status="DIVERGED")] * 3,
        [
            "known for no crop",
            "all 3 crops ended as diverged",
            "there are 0",
            "accuracy is known for no crop",
        ],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_sentences_say_what_the_numbers_say(case):
    outcomes, words = CASES[case]
    text = "\n".join(findings(result(outcomes)))
    for word in words:
        assert word in text
    assert ("negative slope" in text) == (case == "falling")
    assert ("positive slope" in text) == (case == "rising")
    assert ("Even at k" in text) == (case == "on the way")
    assert ("made the latents worse" in text) == (case == "worse later")
    assert ("exactly z^inf" in text) == (case == "exact")
    assert ("Locally" in text) == (case == "local")


@pytest.mark.parametrize("case", CASES)
def test_any_numbers_make_a_page_and_strict_json(case, run_of):
    shown = run_of(result(CASES[case][0]))
    html = page(shown)
    assert not re.search(r"\bnan\b", html)
    json.dumps(verification.content(shown, {"Adam": ["x"]}), allow_nan=False)
    drawn = sum(
        math.isfinite(one.cocoercivity) and math.isfinite(one.convergence_db)
        for one in CASES[case][0]
    )
    figure = html.split("<figure>")[1].split("</figure>")[0]
    assert figure.count("<circle") == drawn
    assert ('class="fit"' in figure) == (shown.results[0].convergence_line is not None)


@pytest.fixture
def run_of():
    """A verification around the results of one method."""

    def build(one):
        crops = cut([], count=len(one.outcomes), size=16, seed=0)
        settings = {"autoencoder": "A <b>", "observation": "Identity()"}
        start = tuple(-20.0 for _ in crops)
        return verification.Verification(settings, crops, start, 1e-7, (one,))

    return build


def test_the_sentences_of_a_run_are_those_of_its_numbers(run):
    content, html, terminal = run
    body = unescape(re.sub(r"<[^>]*>", "", html))
    for method in content["methods"]:
        line, text = method["convergence_line"], "\n".join(method["findings"])
        assert ("negative slope" in text) == (line["high"] < 0)
        assert ("no slope can be told" in text) == (line["low"] <= 0 <= line["high"])
        count = sum(crop["converged"] for crop in method["crops"])
        whole = {0: "none of 4 crops", 4: "all 4 crops"}.get(count, f"{count} of 4 crops")
        assert f'("converged") for {whole}' in text
        assert all(crop["converged"] == (crop["residual"] < 0.1) for crop in method["crops"])
        for sentence in method["findings"]:
            assert sentence in terminal
        assert method["findings"][0] in body
        assert ("a hypothesis of the theorem is refuted for" in text) == any(
            "refuted" in verdict
            for claim in (method["certificate"] or {"claims": []})["claims"]
            if claim["part"] == "hypothesis"
            for verdict in claim["verdicts"]
        )


def test_overlapping_crops_are_said_to_be_dependent():
    text = findings(result(line_of(0.5, -3)), overlapping=True)[1]
    assert "not independent" in text
    assert "not independent" not in findings(result(line_of(0.5, -3)))[1]


# --- certificates ---


def test_the_certificate_counts_every_crop_once(run):
    for method in run[0]["methods"][:2]:
        assert {claim["name"] for claim in method["claims"]} >= {"step size", "star-cocoercivity"}
        for counted, claim in zip(method["claims"], method["certificate"]["claims"], strict=True):
            assert counted["name"] == claim["name"]
            words = ("certified", "supported", "refuted", "not measured")
            for word in words:
                assert counted[word.replace(" ", "_")] == claim["verdicts"].count(word)
            assert sum(counted[word.replace(" ", "_")] for word in words) == 4
            measured = [margin for margin in claim["margins"] if margin is not None]
            assert counted["margin"] == min(measured, default=None)
            assert counted["margin"] == claim["margins"][counted["crop"]]
    assert by_name(run[0])["Adam"]["certificate"] is None


def test_remarks_speak_of_crops_that_converged(run):
    inertial = by_name(run[0])["inertial KM"]
    refuted = [
        any(
            claim["verdicts"][row] == "refuted"
            for claim in inertial["certificate"]["claims"]
            if claim["part"] == "hypothesis"
        )
        for row in range(4)
    ]
    for row, crop in enumerate(inertial["crops"]):
        said = [line for line in inertial["remarks"] if line.startswith(f"crop {row}: theorem 2")]
        assert bool(said) == (refuted[row] and crop["converged"])


# --- the page ---


def test_the_page_needs_nothing_but_itself(run):
    html = run[1]
    for outside in ("http://", "https://", "//cdn", "src=", "<link", "<script", "@import", "url("):
        assert outside not in html
    assert "prefers-color-scheme:dark" in html
    assert 'name="viewport"' in html
    for tag in ("section", "table", "svg", "figure", "details", "div", "ul", "p", "tr", "td"):
        assert len(re.findall(rf"<{tag}[ >]", html)) == html.count(f"</{tag}>")


def test_the_page_names_every_claim_setting_and_crop(run):
    content, html, _ = run
    for method in content["methods"]:
        for claim in method["claims"]:
            assert f"<strong>{claim['name']}</strong>" in html
    for value in [*content["settings"].values(), *content["versions"].values()]:
        assert str(value) in unescape(html)
    assert html.count("<circle") == 6 * 4
    for word in ("certified", "supported", "refuted", "not measured"):
        assert f'<span class="{word.replace(" ", "-")}">{word}</span>' in html


def test_a_page_in_16_bits_warns_of_its_certificates(run_of, run):
    forward = ForwardStep(step_size=1.0)
    operator = fixpoint.synthetic.dense(torch.linspace(0.1, 1, 4), torch.ones(3, 4), seed=0)
    solution = fixpoint.solve(
        operator,
        torch.zeros(3, 4),
        forward,
        max_iterations=5,
        monitors=(ForwardStepTheorem.of(forward, operator),),
    )
    claims = solution.certificate.claims
    one = replace(
        result([outcome()] * 3, methods()[0]),
        certificate=solution.certificate,
        claims=tuple(verification.count_verdicts(claim) for claim in claims),
        remarks=("crop 0: same", "crop 1: other", "crop 2: same"),
    )
    shown = run_of(one)
    assert "certified</span>" in page(shown)
    assert "<li>crops 0, 2: same</li><li>crop 1: other</li>" in page(shown)
    words = "not to be relied on"
    assert words in page(replace(shown, precision=2**-8))
    assert words not in page(shown)
    assert words not in run[1]


def test_names_are_escaped(run_of):
    html = page(run_of(result([outcome()])))
    assert "A &lt;b&gt;" in html
    assert "A <b>" not in html


def test_points_of_one_place_and_without_accuracy_are_drawn():
    chart = scatter([(1.0, -3.0, math.nan, 0)] * 2, None, "x", "y")
    assert chart.count('fill="#888888"') == 2
    assert "nan" not in chart


# --- what goes wrong ---


def test_a_crop_that_turns_nan_is_told_of_and_leaves_the_others_alone(tmp_path, monkeypatch, run):
    encode = Autoencoder.encode
    calls = []

    def broken(self, pictures):
        calls.append(len(pictures))
        values = encode(self, pictures)
        if len(calls) == 8:  # E(crop), E(x), two for the precision, then iteration 3 of the first
            values[1] = torch.nan
        return values

    monkeypatch.setattr(Autoencoder, "encode", broken)
    arguments = ["--quiet", "--out", str(tmp_path), "--json", str(tmp_path / "j")]
    assert main(["verify", *SMALL, *arguments]) == 0
    content = json.loads((tmp_path / "j").read_text())
    forward, before = by_name(content)["forward step"], by_name(run[0])["forward step"]
    lost = forward["crops"][1]
    assert lost["status"] == "NONFINITE"
    assert lost["cocoercivity"] is lost["convergence_db"] is lost["nmse_db"] is None
    assert not lost["converged"]
    for row in (0, 2, 3):
        assert forward["crops"][row]["nmse_db"] == pytest.approx(before["crops"][row]["nmse_db"])
    assert "1 of 4 crops ended in NaN or infinity and left the figures." in forward["findings"]
    assert by_name(content)["Adam"]["crops"][1]["status"] == "MAX_ITERATIONS"


def test_an_interrupted_run_leaves_no_file(tmp_path, capsys, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("fixpoint.adapters.verification.theorems._run", interrupt)
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
