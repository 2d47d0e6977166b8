"""Save a run and resume it bit for bit.

A checkpoint is one safetensors file with everything that the loop holds: the iterator's state, the
memories of monitors and stop rules, the results of rows that have left, the history, the counters
and torch's generators. See `Checkpoint`.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint import kernels
from fixpoint.checkpoints.fingerprint import fingerprint
from fixpoint.checkpoints.tree_file import (
    check_installed,
    digest_of,
    read_notes,
    read_tree,
    write_tree,
)
from fixpoint.operator import Operator
from fixpoint.trees.structured import Packed
from fixpoint.version import __version__

if TYPE_CHECKING:
    from fixpoint.loop.run import Loop

_VERSIONS = ("fixpoint", "torch")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Where `solve(..., checkpoint=Checkpoint(path=..., every=25))` saves, and resumes from.

    If the file does not exist, the run starts and saves itself: at once, every `every` iterations,
    and at its end. If it exists, the run continues from it, and everything in its `Solution` is
    what it would be without the interruption, bit for bit on the same machine. The file of a run
    that has ended gives its solution again. The file stays; delete it to start again.

    A file is replaced as a whole: when a process dies, the last complete file is there.

    Resuming evaluates T once, at the starting point, and compares the value with that in the file.
    If they differ, the operator is another one and is refused; a difference within rounding gives a
    warning. Another iterator, start, tolerance, rule or monitor is refused as well, and so is a
    file that is damaged or no checkpoint. `max_iterations` may grow as long as no row has ended
    there. The state of the operator itself is not saved; torch's default generators are.

    Args:
        path: of the file; ".safetensors" is the usual suffix.
        every: iterations between two saves, at least 1; a save waits for the loop's next look at
            its flags (`check_every`).
    """

    path: str | os.PathLike[str]
    every: int = 25

    def __post_init__(self) -> None:
        if not isinstance(self.path, (str, os.PathLike)):
            raise TypeError(f"path must be the path of a file, got {self.path!r}")
        if not (isinstance(self.every, int) and self.every >= 1):
            raise ValueError(f"every must be a whole number, at least 1, got {self.every}")
        if Path(self.path).is_dir():
            raise ValueError(f"path must be that of a file; {self.path} is a folder")


@dataclass(frozen=True)
class Saved:
    """What a file holds."""

    progress: Any  # what the loop needs to continue
    iteration: int
    limited: bool  # rows have ended because of `max_iterations`
    generators: dict[str, Tensor]  # now
    first_generators: dict[str, Tensor]  # when the run began
    first_value: Tensor | None  # T at the starting point


class Unsaved:
    """A run without a file."""

    def __init__(self, z0: Float[Tensor, "batch *shape"]) -> None:
        self.z0 = z0

    def begin(self, loop: Loop) -> None:
        """Start the run."""
        loop.begin(self.z0)

    def save(self, loop: Loop) -> None:
        """Nothing."""


class Journal:
    """The file of one run.

    Args:
        checkpoint: where it is.
        operator, z0: the problem; z0 is (batch, *shape).
        settings: everything else that the results depend on, by the names of the user.
        max_iterations: of this run.

    Raises:
        ImportError: safetensors is not installed.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        operator: Operator,
        z0: Float[Tensor, "batch *shape"],
        settings: dict[str, Any],
        max_iterations: int,
    ) -> None:
        check_installed()
        self.path, self.every = Path(checkpoint.path), checkpoint.every
        self.operator, self.z0 = operator, z0
        self.notes = _kinds(operator)
        for name in _CONSTANTS:
            self.notes[f"operator.{name}"] = repr(getattr(operator, name))
        self.notes["z0"] = f"{z0.dtype} {tuple(z0.shape)} on {z0.device.type}"
        self.notes["z0's values"] = f"digest {digest_of(z0)[:16]}"
        for name, value in settings.items():
            self.notes.update(fingerprint(value, name))
        self.first_generators = _generators(z0.device)
        self.first_value: Tensor | None = None
        self.saved = -checkpoint.every  # the iteration of the last save
        self.limit = max_iterations

    def resume(self) -> Any:
        """What the loop needs to continue; None if there is no file.

        Raises:
            ValueError: the file cannot be read, or belongs to another run.
        """
        if not self.path.exists():
            return None
        self._compare(read_notes(self.path))
        saved = read_tree(self.path, self.z0.device)
        if not isinstance(saved, Saved):
            raise ValueError(f"{self.path} does not hold a run")
        if self.limit < saved.iteration or (saved.limited and self.limit != saved.iteration):
            ended = "has ended at max_iterations =" if saved.limited else "has come to iteration"
            raise ValueError(
                f"the run in {self.path} {ended} {saved.iteration}, and cannot be resumed with "
                f"max_iterations = {self.limit}; delete the file to start anew"
            )
        self.saved = saved.iteration
        self.first_generators, self.first_value = saved.first_generators, saved.first_value
        _restore(saved.first_generators, self.z0.device)
        # Needed even if nothing is compared: it shows operators the size of the full batch.
        value = self.operator.evaluate(self.z0)[0]
        if saved.first_value is not None:
            self._compare_value(value, saved.first_value)
        _restore(saved.generators, self.z0.device)
        return saved.progress

    def begin(self, loop: Loop) -> None:
        """Start the run, or continue it from the file.

        Raises:
            ValueError: see `resume`.
        """
        progress = self.resume()
        if progress is not None:
            loop.go_on(progress)
            return
        loop.begin(self.z0)
        assert loop.kept is not None
        if torch.equal(loop.kept.state.point, self.z0):
            self.first_value = loop.kept.state.residual.clone()  # iterators may reuse its memory

    def save(self, loop: Loop) -> None:
        """Write the file if it is due: every `every` iterations and at the end."""
        if loop.running and not (loop.looks and loop.iteration - self.saved >= self.every):
            return
        saved = Saved(
            progress=loop.progress(),
            iteration=loop.iteration,
            limited=not loop.running and loop.limited,
            generators=_generators(self.z0.device),
            first_generators=self.first_generators,
            first_value=self.first_value,
        )
        versions = dict(zip(_VERSIONS, (__version__, torch.__version__), strict=True))
        write_tree(self.path, saved, self.notes | versions, self.z0.device)
        self.saved = loop.iteration

    def _compare(self, notes: dict[str, str]) -> None:
        """Refuse the file of another run."""
        versions = dict(zip(_VERSIONS, (__version__, torch.__version__), strict=True))
        others = [
            f"{name} {notes.get(name, 'unknown')} (now {version})"
            for name, version in versions.items()
            if notes.get(name) != version
        ]
        theirs = {name: value for name, value in notes.items() if name not in versions}
        different = [
            f"{name} was {theirs.get(name, 'absent')} and is {self.notes.get(name, 'absent')}"
            for name in [*self.notes, *(name for name in theirs if name not in self.notes)]
            if theirs.get(name) != self.notes.get(name)
        ]
        if different:
            more = f", and {len(different) - 3} more" if len(different) > 3 else ""
            raise ValueError(
                f"{self.path} was written by another run: {'; '.join(different[:3])}{more}; "
                "resume with what wrote it, delete it, or give another path"
            )
        if others:
            warnings.warn(
                f"{self.path} was written with {', '.join(others)}: the run goes on, perhaps not "
                "bit for bit",
                UserWarning,
                stacklevel=8,  # past `begin`, `solve` and its three decorators
            )

    def _compare_value(self, value: Tensor, saved: Tensor) -> None:
        """Refuse another operator: compare T z0 with the saved value."""
        if _equal(value, saved):
            return
        if not _close(value, saved, self.z0):
            raise ValueError(
                f"{self.path} was written by a run of another operator: T z0 has changed; delete "
                "the file to start anew, or give another path"
            )
        warnings.warn(
            f"T z0 is not quite what it was when {self.path} was written, though no further off "
            "than rounding: the run goes on, perhaps not bit for bit",
            UserWarning,
            stacklevel=8,  # past `begin`, `solve` and its three decorators
        )


_CONSTANTS = ("cocoercivity", "lipschitz", "strong_monotonicity", "averagedness")


def _generators(device: torch.device) -> dict[str, Tensor]:
    """The states of torch's default generators, on the host and on the device."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _restore(states: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"].cpu())
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"].cpu(), device)


def _kinds(operator: Operator) -> dict[str, str]:
    """The class of an operator; for one on trees, the packed operator and its leaves."""
    kind = type(operator)
    words = {"operator": f"{kind.__module__}.{kind.__qualname__}"}
    if isinstance(operator, Packed):
        words["operator"] = _kinds(operator.operator)["operator"]
        leaves = zip(operator.structure.names, operator.structure.shapes, strict=True)
        words["z0's leaves"] = ", ".join(f"{name} {shape}" for name, shape in leaves)
    return words


def _equal(value: Tensor, saved: Tensor) -> bool:
    if value.shape != saved.shape or value.dtype != saved.dtype:
        return False
    return bool(((value == saved) | (value.isnan() & saved.isnan())).all())


def _close(value: Tensor, saved: Tensor, z0: Tensor) -> bool:
    """Whether rounding explains the difference of two T z0; machines round differently.

    It allows for the rounding of the numbers, and of sums over a row in the accumulation dtype.
    """
    if value.shape != saved.shape or value.dtype != saved.dtype:
        return False
    summed = torch.promote_types(z0.dtype, torch.float32)
    length = z0.shape[1:].numel()
    rounding = torch.finfo(z0.dtype).eps + length**0.5 * torch.finfo(summed).eps
    same = (value == saved) | (value.isnan() & saved.isnan())
    difference = torch.where(same, 0.0, value.double() - saved.double())
    norms = [kernels.row_norm(each.double().nan_to_num(0, 0, 0)) for each in (saved, z0)]
    # Infinite or NaN where only one of the two is finite, and then false.
    return bool((kernels.row_norm(difference) <= 4 * rounding * sum(norms)).all())
