"""The results of `fixpoint verify` as one HTML page.

Every sentence is decided by the numbers. The page needs no script, no network and no other file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

from fixpoint.adapters.reports.versions import versions
from fixpoint.adapters.verification.findings import findings
from fixpoint.adapters.verification.fitted_line import Line
from fixpoint.adapters.verification.results import (
    ClaimCount,
    MethodResult,
    Verification,
    typical,
)
from fixpoint.adapters.verification.scatter import scatter, shade
from fixpoint.adapters.verification.stylesheet import STYLE
from fixpoint.adapters.verification.terminal_table import table
from fixpoint.adapters.verification.typesetting import as_cell, as_interval, as_signed, typeset
from fixpoint.checkpoints.whole_file import write_whole

__all__ = ["findings", "page", "table", "write_page"]

COARSE = 1e-3
"""Relative error of T above which the tolerance of the certificates exceeds what they compare."""


def write_page(path: Path, verification: Verification) -> None:
    """Write the page as an HTML file, whole or not at all."""
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
    """The table of all methods: one column each, so that it fits a phone."""
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
        "ratio (14) above 0": [result.positive_count for result in results],
        "least ratio": [as_cell(result.least_ratio, ".2f") for result in results],
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
            f'<td class="verdicts">{counts}</td><td>{_margin(claim)}</td></tr>'
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
    """Remarks of the same words in one line: "crops 0, 3: ..."."""
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


def _number_refuted(result: MethodResult) -> str:
    refuted = result.refuted_crops
    return "no theorem" if refuted is None else f"{sum(refuted)} / {len(refuted)}"


def _margin(claim: ClaimCount) -> str:
    if claim.margin == math.inf:  # of no crop
        return "–"
    at = f"crop {claim.crop}" + (f", k = {claim.iteration}" if claim.iteration >= 0 else "")
    return f"{as_cell(claim.margin, '.3g')}<small>{at.replace(' = ', '&nbsp;=&nbsp;')}</small>"
