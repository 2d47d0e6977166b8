import json
import math
import re
from dataclasses import replace
from html import unescape

import pytest
import torch
from verification_cases import CASES, outcome, result

import fixpoint
from fixpoint import ForwardStep
from fixpoint.adapters.verification.methods import methods
from fixpoint.adapters.verification.page import page
from fixpoint.adapters.verification.results import content as as_json
from fixpoint.adapters.verification.verify import count_verdicts
from fixpoint.monitors import ForwardStepTheorem

pytestmark = pytest.mark.usefixtures("no_network")


@pytest.mark.parametrize("case", CASES)
def test_any_numbers_make_a_page_and_strict_json(case, run_of):
    shown = run_of(result(CASES[case][0]))
    html = page(shown)
    assert not re.search(r"\bnan\b", html)
    json.dumps(as_json(shown, {"Adam": ["x"]}), allow_nan=False)
    drawn = sum(
        math.isfinite(one.cocoercivity) and math.isfinite(one.convergence_db)
        for one in CASES[case][0]
    )
    figure = html.split("<figure>")[1].split("</figure>")[0]
    assert figure.count("<circle") == drawn
    assert ('class="fit"' in figure) == (shown.results[0].convergence_line is not None)


def test_the_page_needs_nothing_but_itself(verify_run):
    html = verify_run[1]
    for outside in ("http://", "https://", "//cdn", "src=", "<link", "<script", "@import", "url("):
        assert outside not in html
    assert "prefers-color-scheme:dark" in html
    assert 'name="viewport"' in html
    for tag in ("section", "table", "svg", "figure", "details", "div", "ul", "p", "tr", "td"):
        assert len(re.findall(rf"<{tag}[ >]", html)) == html.count(f"</{tag}>")


def test_the_page_names_every_claim_setting_and_crop(verify_run):
    content, html, _ = verify_run
    for method in content["methods"]:
        for claim in method["claims"]:
            assert f"<strong>{claim['name']}</strong>" in html
    for value in [*content["settings"].values(), *content["versions"].values()]:
        assert str(value) in unescape(html)
    assert html.count("<circle") == 6 * 4
    for word in ("certified", "supported", "refuted", "not measured"):
        assert f'<span class="{word.replace(" ", "-")}">{word}</span>' in html


def test_a_page_in_16_bits_warns_of_its_certificates(run_of, verify_run):
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
        claims=tuple(count_verdicts(claim) for claim in claims),
        remarks=("crop 0: same", "crop 1: other", "crop 2: same"),
    )
    shown = run_of(one)
    assert "certified</span>" in page(shown)
    assert "<li>crops 0, 2: same</li><li>crop 1: other</li>" in page(shown)
    words = "not to be relied on"
    assert words in page(replace(shown, precision=2**-8))
    assert words not in page(shown)
    assert words not in verify_run[1]


def test_names_are_escaped(run_of):
    html = page(run_of(result([outcome()])))
    assert "A &lt;b&gt;" in html
    assert "A <b>" not in html
