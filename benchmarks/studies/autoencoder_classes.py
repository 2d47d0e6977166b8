"""Every encoder/decoder class of diffusers through `invert`, as tiny instances.

    python -m benchmarks.studies.autoencoder_classes --out docs           # measure, fill in
    python -m benchmarks.studies.autoencoder_classes --out docs --render  # fill in what is stored

No published weights: the instances of `tests/autoencoders.py` are random, and random again after a
little training towards E(D(z)) = z. The table shows that a class runs through and what its status
says, not how well its published models invert. Stored as `results/autoencoder_classes.json`, class
by class, so that an interrupted run goes on.
"""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.shared.command import add_render, command_line, parse
from benchmarks.shared.machine import machine_name
from benchmarks.shared.pages import renew_table
from benchmarks.shared.stored import load, ready_for_json, results_path, store
from benchmarks.shared.tables import number, table
from benchmarks.shared.tiny_autoencoders import TINY, decoded, residuals, taught, tiny
from fixpoint import Anderson
from fixpoint.adapters import Autoencoder, Identity, invert
from fixpoint.stop import Divergence

RESULTS = "autoencoder_classes"
STEPS = 150  # of training
ITERATIONS = 60


def measured(name: str, steps: int = STEPS, iterations: int = ITERATIONS) -> dict[str, Any]:
    """One class: its shapes, and what `invert` does to it before and after training."""
    autoencoder = Autoencoder.from_diffusers(tiny(name))
    found: dict[str, Any] = {"medium": autoencoder.medium, "shape": list(TINY[name].shape)}
    found["random"] = _inverted(autoencoder, name, iterations)
    found["trained"] = _inverted(taught(autoencoder, name, steps), name, iterations)
    found["latent"] = found["trained"].pop("latent")
    found["random"].pop("latent")
    return found


def _inverted(autoencoder: Autoencoder, name: str, iterations: int) -> dict[str, Any]:
    x = decoded(autoencoder, name)
    in_range = None if autoencoder.medium == "audio" else (-1, 1)
    inversion = invert(
        autoencoder,
        x,
        observation=Identity(),
        iterator=Anderson(),
        max_iterations=iterations,
        rtol=1e-5,
        stop=(Divergence(factor=10),),
        keep="best",
        value_range=in_range,
    )
    with torch.no_grad():
        start = residuals(autoencoder, x, autoencoder.encode(x))
    down = 20 * (start / residuals(autoencoder, x, inversion.latent)).log10()
    return {
        "latent": list(inversion.latent.shape[1:]),
        "status": [status.name for status in inversion.status],
        "down_db": down.tolist(),
        "evaluations": inversion.evaluations.tolist(),
    }


def markdown(results: dict[str, Any]) -> str:
    """The table of `autoencoders.md`."""
    lines = [
        "Two rows x = D(z), clipped; the paper's operator, `Anderson()`, rtol 1e-5, at most "
        f"{ITERATIONS} iterations, the best point kept; shapes of one row. In dB, how far "
        "||E(D(z)) - E(x)|| fell from z = E(x) to the latent returned, in the row where it fell "
        f"least; *trained*: after {STEPS} steps towards E(D(z)) = z.",
        "",
    ]
    rows = []
    for name, found in sorted(results["classes"].items()):
        cells = []
        for kind in ("random", "trained"):
            statuses = ", ".join(dict.fromkeys(found[kind]["status"]))
            fell = found[kind]["down_db"]
            cells += [statuses, number(None if None in fell else min(fell))]
        rows.append(
            (name, found["medium"], _shape(found["shape"]), _shape(found["latent"]), *cells)
        )
    head = ("class", "medium", "x", "latent", "random: status", "dB", "trained: status", "dB")
    return "\n".join([*lines, *table(head, rows, words=5), "", results["machine"]])


def _shape(sizes: list[int]) -> str:
    return " x ".join(map(str, sizes))


def main(arguments: list[str] | None = None) -> None:
    parser = command_line(__spec__.name, __doc__, "autoencoders.md")
    add_render(parser)
    parser.add_argument("--again", action="store_true", help="measure also what is stored")
    parser.add_argument("--classes", nargs="*", choices=sorted(TINY), default=sorted(TINY))
    options = parse(parser, arguments)
    known = results_path(options.out, RESULTS).is_file()
    results = load(options.out, RESULTS) if known else {"classes": {}}
    for name in () if options.render else options.classes:
        if name in results["classes"] and not options.again:
            continue
        results["classes"][name] = measured(name)
        results["machine"] = machine_name()
        store(options.out, RESULTS, results)
        print(name, results["classes"][name], flush=True)
    renew_table(options.out / "autoencoders.md", markdown(ready_for_json(results)))


if __name__ == "__main__":
    main()
