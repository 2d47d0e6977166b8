"""What watching costs: the time of an inversion with all monitors against the same without.

    python -m benchmarks.speed.monitors

Runs alternate in one process; the ratio of the medians is printed and written to
`docs/monitors.json`.
"""

from __future__ import annotations

import json
import statistics
import time

from benchmarks.shared.command import command_line, parse
from benchmarks.shared.machine import machine_name
from benchmarks.shared.pictures import held_out_crops
from fixpoint import ForwardStep, solve
from fixpoint.adapters import Autoencoder, DecoderInversion, EightBit
from fixpoint.monitors import Cocoercivity, Convergence, Fejer, ForwardStepTheorem


def main(arguments: list[str] | None = None) -> None:
    parser = command_line(__spec__.name, __doc__, "monitors.json")
    parser.add_argument("--crops", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=9)
    options = parse(parser, arguments)
    iterator = ForwardStep()
    ratios = {}
    for name in ("kl", "adversarial"):
        autoencoder = Autoencoder.embedded(name)
        truth = autoencoder.encode(held_out_crops(options.crops))
        picture = EightBit()(autoencoder.decode(truth))
        operator = DecoderInversion(autoencoder.encode, autoencoder.decode, picture, EightBit())
        monitors = (
            Cocoercivity(zero=truth),
            Convergence(),
            Fejer(zero=truth),
            ForwardStepTheorem(step_size=1.0, zero=truth),
        )
        seconds: dict[bool, list[float]] = {True: [], False: []}
        for repeat in range(options.repeats + 1):
            for watched in (True, False):
                started = time.perf_counter()
                solve(
                    operator,
                    operator.start,
                    iterator,
                    rtol=0.0,
                    atol=0.0,
                    max_iterations=20,
                    monitors=monitors if watched else (),
                )
                if repeat:  # the first round warms the libraries up
                    seconds[watched].append(time.perf_counter() - started)
        ratio = statistics.median(seconds[True]) / statistics.median(seconds[False])
        ratios[name] = ratio
        print(f"{name:<12} with all monitors {100 * (ratio - 1):+.1f} % of the time without")
    content = {"machine": machine_name(), "crops": options.crops, "time_ratio": ratios}
    (options.out / "monitors.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
