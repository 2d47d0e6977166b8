import json

import pytest
import torch
from verification_cases import SMALL

import fixpoint
from fixpoint.adapters import DecoderInversion, EightBit, Identity, nmse_db
from fixpoint.adapters.autoencoders.diffusers_autoencoder import DiffusersAutoencoder
from fixpoint.adapters.commands.main import main
from fixpoint.adapters.verification.crops import cut
from fixpoint.adapters.verification.fitted_line import fit_line
from fixpoint.adapters.verification.methods import methods

pytestmark = pytest.mark.usefixtures("no_network")


def by_name(content):
    return {method["name"]: method for method in content["methods"]}


@pytest.mark.parametrize("name", ["forward step", "inertial KM", "Adam"])
def test_every_number_is_that_of_a_plain_solve(verify_run, autoencoder, name):
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
    shown = by_name(verify_run[0])[name]
    assert (shown["iterations"], shown["limit"]) == (4, 12)
    for key, numbers in expected.items():
        given = [crop[key] for crop in shown["crops"]]
        if key == "cocoercivity":  # taken at the upper end of its rounding error
            assert all(a > b - 1e-5 for a, b in zip(given, numbers.tolist(), strict=True))
            assert given == pytest.approx(numbers.tolist(), rel=1e-2)
        else:
            assert given == pytest.approx(numbers.tolist(), rel=1e-4)
    assert [crop["cocoercivity_at"] for crop in shown["crops"]] == least.indices.tolist()
    start = [crop["encoder_nmse_db"] for crop in verify_run[0]["crops"]]
    assert start == pytest.approx(nmse_db(operator.start, truth).tolist())
    fraction = (least.values > 0).double().mean()
    assert shown["positive_fraction"] == pytest.approx(float(fraction))
    line = fit_line(least.values.tolist(), expected["convergence_db"].tolist())
    assert shown["convergence_line"]["slope"] == pytest.approx(line.slope, rel=0.05)


def test_the_certificate_counts_every_crop_once(verify_run):
    for method in verify_run[0]["methods"][:2]:
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
    assert by_name(verify_run[0])["Adam"]["certificate"] is None


def test_remarks_speak_of_crops_that_converged(verify_run):
    inertial = by_name(verify_run[0])["inertial KM"]
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


def test_a_crop_that_turns_nan_is_told_of_and_leaves_the_others_alone(
    tmp_path, monkeypatch, verify_run
):
    encode = DiffusersAutoencoder.encode
    calls = []

    def broken(self, pictures):
        calls.append(len(pictures))
        values = encode(self, pictures)
        if len(calls) == 8:  # E(crop), E(x), two for the precision, then iteration 3 of the first
            values[1] = torch.nan
        return values

    monkeypatch.setattr(DiffusersAutoencoder, "encode", broken)
    arguments = ["--quiet", "--out", str(tmp_path), "--json", str(tmp_path / "j")]
    assert main(["verify", *SMALL, *arguments]) == 0
    content = json.loads((tmp_path / "j").read_text())
    forward, before = by_name(content)["forward step"], by_name(verify_run[0])["forward step"]
    lost = forward["crops"][1]
    assert lost["status"] == "NONFINITE"
    assert lost["cocoercivity"] is lost["convergence_db"] is lost["nmse_db"] is None
    assert not lost["converged"]
    for row in (0, 2, 3):
        assert forward["crops"][row]["nmse_db"] == pytest.approx(before["crops"][row]["nmse_db"])
    assert "1 of 4 crops ended in NaN or infinity and left the figures." in forward["findings"]
    assert by_name(content)["Adam"]["crops"][1]["status"] == "MAX_ITERATIONS"
