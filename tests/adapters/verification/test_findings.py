import re
from html import unescape

import pytest
from verification_cases import CASES, line_of, result

from fixpoint.adapters.verification.findings import findings

pytestmark = pytest.mark.usefixtures("no_network")


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


def test_the_sentences_of_a_run_are_those_of_its_numbers(verify_run):
    content, html, terminal = verify_run
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
