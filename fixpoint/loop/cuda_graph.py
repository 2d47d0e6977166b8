"""Several iterations as one CUDA graph, captured once and replayed.

With less than about ten million bytes of state, a GPU waits for its next launch most of the time. A
graph starts all launches of several iterations at once. It repeats them on the same memory with the
same numbers. So an iteration can be captured if it reads nothing back to the host and leaves
tensors of the same shapes to the next one. Whole numbers that count on the host (the iteration, the
steps of a method) are counted on the device instead.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

Tree = TypeVar("Tree")
Body = Callable[[Tree, Any], tuple[Tree, Any]]


class NotCapturable(Exception):
    """The iterations cannot become a graph; says why."""


class NotSettled(NotCapturable):
    """Two iterations in a row leave trees of different shapes; later ones may not."""


def device_capture(
    block: Callable[[list[Tensor]], list[Tensor]], memory: list[Tensor]
) -> tuple[list[Tensor], Callable[[], None]]:
    """Capture a block that works on CUDA tensors, which are as they were afterwards.

    It first runs once on copies. Kernels cannot be loaded while a graph is captured, and a block
    that reads something back must be found before: a failed capture leaves torch's streams in
    disorder.

    Args:
        block: reads and overwrites the tensors it is given, and returns new ones.
        memory: the tensors that it is given.

    Returns:
        What the block returned, which each replay overwrites, and the function that replays it.
    """
    device = memory[0].device
    if device.type != "cuda":
        raise NotCapturable(f"the tensors are on the {device.type}, not on a CUDA device")
    with torch.cuda.device(device):
        before, stream = torch.cuda.current_stream(), torch.cuda.Stream()
        stream.wait_stream(before)
        debugging = torch.cuda.get_sync_debug_mode()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.stream(stream):
                copies = [tensor.clone() for tensor in memory]
                torch.cuda.set_sync_debug_mode("error")
                block(copies)
                torch.cuda.set_sync_debug_mode(debugging)
            before.wait_stream(stream)
            # Launches of other threads do not belong to this graph.
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                results = block(memory)
        finally:
            torch.cuda.set_sync_debug_mode(debugging)
            torch.cuda.set_stream(before)
    return results, graph.replay


class CudaGraph(Generic[Tree]):
    """`count` applications of a body to a tree, replayed from one state to the next.

    Args:
        body: from a tree and the iteration's number to the next tree and a tree of what to report.
        tree: where the first replay starts from: dataclasses, tuples and dicts of tensors.
        before: the tree one application earlier; what differs must be tensors or whole numbers.
        iteration: number of the application after which `tree` stands.
        count: applications in a replay.

    Raises:
        NotSettled: `before` and `tree` differ in what a graph cannot change.
        NotCapturable: see the module.
    """

    def __init__(self, body: Body[Tree], tree: Tree, before: Tree, iteration: int, count: int):
        leaves, self._rebuild = flatten(tree)
        self._leaves = leaves
        self._counters = _counters(flatten(before)[0], leaves)
        device = next(leaf.device for _, leaf in leaves if isinstance(leaf, Tensor))
        # The memory of the graph: the tensors, then the counters, then the iteration's number.
        self._tensors = [i for i, (_, leaf) in enumerate(leaves) if isinstance(leaf, Tensor)]
        entries: list[tuple[int, Callable[[list[Any]], Any]]] = []

        def block(memory: list[Tensor]) -> list[Tensor]:
            entries.clear()
            current, number = self._tree(memory), memory[-1]
            results: list[Tensor] = []
            for _ in range(count):
                number = number + 1
                current, entry = body(current, number)
                reported, rebuild = flatten(entry)
                entries.append((len(reported), rebuild))
                results.extend(value.clone() for _, value in reported)
            self._overwrite(memory, current, number)
            return results

        try:
            self._memory = [leaves[i][1].clone() for i in self._tensors]
            self._memory += [torch.tensor(leaves[i][1], device=device) for i in self._counters]
            self._memory.append(torch.tensor(iteration, device=device))
            self._results, self._replay = capture(block, self._memory)
        except NotCapturable:
            raise
        except Exception as error:  # whatever the operator, the method or monitors do on the host
            words = " ".join(str(error).split())[:200] or type(error).__name__
            raise NotCapturable(f"an iteration cannot be captured: {words}") from error
        self._entries = entries

    def replay(self) -> list[Any]:
        """Make `count` more applications; returns what each of them reports."""
        self._replay()
        values = iter([value.clone() for value in self._results])
        return [rebuild([next(values) for _ in range(size)]) for size, rebuild in self._entries]

    def present(self) -> Tree:
        """The present tree, which the next replay overwrites; counters are tensors."""
        return self._tree(self._memory)

    def tree(self) -> Tree:
        """A copy of the present tree."""
        tensors = len(self._tensors)
        counts = [int(count) for count in self._memory[tensors:-1]]
        return self._tree([*(leaf.clone() for leaf in self._memory[:tensors]), *counts])

    def _tree(self, memory: list[Any]) -> Tree:
        """The tree with these tensors and counters."""
        values = [leaf for _, leaf in self._leaves]
        for i, value in zip([*self._tensors, *self._counters], memory, strict=False):
            values[i] = value
        return self._rebuild(values)

    def _overwrite(self, memory: list[Tensor], tree: Tree, number: Tensor) -> None:
        """Overwrite the tree that a replay starts from by the one that it ends with."""
        after, _ = flatten(tree)
        if [path for path, _ in after] != [path for path, _ in self._leaves]:
            raise NotSettled("what an iteration leaves to the next one changes its structure")
        for i, (path, leaf) in enumerate(self._leaves):
            if isinstance(leaf, Tensor) or i in self._counters:
                continue
            if isinstance(after[i][1], Tensor) or after[i][1] != leaf:
                raise NotCapturable(f"{path} changes on the host")
        ours = {leaf.untyped_storage().data_ptr() for leaf in memory}
        updates = []
        ends = [after[i] for i in (*self._tensors, *self._counters)]
        for old, (path, new) in zip(memory, [*ends, ("", number)], strict=True):
            if not isinstance(new, Tensor) or new.shape != old.shape or new.dtype != old.dtype:
                raise NotSettled(f"{path} changes its shape or dtype")
            # A tensor in the memory of another one must be read before that is overwritten.
            taken = new.untyped_storage().data_ptr() in ours
            updates.append((old, new.clone() if taken else new))
        for old, new in updates:
            old.copy_(new)


capture = device_capture


def flatten(tree: Any) -> tuple[list[tuple[str, Any]], Callable[[list[Any]], Any]]:
    """`(path, leaf)` of every leaf, and the function that makes a tree of such leaves again."""
    leaves: list[tuple[str, Any]] = []

    def visit(part: Any, path: str) -> Callable[[Any], Any]:
        if dataclasses.is_dataclass(part) and not isinstance(part, type):
            names = [field.name for field in dataclasses.fields(part)]
            parts = [visit(getattr(part, name), f"{path}.{name}") for name in names]
            return lambda values: dataclasses.replace(
                part, **{name: one(values) for name, one in zip(names, parts, strict=True)}
            )
        if isinstance(part, dict):
            items = {key: visit(value, f"{path}[{key!r}]") for key, value in part.items()}
            return lambda values: {key: one(values) for key, one in items.items()}
        if isinstance(part, tuple):
            parts = [visit(value, f"{path}[{index}]") for index, value in enumerate(part)]
            if hasattr(part, "_fields"):
                return lambda values: type(part)(*(one(values) for one in parts))
            return lambda values: tuple(one(values) for one in parts)
        index = len(leaves)
        leaves.append((path.lstrip("."), part))
        return lambda values: values[index]

    rebuild = visit(tree, "")
    return leaves, rebuild


def _counters(before: list[tuple[str, Any]], leaves: list[tuple[str, Any]]) -> list[int]:
    """Which leaves are whole numbers that count on the host."""
    if [path for path, _ in before] != [path for path, _ in leaves]:
        raise NotSettled("what an iteration leaves to the next one changes its structure")
    counts = []
    for i, ((path, old), (_, new)) in enumerate(zip(before, leaves, strict=True)):
        if isinstance(new, Tensor):
            if not isinstance(old, Tensor) or old.shape != new.shape or old.dtype != new.dtype:
                raise NotSettled(f"{path} changes its shape or dtype")
        elif isinstance(old, Tensor):
            raise NotSettled(f"{path} is a tensor at one time and none at another")
        elif old != new:
            if type(old) is not int or type(new) is not int:
                raise NotCapturable(f"{path} changes on the host")
            counts.append(i)
    return counts
