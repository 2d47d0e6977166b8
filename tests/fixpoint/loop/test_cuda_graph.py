"""Iterations replayed from a graph, without a GPU; see `recorded_graphs`."""

import math
from contextlib import contextmanager, nullcontext

import pytest
import torch
from problems import ITERATORS, Counting, problem
from recorded_graphs import recorded

from fixpoint import Adam, ForwardStep, Status, as_operator, schedules, solve
from fixpoint.iterator import State
from fixpoint.loop import cuda_graph
from fixpoint.monitors import Cocoercivity, Convergence, Fejer
from fixpoint.stop import Stagnation

pytestmark = pytest.mark.slow  # captures and replays run by run


@pytest.fixture
def graphs(monkeypatch):
    """Graphs on the CPU; a list of how many tensors each of them holds."""
    captured = []

    def capture(block, memory):
        found = recorded(block, memory)
        captured.append(len(memory))
        return found

    monkeypatch.setattr(cuda_graph, "capture", capture)
    return captured


def both(operator, start, iterator, **options):
    options = {"check_every": 4, "max_iterations": 60, "rtol": 1e-6} | options
    plain = solve(operator, start, iterator, **options)
    return plain, solve(operator, start, iterator, cuda_graph=True, **options)


def assert_same_run(plain, replayed):
    assert replayed.status == plain.status
    assert torch.equal(replayed.iterations, plain.iterations)
    assert torch.equal(replayed.evaluations, plain.evaluations)
    assert torch.equal(replayed.z, plain.z)
    assert torch.equal(replayed.residual_norm, plain.residual_norm)
    length = len(plain.history.residual_norm)
    history = replayed.history.residual_norm[:length], plain.history.residual_norm
    assert torch.equal(*(values.nan_to_num(-1) for values in history))
    for name, counts in plain.statistics.items():
        assert torch.equal(replayed.statistics[name], counts)


@pytest.mark.parametrize("name", ITERATORS)
def test_a_replayed_run_is_the_plain_run_bit_for_bit(graphs, name):
    operator, _, start = problem(rows=3)
    plain, replayed = both(operator, start, ITERATORS[name], monitors=(Convergence(),))
    assert_same_run(plain, replayed)
    assert graphs, replayed.graph
    assert "iterations were replayed from CUDA graphs" in replayed.graph
    assert torch.equal(replayed.monitors[0].residual_sum, plain.monitors[0].residual_sum)


def test_steps_that_are_counted_on_the_host_are_counted_on_the_device(graphs):
    operator, _, start = problem(rows=3)
    adam = Adam(schedule=schedules.warmup_cosine(0.1, 40))
    plain, replayed = both(operator, start, adam, rtol=0.0, keep="last")
    assert graphs
    assert torch.allclose(replayed.z, plain.z, rtol=1e-12)
    assert not torch.allclose(replayed.z, start)


@pytest.mark.parametrize("check_every", [1, 4])
def test_rows_end_when_they_would_and_leave_when_half_have(graphs, check_every):
    scale = torch.tensor([[1.0], [0.9], [0.2], [0.1]])
    operator = Counting(as_operator(lambda z, scale: scale * (z - 1), scale))
    options = {"max_iterations": 200, "check_every": check_every}
    plain, replayed = both(operator, torch.zeros(4, 3), ForwardStep(), **options)
    assert_same_run(plain, replayed)
    assert len(graphs) == 2  # one for four rows, one for the two slow ones


def test_stop_rules_and_monitors_go_along(graphs):
    operator, zero, start = problem(rows=3)
    options = {
        "stop": (Stagnation(window=3, improvement=0.5),),
        "monitors": (Fejer(zero=zero),),
        "rtol": 0.0,
    }
    plain, replayed = both(operator, start, ForwardStep(step_size=1.0), **options)
    assert graphs, replayed.graph
    assert_same_run(plain, replayed)
    assert Status.STALLED in plain.status
    for name in ("last_distance", "largest_growth", "iteration"):
        assert torch.equal(getattr(replayed.monitors[0], name), getattr(plain.monitors[0], name))


# The capture itself, with torch.cuda's part played


class Played:
    """torch.cuda, noting what is done in which order; tensors say that they are on a GPU."""

    def __init__(self, monkeypatch, capture_fails=False):
        self.notes, self.mode, self.current = [], 0, "the user's stream"
        cuda = torch.cuda
        for name, value in {
            "device": lambda device: nullcontext(),
            "Stream": lambda: self,
            "CUDAGraph": lambda: self,
            "current_stream": lambda: self,
            "set_stream": lambda stream: self.notes.append("stream restored"),
            "stream": lambda stream: nullcontext(),
            "get_sync_debug_mode": lambda: self.mode,
            "set_sync_debug_mode": self.watch,
            "graph": self.graph,
        }.items():
            monkeypatch.setattr(cuda, name, value)
        self.capture_fails = capture_fails

    def watch(self, mode):
        self.mode = mode
        self.notes.append(f"reading back: {mode}")

    def wait_stream(self, stream):
        self.notes.append("waited")

    @contextmanager
    def graph(self, graph, stream, capture_error_mode):
        self.notes.append(f"capture begins, {capture_error_mode}")
        yield
        if self.capture_fails:
            raise RuntimeError("the capture was invalidated")
        self.notes.append("capture ends")

    def replay(self):
        self.notes.append("replayed")


class OnGpu(torch.Tensor):
    @property
    def device(self):
        return torch.device("cuda", 0)


def gpu_tensor(values):
    return torch.tensor(values).as_subclass(OnGpu)


def test_a_graph_is_captured_after_a_run_on_copies_that_reads_nothing_back(monkeypatch):
    cuda, memory = Played(monkeypatch), [gpu_tensor([1.0, 2.0])]

    def block(tensors):
        cuda.notes.append("block")
        tensors[0].add_(1)
        return [tensors[0] * 2]

    _, replay = cuda_graph.device_capture(block, memory)
    replay()
    before, after = cuda.notes.index("block"), len(cuda.notes) - cuda.notes[::-1].index("block")
    assert cuda.notes[before - 1] == "reading back: error"
    assert cuda.notes[before + 1] == "reading back: 0"
    assert cuda.notes[before + 3 : after] == ["capture begins, thread_local", "block"]
    assert cuda.notes[after:] == ["capture ends", "reading back: 0", "stream restored", "replayed"]


@pytest.mark.parametrize("capture_fails", [False, True])
def test_a_capture_that_fails_leaves_streams_as_they_were(monkeypatch, capture_fails):
    cuda = Played(monkeypatch, capture_fails)

    def block(tensors):
        if not capture_fails:
            raise RuntimeError("a value was read back")
        return []

    with pytest.raises(RuntimeError):
        cuda_graph.device_capture(block, [gpu_tensor([1.0])])
    assert cuda.notes[-2:] == ["reading back: 0", "stream restored"]


# Where it cannot be


def assert_not_captured(operator, start, iterator, reason, **options):
    plain, alone = both(operator, start, iterator, **options)
    assert reason in alone.graph, alone.graph
    assert alone.graph.startswith("no CUDA graph: ")
    assert_same_run(plain, alone)


def test_without_a_gpu_the_plain_loop_does_it_and_says_so():
    operator, _, start = problem()
    assert_not_captured(operator, start, ForwardStep(), "on the cpu, not on a CUDA device")
    assert solve(operator, start, ForwardStep()).graph is None  # nobody asked


def test_an_operator_that_reads_values_on_the_host_is_not_captured(graphs):
    def halves(z):
        return z / 2 if float(z.sum()) != math.pi else z

    assert_not_captured(
        as_operator(halves), torch.ones(2, 3), ForwardStep(step_size=0.5), "cannot be captured"
    )
    assert not graphs


def test_a_schedule_of_the_users_keeps_its_run_out_of_the_graph(graphs):
    operator, _, start = problem()
    rates = [0.1 / (1 + step) for step in range(60)]  # as long as the run, and no longer
    adam = Adam(schedule=rates.__getitem__)
    assert_not_captured(operator, start, adam, "cannot be captured", rtol=0.0)


def test_a_monitor_that_decides_on_the_host_is_not_captured(graphs):
    operator, _, start = problem()
    assert_not_captured(
        operator, start, ForwardStep(step_size=0.1), "cannot be captured",
        monitors=(Cocoercivity(),),
    )  # fmt: skip


def test_a_callback_is_called_at_every_iteration(graphs):
    operator, _, start = problem()
    seen = []
    options = {"rtol": 1e-6, "max_iterations": 60, "cuda_graph": True}
    solution = solve(
        operator, start, ForwardStep(), callback=lambda iterate: seen.append(1), **options
    )
    assert "callback" in solution.graph
    assert len(seen) == int(solution.iterations.max()) + 1


def test_a_run_too_short_for_a_graph_says_so(graphs):
    operator, _, start = problem()
    assert_not_captured(operator, start, ForwardStep(), "too short", max_iterations=5)


def test_a_state_that_changes_its_shape_is_not_captured(graphs):
    operator, _, start = problem()
    state = ForwardStep().init(operator, start)
    longer = State(start[:, :4], start[:, :4], start[:, :4])
    shorter = State(start, start, start)
    with pytest.raises(cuda_graph.NotSettled, match="z changes its shape"):
        cuda_graph.CudaGraph(lambda tree, number: (tree, number), longer, shorter, 1, 2)
    with pytest.raises(cuda_graph.NotSettled, match="changes its structure"):
        cuda_graph.CudaGraph(lambda tree, number: (tree, number), longer, state, 1, 2)
