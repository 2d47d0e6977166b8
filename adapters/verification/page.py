"""What a verification found, in words, as a table for the terminal, and as one HTML page.

Every sentence is decided by the numbers; the page needs no script, no network and no other file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from itertools import groupby
from pathlib import Path

from fixpoint.adapters.reports.versions import versions
from fixpoint.adapters.verification.findings import findings
from fixpoint.adapters.verification.fitted_line import Line
from fixpoint.adapters.verification.numbers_in_words import (
    as_cell,
    as_interval,
    as_number,
    as_signed,
    typeset,
)
from fixpoint.adapters.verification.scatter import scatter, shade
from fixpoint.adapters.verification.theorems import (
    ClaimCount,
    MethodResult,
    Outcome,
    Verification,
    positive_fraction,
    refuted_crops,
    typical,
)
from fixpoint.checkpoints.whole_file import write_whole

COARSE = 1e-3
"""Relative error of T beyond which the slack of the certificates exceeds what they compare."""


def table(verification: Verification) -> str:
    """The results as text, a line a method and a line a claim."""
    head = (
        f"{'method':<14}{'ratio > 0':>10}{'least':>8}{'residual':>10}{'conv. dB':>10}"
        f"{'NMSE dB':>9}{'slope dB':>10}  95 % interval"
    )
    lines = [head, "-" * len(head)]
    for result in verification.results:
        outcomes, line = result.outcomes, result.convergence_line
        lines.append(
            f"{result.method.name:<14}"
            f"{_fraction(result):>10}"
            f"{as_number(_least(outcomes), '.2f'):>8}"
            f"{as_number(typical([one.residual for one in outcomes]), '.2g'):>10}"
            f"{as_number(typical([one.convergence_db for one in outcomes]), '.1f'):>10}"
            f"{as_number(typical([one.nmse_db for one in outcomes]), '.1f'):>9}"
            + ("         -" if line is None else f"{line.slope:>10.1f}  {as_interval(line)}")
        )
    lines.append("(least: over all crops; residual, convergence and NMSE: medians)")
    for result in verification.results:
        for theorem, claims in groupby(result.claims, lambda claim: claim.theorem):
            lines += [
                "",
                f"{theorem:<34}{'certified':>10}{'supported':>10}{'refuted':>9}"
                f"{'not measured':>14}  margin",
            ]
            lines += [
                f"  {claim.name:<32}{claim.certified:>10}{claim.supported:>10}{claim.refuted:>9}"
                f"{claim.not_measured:>14}  {_margin(claim)}"
                for claim in claims
            ]
    return "\n".join(lines)


def write_page(path: Path, verification: Verification) -> None:
    """The page as one HTML file, written whole or not at all."""
    text = page(verification)
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def page(verification: Verification) -> str:
    """The HTML of the page."""
    crops = verification.crops
    pictures = {crop.picture: None for crop in crops}
    first = crops[0]
    count = f"{len(crops)} crop{'s' * (len(crops) != 1)}"
    body = [
        "<header><h1>Does the theorem apply to this autoencoder?</h1>",
        f"<p>{escape(verification.settings['autoencoder'])}, {count} of {first.width} × "
        f"{first.height} pixels from {escape(', '.join(pictures))}</p></header>",
        _overview(verification),
        _reading(verification),
        *(_method(result, verification) for result in verification.results),
        _limits(),
        _settings(verification),
    ]
    title = "fixpoint verify"
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _overview(verification: Verification) -> str:
    """The methods side by side: a column each, so that it fits a phone."""
    results = verification.results

    def middle(name: str, form: str) -> list[str]:
        return [
            as_cell(typical([getattr(one, name) for one in result.outcomes]), form)
            for result in results
        ]

    def slope(line: Line | None) -> str:
        if line is None:
            return "–"
        return f"{typeset(as_signed(line.slope))}<small>{typeset(as_interval(line))}</small>"

    counts = [(sum(one.converged for one in r.outcomes), len(r.outcomes)) for r in results]
    rows = {
        "ratio (14) above 0": [_fraction(result) for result in results],
        "least ratio": [as_cell(_least(result.outcomes), ".2f") for result in results],
        "converged": [f"{count} / {whole}" for count, whole in counts],
        "convergence, dB": middle("convergence_db", ".1f"),
        "NMSE of z^n, dB": middle("nmse_n_db", ".1f"),
        "NMSE of z^inf, dB": middle("nmse_db", ".1f"),
        "slope, dB per unit (95 % interval)": [
            slope(result.convergence_line) for result in results
        ],
        "hypothesis refuted": [_number_refuted(result) for result in results],
    }
    heads = "".join(f'<th scope="col">{escape(result.method.name)}</th>' for result in results)
    lines = "".join(
        f'<tr><th scope="row">{typeset(name)}</th>'
        + "".join(f"<td>{cell}</td>" for cell in cells)
        + "</tr>"
        for name, cells in rows.items()
    )
    start = as_cell(typical(verification.encoder_nmse_db), ".1f")
    return (
        '<section><h2>In short</h2><table class="numbers overview"><thead><tr><td></td>'
        f"{heads}</tr></thead><tbody>{lines}</tbody></table>"
        '<p class="note">Convergence and NMSE are medians over the crops; the slope is that of '
        "the line fitted to convergence against the least ratio of each crop. The encoder alone, "
        f"z<sup>0</sup> = E(x), has a median NMSE of {start} dB.</p></section>"
    )


def _reading(verification: Verification) -> str:
    spans = {(one.method.iterations, one.method.limit) for one in verification.results}
    plan = "; ".join(f"n = {n} with z^inf at k = {m}" for n, m in sorted(spans))
    inside = verification.settings["observation"]
    between = "" if inside == "Identity()" else f", with Q = {inside} between D and E"
    texts = [
        "Each crop was encoded to a latent z* and decoded to an 8-bit picture x, so that z* is "
        "known. From z^0 = E(x) every method looks for a zero of T z = E(D(z)) - E(x)"
        f"{between}. The convergence theorems need T to be cocoercive along the path; with the "
        "limit z^inf in the place of the unknown zero that is",
        "min_{k <= n} <T z^inf - T z^k, z^inf - z^k> / ||T z^inf - T z^k||^2 >= beta > 0   (14)",
        "(section 3.4 of Hong et al., NeurIPS 2024; z^k is the point where T is evaluated: for "
        "inertial KM y^k). Convergence is ||z^n - z^inf|| / ||z^inf|| in dB, and NMSE is "
        "||z^inf - z*||^2 / ||z*||^2 in dB; lower is better for both. No run reaches its limit, so "
        "z^inf is the point after more iterations, as in the paper's figures (which take 300 for "
        f"n = 100 and n = 50): {plan}. A crop counts as converged once ||T z^n|| is below a tenth "
        "of ||T z^0||.",
        "Each ratio is taken at the upper end of its rounding error: the values of T were "
        f"measured to be known to {verification.precision:.1g} of ||z||.",
    ]
    classes = ["", ' class="formula"', "", ""]
    paragraphs = "".join(
        f"<p{kind}>{typeset(text)}</p>" for kind, text in zip(classes, texts, strict=True)
    )
    return f"<section><h2>What was measured</h2>{paragraphs}</section>"


def _method(result: MethodResult, verification: Verification) -> str:
    method, overlapping = result.method, verification.overlapping
    sentences = "".join(f"<li>{typeset(line)}</li>" for line in findings(result, overlapping))
    plots = [
        _figure(
            result,
            [one.convergence_db for one in result.outcomes],
            result.convergence_line,
            "convergence, dB",
            "Cocoercivity against convergence",
        ),
        _figure(
            result,
            [one.nmse_db for one in result.outcomes],
            result.accuracy_line,
            "NMSE of z∞, dB",
            "Cocoercivity against accuracy",
        ),
    ]
    return (
        f"<section><h2>{escape(method.name[0].upper() + method.name[1:])}</h2>"
        f'<p class="note">{typeset(method.words)}; n = {method.iterations}, z<sup>∞</sup> at k = '
        f'{method.limit}</p><ul class="findings">{sentences}</ul>'
        f'<div class="plots">{"".join(plots)}</div>{_key(result)}'
        f"{_claims(result, verification.precision)}{_remarks(result)}{_crop_table(result)}"
        "</section>"
    )


def _figure(
    result: MethodResult, ordinates: Sequence[float], line: Line | None, label: str, title: str
) -> str:
    drawn = [
        (one.cocoercivity, ordinate, one.nmse_db, index)
        for index, (one, ordinate) in enumerate(zip(result.outcomes, ordinates, strict=True))
        if math.isfinite(one.cocoercivity) and math.isfinite(ordinate)
    ]
    if not drawn:
        return (
            f"<figure><figcaption>{title}: no crop has finite values to draw.</figcaption></figure>"
        )
    if line is None:
        caption = f"{title}: no line"
    else:
        correlation = "none" if line.correlation is None else as_signed(line.correlation, ".2f")
        caption = typeset(
            f"{title}: slope {as_signed(line.slope)} dB per unit ({as_interval(line)}), "
            f"correlation {correlation}"
        )
    chart = scatter(drawn, line, "min over k of the ratio (14)", label, result.method.needed)
    return f"<figure>{chart}<figcaption>{caption}</figcaption></figure>"


def _key(result: MethodResult) -> str:
    values = [one.nmse_db for one in result.outcomes if math.isfinite(one.nmse_db)]
    if not values:
        return ""
    low, high = min(values), max(values)
    if low == high:
        return f'<p class="key">NMSE of z<sup>∞</sup>: {as_cell(low, ".1f")} dB for all</p>'
    stops = ", ".join(shade(step / 8) for step in range(9))
    return (
        f'<p class="key">NMSE of z<sup>∞</sup>: <span>{as_cell(low, ".1f")} dB</span>'
        f'<i style="background:linear-gradient(90deg, {stops})"></i>'
        f"<span>{as_cell(high, '.1f')} dB</span></p>"
    )


def _claims(result: MethodResult, precision: float) -> str:
    if not result.claims:
        return '<p class="note">No theorem covers this method, so there is no certificate.</p>'
    coarse = ""
    if precision > COARSE:
        coarse = (
            f" The values of T are known to {precision:.1g} of ‖z‖ only: at this precision the "
            "verdicts are not to be relied on; take them from a float32 run."
        )
    rows, part = [], ""
    for claim in result.claims:
        if claim.part != part:
            part = claim.part
            heading = "Hypotheses" if part == "hypothesis" else "Conclusions"
            rows.append(f'<tr class="part"><th colspan="3" scope="colgroup">{heading}</th></tr>')
        counts = "".join(
            f'<span class="{word.replace(" ", "-")}">{word} {count}</span>'
            for word, count in (
                ("certified", claim.certified),
                ("supported", claim.supported),
                ("refuted", claim.refuted),
                ("not measured", claim.not_measured),
            )
            if count
        )
        rows.append(
            f'<tr><td><strong>{escape(claim.name)}</strong><span class="sentence">'
            f"{typeset(claim.sentence)}</span><small>{typeset(claim.basis)}</small></td>"
            f'<td class="verdicts">{counts}</td><td>{_margin(claim, html=True)}</td></tr>'
        )
    return (
        f"<h3>Certificates: {escape(result.claims[0].theorem)}</h3>"
        f'<p class="note">Along the whole run to k = {result.method.limit}; the number of crops '
        f"for each word.{coarse}</p>"
        '<table class="claims"><thead><tr><th>claim</th><th>verdict</th><th>least margin</th></tr>'
        "</thead><tbody>" + "".join(rows) + "</tbody></table>"
    )


def _remarks(result: MethodResult) -> str:
    if not result.remarks:
        return ""
    items = "".join(f"<li>{typeset(line)}</li>" for line in _grouped(result.remarks))
    return f"<details><summary>Remarks, crop by crop</summary><ul>{items}</ul></details>"


def _grouped(remarks: Sequence[str]) -> list[str]:
    """Remarks of the same words put together: "crops 0, 3: ..."."""
    crops: dict[str, list[str]] = {}
    for remark in remarks:
        number, words = remark.removeprefix("crop ").split(": ", 1)
        crops.setdefault(words, []).append(number)
    return [
        f"crop{'s' * (len(numbers) > 1)} {', '.join(numbers)}: {words}"
        for words, numbers in crops.items()
    ]


def _crop_table(result: MethodResult) -> str:
    rows = "".join(
        f"<tr><td>{index}</td><td>{as_cell(one.cocoercivity, '.3f')}</td>"
        f"<td>{one.cocoercivity_at if one.cocoercivity_at >= 0 else '–'}</td>"
        f"<td>{as_cell(one.pairwise, '.3f')}</td>"
        f"<td>{as_cell(one.convergence_db, '.1f')}</td><td>{as_cell(one.nmse_n_db, '.1f')}</td>"
        f"<td>{as_cell(one.nmse_db, '.1f')}</td><td>{as_cell(one.residual, '.2g')}</td>"
        f"<td>{'yes' if one.converged else 'no'}</td></tr>"
        for index, one in enumerate(result.outcomes)
    )
    return (
        "<details><summary>Numbers, crop by crop</summary>"
        '<div class="wide"><table class="numbers"><thead><tr>'
        "<th>crop</th><th>ratio (14)</th><th>at k</th><th>pairwise</th><th>convergence, dB</th>"
        "<th>NMSE of z<sup>n</sup>, dB</th><th>NMSE of z<sup>∞</sup>, dB</th>"
        "<th>residual at n</th><th>converged</th>"
        f"</tr></thead><tbody>{rows}</tbody></table></div></details>"
    )


def _limits() -> str:
    return (
        "<section><h2>The four words</h2><dl>"
        '<dt><span class="certified">certified</span></dt><dd>It follows from constants that are '
        "known, and nothing measured contradicts it. An autoencoder’s β is not known, so only "
        "conditions on the settings alone can be certified here.</dd>"
        '<dt><span class="supported">supported</span></dt><dd>Measured along these runs and never '
        "violated there. The least of finitely many ratios is an upper estimate of β: another "
        "crop, or another path, may show a smaller one.</dd>"
        '<dt><span class="refuted">refuted</span></dt><dd>Violated on these crops, by the margin '
        "and at the iteration given. A refuted hypothesis means that the theorem says nothing "
        "about the run, not that the run fails.</dd>"
        '<dt><span class="not-measured">not measured</span></dt><dd>These runs did not show it, '
        "one way or the other. No zero of an autoencoder’s T is known, and a conclusion is never "
        "above its weakest hypothesis.</dd></dl>"
        "<p>Ratios are taken towards z<sup>∞</sup>, a point of the same run, not towards a "
        "proven zero. A fitted slope is a correlation over these crops: no cause, and no promise "
        "for other pictures.</p></section>"
    )


def _settings(verification: Verification) -> str:
    entries = verification.settings | versions()
    rows = "".join(
        f'<tr><th scope="row">{escape(str(name))}</th><td>{escape(str(value))}</td></tr>'
        for name, value in entries.items()
    )
    places = "".join(
        f"<tr><td>{index}</td><td>{escape(crop.picture)}</td><td>{crop.left}</td>"
        f"<td>{crop.top}</td><td>{as_cell(start, '.1f')}</td></tr>"
        for index, (crop, start) in enumerate(
            zip(verification.crops, verification.encoder_nmse_db, strict=True)
        )
    )
    return (
        f'<section><h2>Settings and versions</h2><table class="settings"><tbody>{rows}</tbody>'
        "</table><details><summary>Where the crops lie</summary>"
        '<div class="wide"><table class="numbers"><thead><tr><th>crop</th><th>picture</th>'
        "<th>left</th><th>top</th><th>NMSE of E(x), dB</th></tr></thead>"
        f"<tbody>{places}</tbody></table></div></details></section>"
    )


def _least(outcomes: Sequence[Outcome]) -> float:
    finite = [one.cocoercivity for one in outcomes if math.isfinite(one.cocoercivity)]
    return min(finite) if finite else math.nan


def _fraction(result: MethodResult) -> str:
    fraction = positive_fraction(result)
    if fraction is None:
        return "-"
    known = sum(not math.isnan(one.cocoercivity) for one in result.outcomes)
    return f"{round(fraction * known)} / {known}"


def _number_refuted(result: MethodResult) -> str:
    refuted = refuted_crops(result)
    return "no theorem" if refuted is None else f"{sum(refuted)} / {len(refuted)}"


def _margin(claim: ClaimCount, html: bool = False) -> str:
    if claim.margin == math.inf:  # of no crop
        return "–"
    at = f"crop {claim.crop}" + (f", k = {claim.iteration}" if claim.iteration >= 0 else "")
    if html:
        return f"{as_cell(claim.margin, '.3g')}<small>{at.replace(' = ', '&nbsp;=&nbsp;')}</small>"
    return f"{as_number(claim.margin, '.3g')} ({at})"


STYLE = """
:root{color-scheme:light dark;--ink:#1c2430;--soft:#5b6675;--paper:#fbfbf9;--rule:#d9dde3;
--card:#fff;--fit:#d0312d;--good:#1a7f4b;--fair:#1d63b8;--bad:#b3261e}
@media (prefers-color-scheme:dark){:root{--ink:#e4e8ee;--soft:#9aa6b5;--paper:#14181e;
--rule:#333c48;--card:#1b2129;--fit:#ff6b63;--good:#5fd39a;--fair:#7db4ff;--bad:#ff8a80}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1.5rem 1rem 4rem;max-width:62rem;background:var(--paper);
color:var(--ink);font:16px/1.55 system-ui,sans-serif;overflow-wrap:break-word}
h1{font-size:1.7rem;line-height:1.2;margin:.5rem 0}
h2{font-size:1.3rem;margin:2.6rem 0 .4rem;padding-top:.9rem;border-top:1px solid var(--rule)}
h3{font-size:1.05rem;margin:1.6rem 0 .2rem}
header p,.note,small,figcaption,.key{color:var(--soft)}
.note,figcaption,.key{font-size:.875rem;margin:.3rem 0}
small{display:block;font-size:.8rem;font-weight:normal}
.formula{margin:.8rem 0;padding:.6rem .8rem;background:var(--card);border:1px solid var(--rule);
border-radius:6px}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.4rem .7rem;border-bottom:1px solid var(--rule);text-align:left;
vertical-align:top}
thead th{color:var(--soft);font-weight:600;vertical-align:bottom}
.numbers td,.numbers thead th{text-align:right}
.numbers th:first-child{text-align:left}
.overview{width:100%;max-width:46rem}.overview tbody th{font-weight:normal}
.findings{padding-left:1.2rem;margin:.6rem 0 1rem}
.findings li{margin:.3rem 0}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr));gap:1rem}
figure{margin:0;padding:.5rem;background:var(--card);border:1px solid var(--rule);
border-radius:6px}
sup,sub{line-height:0;font-size:.75em}
svg{display:block;width:100%;height:auto}
svg text{font:12px system-ui,sans-serif;fill:var(--soft)}
svg .grid{stroke:var(--rule);stroke-width:1}
svg line.mark{stroke:var(--soft);stroke-dasharray:4 3}
svg .fit{stroke:var(--fit);stroke-width:2.2}
svg circle{stroke:var(--ink);stroke-width:.8;fill-opacity:.9}
figcaption{padding:.2rem .3rem}
.key i{display:inline-block;width:7rem;height:.7rem;margin:0 .5rem;border-radius:3px}
.key span{white-space:nowrap}
.claims{width:100%}
.claims .part th{padding-top:1rem;color:var(--soft)}
.claims .sentence{display:block}
.verdicts span,dt span{display:inline-block;white-space:nowrap;font-weight:600;
margin-right:.6rem}
.certified{color:var(--good)}.supported{color:var(--fair)}.refuted{color:var(--bad)}
.not-measured{color:var(--soft)}
dd{margin:0 0 .6rem}
details{margin:1rem 0 0}
summary{cursor:pointer;color:var(--fair)}
@media (max-width:34rem){body{padding:1rem .75rem 3rem}h1{font-size:1.4rem}
th,td{padding:.35rem .3rem}
.claims thead{display:none}.claims tr{display:block;padding:.4rem 0;border-bottom:1px solid
var(--rule)}.claims td{display:inline-block;border:0;padding:.1rem .3rem}
.claims td:first-child{display:block}
.claims td:last-child::before{content:"least margin ";color:var(--soft);font-size:.8rem}
.claims .part th{border:0}.claims td small{display:inline;
margin-left:.5rem}.claims td:first-child small{display:block;margin:0}
.key i{width:3.5rem}}
"""
