"""Many rows in one `solve`, against one `solve` for each."""

from __future__ import annotations

from typing import Any

from benchmarks.splittings.sizes import Size
from benchmarks.splittings.tanh_map import TanhMap
from benchmarks.splittings.timing import seconds, spread
from fixpoint import Anderson, ForwardStep, fixed_point_of, solve


def batching(size: Size) -> list[dict[str, Any]]:
    """Microseconds a row: all rows in one `solve`, and the same rows one `solve` each."""
    found = []
    for width in (size.width, max(2, size.width // 10)):
        problem = TanhMap.drawn(size.batch, width)
        alone = [
            fixed_point_of(problem.map_rows, problem.bias[row : row + 1])
            for row in range(min(size.alone, size.batch))
        ]
        for method, iterator in (
            ("ForwardStep", ForwardStep(step_size=1.0)),
            ("Anderson, memory 5", Anderson(memory=5)),
        ):

            def together(_: int, problem: TanhMap = problem, iterator: Any = iterator) -> Any:
                return solve(problem.operator, problem.start, iterator, rtol=1e-6, atol=0.0)

            def apart(
                _: int, problem: TanhMap = problem, iterator: Any = iterator, alone: Any = alone
            ) -> Any:
                start = problem.start[:1]
                return [solve(one, start, iterator, rtol=1e-6, atol=0.0) for one in alone]

            assert together(0).success
            apart(0)
            batch, single, ratio = [], [], []
            for _ in range(max(2, size.rounds // 5)):
                batch.append(1e6 * seconds(together, 0) / size.batch)
                single.append(1e6 * seconds(apart, 0) / len(alone))
                ratio.append(single[-1] / batch[-1])
            found.append(
                {
                    "method": method,
                    "width": width,
                    "batch": size.batch,
                    "alone": len(alone),
                    "evaluations": float(together(0).evaluations.double().mean()),
                    "batch_us_per_row": spread(batch),
                    "single_us_per_row": spread(single),
                    "ratio": spread(ratio),
                }
            )
    return found
