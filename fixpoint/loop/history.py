"""The residuals and measurements of a run, iteration by iteration."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from fixpoint.solution import History

Entry = tuple[Tensor, dict[str, Tensor]]  # residuals and measured numbers of the rows in the batch


@dataclass
class Log:
    """One line an iteration, each with the rows that it belongs to."""

    batch: int  # rows of the whole run
    lines: list[tuple[Tensor, Tensor, dict[str, Tensor]]] = field(default_factory=list)

    def append(self, rows: Tensor, entry: Entry) -> None:
        self.lines.append((rows, *entry))

    def history(self, length: int | None = None) -> History:
        """The first `length` lines as tables over all rows; NaN for rows that had left."""
        lines = self.lines[:length]
        names = sorted({name for _, _, measured in lines for name in measured})
        return History(
            residual_norm=self._table([(rows, norms) for rows, norms, _ in lines]),
            measured={
                name: self._table([(rows, measured.get(name)) for rows, _, measured in lines])
                for name in names
            },
        )

    @staticmethod
    def of(history: History, rows: Tensor) -> Log:
        """The log of a history; `rows` are the indices of all of its rows."""
        log = Log(len(rows))
        for i, norms in enumerate(history.residual_norm):
            measured = {name: values[i] for name, values in history.measured.items()}
            log.append(rows, (norms, measured))
        return log

    def _table(self, entries: list[tuple[Tensor, Tensor | None]]) -> Tensor:
        first = self.lines[0][1]
        lines = []
        for rows, values in entries:
            if values is not None and len(rows) == self.batch:  # all are there, in their order
                lines.append(values.to(first))
                continue
            line = first.new_full((self.batch,), torch.nan)
            lines.append(line if values is None else line.index_copy(0, rows, values.to(line)))
        return torch.stack(lines)
