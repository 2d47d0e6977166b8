"""The hard set: every observation, every content, the strongest baselines, and what limits ours.

Parts: all groups with the paper's operator at the stop of an oracle; gradient descent with all its
settings; 16 bits; hand-tuned settings against what `invert` chooses by itself; several starting
points, to count deceptive zeros; and what an oracle makes of rounding and the decoder's Jacobian.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from context import Context, number, table
from hard_set import CONTENTS, OBSERVATIONS, Group, group, latents
from matplotlib.figure import Figure
from torch import Tensor

from fixpoint import (
    Adam,
    Anderson,
    Broyden,
    ForwardStep,
    InertialKM,
    Iterator,
    Status,
    schedules,
    solve,
)
from fixpoint.adapters import (
    Autoencoder,
    Clip,
    DecoderInversion,
    Identity,
    Inversion,
    Masked,
    invert,
    invert_by_gradient,
)
from fixpoint.adapters.files import write_whole
from fixpoint.adapters.inversion import default_iterator, default_observation, default_stop
from fixpoint.adapters.observations import EIGHT_BIT_NOISE
from fixpoint.adapters.pictures import as_pictures
from fixpoint.iterate import Iterate

EACH = 1  # latents a content
EVALUATIONS = 30
FULL = ("8-bit", "JPEG 75")  # groups for which the gradient runs with all its settings
STEPS, FEW_STEPS = 200, 50
GRADIENT: dict[str, dict[str, Any]] = {
    "Adam 0.01 fixed": {"schedule": schedules.constant(0.01)},
    "Adam 0.1 scheduled": {},
    "Adam 0.01 fixed, clipped": {"schedule": schedules.constant(0.01), "observation": Clip()},
    "L-BFGS, clipped": {"optimizer": "lbfgs", "observation": Clip()},
    "L-BFGS, clipped, encoder term": {
        "optimizer": "lbfgs",
        "encoder_weight": 0.1,
        "observation": Clip(),
    },
}
STRONGEST = "L-BFGS, clipped, encoder term"
BY_HAND: dict[str, Iterator[Any]] = {
    "forward step, rho 0.5": ForwardStep(step_size=0.5),
    "forward step, rho 1": ForwardStep(step_size=1.0),
    "forward step, rho 1.5": ForwardStep(step_size=1.5),
    "inertial KM, alpha 0.3": InertialKM(inertia=0.3, relaxation=0.5, cocoercivity=1.0),
    "Anderson, memory 5": Anderson(memory=5),
    "Anderson, memory 10, 1.3, deviation": Anderson(memory=10, mixing=1.3, minimize="deviation"),
    "Broyden": Broyden(),
}
STARTS, DISTANCE_DB = 3, -10.0  # further starting points, and how far they are from E(x)
DECEIVED_DB = 10.0
BOUNDED = ("photographs", "text", "noise", "interpolations")


@dataclass
class Watched:
    """The errors along a run, in dB: (evaluations, cases), NaN for rows that have left."""

    group: Group
    errors: list[Tensor] = field(default_factory=list)

    def __call__(self, iterate: Iterate) -> None:
        self.add(iterate.state.point, iterate.rows)

    def add(self, point: Tensor, rows: Tensor) -> None:
        self.errors.append(torch.full((len(self.group.truth),), math.nan))
        self.errors[-1][rows] = self.group.nmse_db(point, rows).float()

    @property
    def oracle(self) -> Tensor:
        """The least error of every case."""
        return torch.stack(self.errors).nan_to_num(nan=math.inf).amin(0)

    @property
    def curve(self) -> Tensor:
        """The mean error, evaluation by evaluation; rows that have left keep their last."""
        latest, means = self.errors[0], []
        for errors in self.errors:
            latest = torch.where(errors.isnan(), latest, errors)
            means.append(latest.mean())
        return torch.stack(means)


def measure(context: Context) -> dict[str, Any]:
    models = {}
    for name, autoencoder in context.autoencoders.items():
        truth = latents(autoencoder, 1 if context.quick else EACH, 32 if context.quick else 64)
        groups = {each: group(autoencoder, each, truth) for each in OBSERVATIONS}
        models[name] = {
            "groups": {each: _group(name, autoencoder, groups[each], context) for each in groups},
            "halves": _halves(name, groups, context),
            "starts": _starts(name, autoencoder, groups["8-bit"]),
            "oracle": [] if context.quick else _oracle(name, autoencoder, groups["8-bit"]),
        }
    return {
        "cases": len(models) * len(OBSERVATIONS) * len(truth),
        "latents": len(truth),
        "steps": STEPS,
        "few_steps": FEW_STEPS,
        "models": models,
    }


def ours(
    autoencoder: Autoencoder, cases: Group, evaluations: int = EVALUATIONS
) -> tuple[Inversion, Watched]:
    watched = Watched(cases)
    inversion = invert(
        autoencoder,
        cases.pictures,
        observation=cases.observation,
        max_iterations=evaluations - 1,
        value_range=(-1, 1),
        callback=watched,
    )
    return inversion, watched


def _group(name: str, autoencoder: Autoencoder, cases: Group, context: Context) -> dict[str, Any]:
    inversion, watched = ours(autoencoder, cases)
    assert inversion.solution is not None
    errors = cases.nmse_db(inversion.latent)
    found: dict[str, Any] = {
        "encoder": _line(cases.nmse_db(_start(autoencoder, cases))),
        "ours": _line(errors, inversion.evaluations, watched.oracle),
        "ours_5": _line(cases.nmse_db(ours(autoencoder, cases, 5)[0].latent)),
        "by_content": _by_content(errors),
        "status": _count(inversion.status),
        "statistics": {
            key: float(value.float().mean()) for key, value in inversion.solution.statistics.items()
        },
        "paper": _paper(autoencoder, cases),
        "gradient": _gradient(autoencoder, cases, context.quick),
        "by_hand": _by_hand(autoencoder, cases),
    }
    best = min(found["gradient"].values(), key=lambda line: line["nmse_db"])
    print(
        f"{name:<26}{cases.name:<16}ours {found['ours']['nmse_db']:.1f} dB "
        f"({found['ours']['evaluations']:.0f} evaluations, oracle "
        f"{found['ours']['oracle_db']:.1f}), gradient {best['nmse_db']:.1f}, paper's operator at "
        f"the oracle {min(line['oracle_db'] for line in found['paper'].values()):.1f}",
        flush=True,
    )
    return found


@torch.no_grad()
def _start(autoencoder: Autoencoder, cases: Group) -> Tensor:
    return autoencoder.encode(cases.pictures)


def _line(
    errors: Tensor, evaluations: Tensor | None = None, oracle: Tensor | None = None
) -> dict[str, Any]:
    line = {
        "nmse_db": float(errors.mean()),
        "interval_db": 1.96 * float(errors.std()) / math.sqrt(len(errors)),
        "worst_db": float(errors.max()),
    }
    if evaluations is not None:
        line["evaluations"] = float(evaluations.float().mean())
    if oracle is not None:
        line["oracle_db"] = float(oracle.mean())
        line["gap_db"] = float((errors - oracle).max())
    return line


def _by_content(errors: Tensor) -> dict[str, float]:
    means = errors.reshape(len(CONTENTS), -1).mean(1)
    return dict(zip(CONTENTS, means.tolist(), strict=True))


def _count(status: tuple[Status, ...]) -> dict[str, int]:
    return {each.name: status.count(each) for each in Status if each in status}


def _paper(autoencoder: Autoencoder, cases: Group) -> dict[str, Any]:
    """The paper's operator, T z = E(D(z)) - E(x): its Adam, and forward steps of size 1."""
    operator = DecoderInversion(autoencoder.encode, autoencoder.decode, cases.pictures, Identity())
    steps = 2 * EVALUATIONS
    methods: dict[str, Iterator[Any]] = {
        "Adam": Adam(schedule=schedules.warmup_cosine(0.01, steps)),
        "forward step, rho 1": ForwardStep(),
    }
    lines = {}
    for method, iterator in methods.items():
        watched = Watched(cases)
        solution = solve(
            operator,
            operator.start,
            iterator,
            rtol=0.0,
            atol=0.0,
            max_iterations=steps - 1,
            keep="last",
            callback=watched,
        )
        lines[method] = _line(cases.nmse_db(solution.z), solution.evaluations, watched.oracle)
    return lines


def _gradient(autoencoder: Autoencoder, cases: Group, quick: bool) -> dict[str, Any]:
    full = cases.name in FULL
    steps = 3 if quick else STEPS if full else FEW_STEPS
    lines = {}
    for setting, options in GRADIENT.items():
        if not full and setting != STRONGEST:
            continue
        watched = Watched(cases)
        rows = torch.arange(len(cases.truth))
        if isinstance(cases.observation, Masked):  # it is told of the mask, too
            options = options | {"observation": Masked(cases.observation.known, Clip())}
        inversion = invert_by_gradient(
            autoencoder,
            cases.pictures,
            steps=steps,
            value_range=(-1, 1),
            callback=_adder(watched, rows),
            **options,
        )
        errors = cases.nmse_db(inversion.latent)
        lines[setting] = _line(errors, inversion.evaluations, watched.oracle)
        lines[setting]["by_content"] = _by_content(errors)
    return lines


def _adder(watched: Watched, rows: Tensor) -> Callable[[int, Tensor], None]:
    return lambda step, z: watched.add(z, rows)


def _by_hand(autoencoder: Autoencoder, cases: Group) -> dict[str, Any]:
    """The best of a grid of settings, each ended where it is best on the mean of this group."""
    observations = [cases.observation]
    if cases.observation is None:
        shown = as_pictures(cases.pictures, (-1, 1)).observation
        chosen = default_observation(shown, autoencoder.dtype)
        observations = [shown] if repr(shown) == repr(chosen) else [shown, chosen]
    best: dict[str, Any] = {"nmse_db": math.inf}
    for observed in observations:
        operator = DecoderInversion(
            autoencoder.encode, autoencoder.decode, cases.pictures, observed
        )
        for setting, iterator in BY_HAND.items():
            watched = Watched(cases)
            solve(
                operator,
                operator.start,
                iterator,
                rtol=0.0,
                atol=0.0,
                max_iterations=EVALUATIONS - 1,
                callback=watched,
            )
            curve = watched.curve.nan_to_num(nan=math.inf)
            end = int(curve.argmin())
            if float(curve[end]) < best["nmse_db"]:
                # A tuner who wants the last decibel pays for it; one who would give up a tenth of
                # it ends at the first point that is as good.
                near = int((curve <= curve[end] + 0.1).nonzero()[0])
                best = {
                    "setting": f"{setting}; {observed!r}",
                    "nmse_db": float(curve[end]),
                    "evaluations": near + 1,
                }
    return best


def _halves(name: str, groups: dict[str, Group], context: Context) -> list[dict[str, Any]]:
    lines = []
    for dtype in ("float16", "bfloat16"):
        autoencoder = context.load(name, dtype)
        for each in FULL:
            inversion, watched = ours(autoencoder, groups[each])
            errors = groups[each].nmse_db(inversion.latent)
            line = _line(errors, inversion.evaluations, watched.oracle)
            lines.append({"group": each, "dtype": dtype, **line})
            print(f"{name:<26}{each:<16}{dtype} {line['nmse_db']:.1f} dB", flush=True)
    return lines


def _starts(name: str, autoencoder: Autoencoder, cases: Group) -> dict[str, Any]:
    """How many runs from other starting points end well by their own account, but elsewhere."""
    pictures = as_pictures(cases.pictures, (-1, 1))
    observation = default_observation(pictures.observation, autoencoder.dtype)
    operator = DecoderInversion(autoencoder.encode, autoencoder.decode, cases.pictures, observation)
    options: dict[str, Any] = {
        "max_iterations": 2 * EVALUATIONS - 1,
        "rtol": 1e-6,
        "stop": default_stop(observation, pictures, autoencoder.dtype),
        "keep": "deviation_level",
    }
    iterator = default_iterator(observation, autoencoder.dtype)
    reference = cases.nmse_db(solve(operator, operator.start, iterator, **options).z)
    generator = torch.Generator().manual_seed(1)
    runs = successes = deceived = 0
    errors = []
    for _ in range(STARTS):
        noise = torch.randn(operator.start.shape, generator=generator)
        length = operator.start.flatten(1).norm(dim=1) / noise.flatten(1).norm(dim=1)
        noise = noise * (10 ** (DISTANCE_DB / 20) * length).reshape(-1, 1, 1, 1)
        solution = solve(operator, operator.start + noise, iterator, **options)
        error = cases.nmse_db(solution.z)
        ended = torch.tensor([status.success for status in solution.status])
        runs += len(error)
        successes += int(ended.sum())
        deceived += int((ended & (error > reference + DECEIVED_DB)).sum())
        errors.append(error)
    found = {
        "runs": runs,
        "successes": successes,
        "deceived": deceived,
        "reference_db": float(reference.mean()),
        "nmse_db": float(torch.cat(errors).mean()),
    }
    print(f"{name:<26}other starts: {found}", flush=True)
    return found


@torch.no_grad()
def _oracle(name: str, autoencoder: Autoencoder, cases: Group) -> list[dict[str, Any]]:
    """What is left where an oracle takes, in every singular direction of D'(z*), the smaller error
    of two: that of E(x), or that of least squares under the noise of rounding."""
    inversion, _ = ours(autoencoder, cases)
    errors = cases.nmse_db(inversion.latent)
    lines = []
    each = len(cases.truth) // len(CONTENTS)
    for content in BOUNDED:
        row = CONTENTS.index(content) * each
        truth = cases.truth[row].double()
        visible = (cases.pictures[row].abs() < 1).flatten()
        jacobian = _jacobian(autoencoder, truth)[visible]
        _, singular, directions = torch.linalg.svd(jacobian, full_matrices=False)
        offset = (_start(autoencoder, cases)[row].double() - truth).flatten()
        prior = (directions @ offset).square()
        least_squares = (EIGHT_BIT_NOISE / singular) ** 2
        total = truth.square().sum()
        hidden = prior < least_squares
        lines.append(
            {
                "content": content,
                "condition": float(singular[0] / singular[-1]),
                "hidden": float(hidden.double().mean()),
                "encoder_db": 10 * math.log10(float(prior.sum() / total)),
                "hidden_db": 10 * math.log10(float(prior[hidden].sum() / total)),
                "oracle_db": 10
                * math.log10(float(torch.minimum(prior, least_squares).sum() / total)),
                "ours_db": float(errors[row]),
            }
        )
        print(f"{name:<26}oracle: {lines[-1]}", flush=True)
    return lines


def _jacobian(autoencoder: Autoencoder, latent: Tensor, step: float = 1e-2) -> Tensor:
    """D'(latent) by central differences: (values of the picture, values of the latent)."""
    columns = []
    basis = torch.eye(latent.numel(), dtype=torch.float64).reshape(-1, *latent.shape)
    for part in basis.split(32):
        ahead = autoencoder.decode((latent + step * part).float()).double()
        behind = autoencoder.decode((latent - step * part).float()).double()
        columns.append(((ahead - behind) / (2 * step)).flatten(1))
    return torch.cat(columns).T


def markdown(results: dict[str, Any]) -> str:
    lines = [
        "## The hard set",
        "",
        f"{results['cases']} cases: {results['latents']} latents an autoencoder ("
        + ", ".join(CONTENTS)
        + "; photographs are held out, dead leaves, text and noise are drawn as in training, from "
        "other seeds), each seen through "
        + ", ".join(OBSERVATIONS)
        + f". Gaussian noise has a standard deviation of 0.02 on [-1, 1]; a crop keeps the middle "
        "of the picture, and the error is that of the latents it shows. NMSE in dB, the mean over "
        f"the latents ± half its 95 % interval; ours is `invert` as it is, at most {EVALUATIONS} "
        "evaluations. The *oracle* is the best point on the way of each case. The paper's operator "
        f"runs for {2 * EVALUATIONS} evaluations with its Adam and with forward steps of size 1; "
        f"shown is the better one, at its oracle. Gradient descent: {results['steps']} steps, the "
        f"best of {len(GRADIENT)} settings, for "
        + " and ".join(FULL)
        + f"; elsewhere {STRONGEST}, {results['few_steps']} steps. It is told of clipping and of "
        "the mask of a crop, which have derivatives; of rounding and JPEG it cannot be.",
        "",
    ]
    for name, model in results["models"].items():
        lines += [f"### {name}", "", *_groups_table(model), "", *_tuning_table(model), ""]
        lines += [*_content_table(model), "", *_gradient_table(model), "", *_halves_table(model)]
        lines += ["", *_starts_text(model["starts"]), "", *_oracle_table(model["oracle"]), ""]
    return "\n".join([*lines, "![The hard set](results/hard.png)", ""])


def _pm(line: dict[str, Any]) -> str:
    return f"{number(line['nmse_db'])} ± {number(line['interval_db'])}"


def _best(lines: dict[str, Any], key: str = "nmse_db") -> tuple[str, dict[str, Any]]:
    return min(lines.items(), key=lambda item: item[1][key])


def _groups_table(model: dict[str, Any]) -> list[str]:
    rows = []
    for name, found in model["groups"].items():
        _, gradient = _best(found["gradient"])
        _, paper = _best(found["paper"], "oracle_db")
        rows.append(
            (
                name,
                number(found["encoder"]["nmse_db"]),
                number(paper["oracle_db"]),
                _pm(gradient),
                number(found["ours_5"]["nmse_db"]),
                _pm(found["ours"]),
                number(found["ours"]["worst_db"]),
                number(found["ours"]["evaluations"], ".0f"),
                f"{number(found['ours']['nmse_db'] - found['ours']['oracle_db'], '.2f')} / "
                f"{number(found['ours']['gap_db'])}",
            )
        )
    head = (
        "observation",
        "encoder",
        "paper's operator, oracle",
        "gradient",
        "ours, 5",
        "ours",
        "worst",
        "evaluations",
        "behind its oracle, mean / worst",
    )
    return table(head, rows)


def _tuning_table(model: dict[str, Any]) -> list[str]:
    rows = []
    for name, found in model["groups"].items():
        best = found["by_hand"]
        rows.append(
            (
                name,
                f"`{best['setting']}`",
                number(best["nmse_db"]),
                number(best["evaluations"], ".0f"),
                number(found["ours"]["nmse_db"] - best["nmse_db"]),
                number(found["ours"]["evaluations"] / best["evaluations"], ".1f"),
            )
        )
    head = (
        "observation",
        "best setting by hand",
        "NMSE (dB)",
        "evaluations",
        "ours behind (dB)",
        "ours, evaluations / its",
    )
    return [
        f"Against {len(BY_HAND)} settings tuned by hand, that is, with z* known: the best one of "
        "each group, ended where its mean is within 0.1 dB of its best.",
        "",
        *table(head, rows, words=2),
    ]


def _content_table(model: dict[str, Any]) -> list[str]:
    found = model["groups"]["8-bit"]
    setting, gradient = _best(found["gradient"])
    rows = [
        (content, number(gradient["by_content"][content]), number(value))
        for content, value in found["by_content"].items()
    ]
    return [
        "8-bit, by content:",
        "",
        *table(("content", f"gradient, {setting}", "ours"), rows),
    ]


def _gradient_table(model: dict[str, Any]) -> list[str]:
    rows = [
        (name, setting, _pm(line), number(line["oracle_db"]))
        for name in FULL
        for setting, line in model["groups"][name]["gradient"].items()
    ]
    head = ("observation", "gradient", "NMSE (dB)", "oracle")
    return ["Gradient descent, setting by setting:", "", *table(head, rows, words=2)]


def _halves_table(model: dict[str, Any]) -> list[str]:
    rows = [
        (
            line["group"],
            line["dtype"],
            _pm(line),
            number(line["nmse_db"] - model["groups"][line["group"]]["ours"]["nmse_db"]),
            f"{number(line['nmse_db'] - line['oracle_db'], '.2f')} / {number(line['gap_db'])}",
        )
        for line in model["halves"]
    ]
    head = ("observation", "precision", "NMSE (dB)", "lost to float32", "behind its oracle")
    return ["Ours with the model in 16 bits:", "", *table(head, rows, words=2)]


def _starts_text(starts: dict[str, Any]) -> list[str]:
    return [
        f"**Deceptive zeros.** From {starts['runs']} other starting points (8-bit, {STARTS} a "
        f"case, noise of {DISTANCE_DB:.0f} dB around E(x)) {starts['successes']} runs ended with "
        f"success by their own account, {starts['deceived']} of these more than "
        f"{DECEIVED_DB:.0f} dB worse than the run from E(x): deceived. On the mean all of them end "
        f"at {number(starts['nmse_db'])} dB, the runs from E(x) at "
        f"{number(starts['reference_db'])} dB."
    ]


def _oracle_table(lines: list[dict[str, Any]]) -> list[str]:
    rows = [
        (
            line["content"],
            number(line["condition"], ".0f"),
            number(100 * line["hidden"], ".0f") + " %",
            number(line["encoder_db"]),
            number(line["hidden_db"]),
            number(line["oracle_db"]),
            number(line["ours_db"]),
        )
        for line in lines
    ]
    head = (
        "content",
        "condition of D'(z*)",
        "hidden directions",
        "E(x)",
        "its error there",
        "oracle",
        "ours",
    )
    return [
        "What limits it, 8-bit, one latent a content: in the singular directions of D'(z*) where "
        "least squares under the noise of rounding is worse than E(x), the picture says nothing "
        "that E(x) does not (*hidden*); the oracle takes the better of the two in every direction. "
        "It is no bound for ours, which knows that rounding errors are bounded, and follows the "
        "decoder where it bends.",
        "",
        *table(head, rows),
    ]


def draw(results: dict[str, Any], folder: Path) -> list[Path]:
    models = results["models"]
    figure = Figure(figsize=(6.2 * len(models), 4.4), layout="constrained", dpi=110)
    panels = figure.subplots(1, len(models), squeeze=False, sharey=True)[0]
    for (name, model), axes in zip(models.items(), panels, strict=True):
        series = {
            "encoder": [found["encoder"]["nmse_db"] for found in model["groups"].values()],
            "paper's operator, oracle": [
                _best(found["paper"], "oracle_db")[1]["oracle_db"]
                for found in model["groups"].values()
            ],
            "gradient, best setting": [
                _best(found["gradient"])[1]["nmse_db"] for found in model["groups"].values()
            ],
            "ours": [found["ours"]["nmse_db"] for found in model["groups"].values()],
        }
        places = torch.arange(len(model["groups"])).double()
        width = 0.8 / len(series)
        for index, (label, values) in enumerate(series.items()):
            shifted = (places + (index - 1.5) * width).tolist()
            axes.bar(shifted, values, width, color=f"C{(7, 1, 3, 0)[index]}", label=label)
        axes.set_xticks(places.tolist(), list(model["groups"]), rotation=30, ha="right")
        axes.set_title(name.strip("`"))
        axes.grid(axis="y", alpha=0.25)
        axes.set_axisbelow(True)
    panels[0].set_ylabel("NMSE (dB), mean over latents; lower is better")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    path = folder / "hard.png"
    write_whole(path, figure.savefig)
    return [path]
