"""A run that is killed and resumed is, bit for bit, one that was never interrupted."""

import contextlib
import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from killed_runs import METHODS, Killed, Mortal, Pair, assert_same, run
from problems import Counting, problem
from recorded_graphs import recorded
from torch import Tensor

from fixpoint import (
    Adam,
    Anderson,
    Checkpoint,
    ForwardStep,
    Iterator,
    State,
    Status,
    as_operator,
    schedules,
    solve,
)
from fixpoint.loop import cuda_graph
from fixpoint.monitors import Monitor
from fixpoint.stop import StopRule


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_a_killed_run_resumes_bit_for_bit(name, tmp_path):
    whole = run(iterator=METHODS[name])
    assert len(set(whole.iterations.tolist())) > 1  # rows leave on the way
    calls = int(whole.evaluations.max())
    for number, fraction in enumerate((0.0, 0.35, 0.6, 0.95)):
        path = tmp_path / f"{number}.safetensors"
        with pytest.raises(Killed):
            run(path, calls=max(int(fraction * calls), 2), iterator=METHODS[name])
        assert path.exists()
        assert_same(run(path, iterator=METHODS[name]), whole)
    assert [file for file in tmp_path.iterdir() if file.suffix != ".safetensors"] == []


@pytest.mark.parametrize("name", METHODS)
def test_saving_changes_nothing_and_an_ended_run_gives_its_solution_again(name, tmp_path):
    path = tmp_path / "run"
    whole = run(iterator=METHODS[name])
    assert_same(run(path, iterator=METHODS[name]), whole)
    written = path.stat().st_mtime_ns
    count = []
    operator, _, z0 = problem()
    z0 = z0 + torch.arange(5).reshape(5, 1)
    again = run(path, iterator=METHODS[name])
    assert_same(again, whole)
    assert path.stat().st_mtime_ns == written
    solve(Counting(operator, count), z0, ForwardStep(), checkpoint=Checkpoint(path=tmp_path / "b"))
    before = len(count)
    solve(Counting(operator, count), z0, ForwardStep(), checkpoint=Checkpoint(path=tmp_path / "b"))
    assert len(count) == before + 1  # at z0, to see that the operator is the same


def test_a_resumed_run_does_what_was_left(tmp_path):
    operator, _, z0 = problem()
    checkpoint = Checkpoint(path=tmp_path / "run", every=1)
    options = {"rtol": 0.0, "max_iterations": 40, "checkpoint": checkpoint}
    killed, resumed = Mortal(operator, 30), Mortal(operator, -1)
    with pytest.raises(Killed):
        solve(killed, z0, ForwardStep(step_size=0.5), **options)
    solution = solve(resumed, z0, ForwardStep(step_size=0.5), **options)
    assert len(resumed.count) == 1 + 40 - 28  # T z0 once more, and the steps after the 28th
    assert solution.evaluations.tolist() == [41] * 5


def test_an_interrupt_in_a_callback_leaves_the_last_complete_file(tmp_path):
    path, seen = tmp_path / "run", []

    def interrupt(iterate):
        seen.append(iterate.iteration)
        if iterate.iteration == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(path, callback=interrupt)
    assert [file.name for file in tmp_path.iterdir()] == ["run"]
    seen.clear()
    assert_same(run(path, callback=lambda iterate: seen.append(iterate.iteration)), run())
    assert seen[0] == 7  # 6 was saved


def test_a_file_is_there_before_the_first_step(tmp_path):
    with pytest.raises(Killed):
        run(tmp_path / "run", calls=2)
    assert_same(run(tmp_path / "run"), run())


def test_a_death_while_writing_leaves_the_file_before(tmp_path, monkeypatch):
    path = tmp_path / "folder" / "run"
    writes = []

    def replace(self, target):
        writes.append(target)
        if len(writes) == 3:
            raise KeyboardInterrupt
        return rename(self, target)

    rename = Path.replace
    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        run(path)
    monkeypatch.undo()
    assert list(path.parent.iterdir()) == [path]
    assert_same(run(path), run())


@pytest.mark.parametrize("check_every", [4, 7])
def test_frozen_rows_are_resumed_too(check_every, tmp_path):
    whole = run(check_every=check_every)
    with pytest.raises(Killed):
        run(tmp_path / "run", calls=9, check_every=check_every)
    assert_same(run(tmp_path / "run", check_every=check_every), whole)


def test_random_operators_go_on_with_the_same_numbers(tmp_path):
    """T uses torch's default generator, whose state is in the file."""

    class Noisy(Mortal):
        def evaluate(self, z):
            value, _ = super().evaluate(z)
            return value + 1e-3 * torch.randn(len(z), 1, dtype=z.dtype), {}

        def select(self, rows):
            return Noisy(self.operator.select(rows), self.calls, self.error, self.count)

    operator, _, z0 = problem()

    def noisy(calls, checkpoint=None):
        options = {"rtol": 0.0, "max_iterations": 20, "checkpoint": checkpoint}
        return solve(Noisy(operator, calls), z0, ForwardStep(), **options)

    torch.manual_seed(3)
    whole, after = noisy(-1), torch.rand(1)
    checkpoint = Checkpoint(path=tmp_path / "run", every=4)
    torch.manual_seed(3)
    with pytest.raises(Killed):
        noisy(11, checkpoint)
    for _ in range(2):  # resumed, then read
        torch.manual_seed(99)
        assert_same(noisy(-1, checkpoint), whole)
        assert torch.equal(torch.rand(1), after)


def test_a_closure_over_the_full_batch_resumes_after_rows_have_left(tmp_path):
    target = torch.randn(4, 3, dtype=torch.float64)
    slope = torch.tensor([[1.0], [0.5], [0.3], [0.1]], dtype=torch.float64)

    def closed(callback=None, checkpoint=None):
        operator = as_operator(lambda z: slope * (z - target))
        with pytest.warns(UserWarning, match="Pass the per-row tensors"):
            return solve(
                operator,
                torch.zeros_like(target),
                ForwardStep(),
                rtol=1e-8,
                callback=callback,
                checkpoint=checkpoint,
            )

    def die(iterate):
        if iterate.iteration == 40:
            raise Killed

    checkpoint = Checkpoint(path=tmp_path / "run")
    with pytest.raises(Killed):
        closed(die, checkpoint)
    assert_same(closed(checkpoint=checkpoint), closed())


def test_layouts_in_memory_are_kept(tmp_path):
    torch.manual_seed(1)
    z0 = torch.randn(3, 4, 5, 6).to(memory_format=torch.channels_last)
    target = torch.randn(3, 4, 5, 6).to(memory_format=torch.channels_last)
    operator = as_operator(lambda z, target: 0.7 * (z - target), target)
    seen = []

    def go(until=None, checkpoint=None):
        def look(iterate):
            seen.append(iterate.state.point.stride())
            if iterate.iteration == until:
                raise Killed

        return solve(operator, z0, ForwardStep(step_size=0.5), callback=look, checkpoint=checkpoint)

    whole = go()
    strides = list(seen)
    checkpoint = Checkpoint(path=tmp_path / "run", every=2)
    seen.clear()
    with pytest.raises(Killed):
        go(5, checkpoint)
    before = len(seen)
    assert_same(go(checkpoint=checkpoint), whole)
    assert seen[before:] == strides[5:]


def test_trees_are_resumed_like_tensors(tmp_path):
    data = torch.randn(3, 4, dtype=torch.float64)

    def coupled(z, data):
        first, second = z
        return first + 0.3 * second.sin() - data, second - 0.3 * first

    def go(until=None, checkpoint=None):
        def die(iterate):
            if iterate.iteration == until:
                raise Killed

        start = torch.zeros_like(data), torch.zeros_like(data)
        options = {"callback": die, "checkpoint": checkpoint}
        return solve(as_operator(coupled, data), start, Anderson(memory=2), **options)

    checkpoint = Checkpoint(path=tmp_path / "run", every=2)
    with pytest.raises(Killed):
        go(5, checkpoint)
    assert_same(go(checkpoint=checkpoint), go())


@dataclass(frozen=True)
class OwnState(State):
    velocity: Tensor
    last: tuple[Pair, ...]
    table: dict
    word: str


@dataclass(frozen=True)
class HeavyBall(Iterator[OwnState]):
    """An iterator of a user: trees in trees, growing, with plain numbers of all kinds."""

    momentum: float = 0.3

    def init(self, operator, z):
        state = {"velocity": torch.zeros_like(z), "last": (), "table": {1: None, "a": True}}
        return OwnState(z, z, operator(z), **state, word="first")

    def step(self, operator, state):
        velocity = self.momentum * state.velocity - 0.7 * state.residual
        z = state.z + velocity
        return OwnState(
            z=z,
            point=z,
            residual=operator(z),
            velocity=velocity,
            last=(Pair(z, float("inf")), *state.last)[:2],
            table=state.table | {"b": velocity[:, :1].expand(-1, 3)},
            word=state.word + "!",
        )


class Mean(Monitor):
    def start(self, iterate):
        return {"mean": iterate.state.z, "word": "", "count": 1}

    def watch(self, iterate, memory):
        count = memory["count"] + 1
        mean = memory["mean"] + (iterate.state.z - memory["mean"]) / count
        return {"mean": mean, "word": iterate.state.word, "count": count}


@dataclass(frozen=True)
class Often(StopRule):
    """Ends rows after so many iterations with a small residual."""

    times: int = 4
    status = Status.STALLED

    def start(self, iterate):
        return torch.zeros(len(iterate.rows), dtype=torch.int16)

    def check(self, iterate, memory):
        memory = memory + (iterate.residual_norm < 0.5).to(torch.int16)
        return memory >= self.times, memory


@pytest.mark.slow
@given(calls=st.integers(2, 25), every=st.integers(1, 9))
@settings(max_examples=15, deadline=None, derandomize=True, database=None)
def test_iterators_monitors_and_rules_of_a_user_resume_as_well(calls, every, tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "run"
    options = {"iterator": HeavyBall(), "monitors": (Mean(),), "stop": (Often(),), "rtol": 0.0}
    whole = run(**options)
    assert whole.status[0] is Status.STALLED
    with contextlib.suppress(Killed):
        run(path, calls=calls, every=every, **options)
    assert_same(run(path, every=every, **options), whole)


class Interruptions(RuleBasedStateMachine):
    """A run is killed again and again, at any call, with any rhythm of saves and looks."""

    name = "Anderson"

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "run"
        self.solution = None

    @precondition(lambda self: self.solution is None)
    @rule(calls=st.integers(3, 14), every=st.integers(1, 6), look=st.sampled_from([1, 1, 3]))
    def run_and_be_killed(self, calls, every, look):
        try:
            self.solution = self.go(calls=calls, every=every, check_every=look)
        except Killed:
            return

    @rule()
    def resume_to_the_end(self):
        self.solution = self.go()
        assert_same(self.solution, WHOLE[self.name])

    def go(self, **options):
        return run(self.path, iterator=METHODS[self.name], **options)

    def teardown(self):
        if self.solution is None:
            self.solution = self.go()
        assert_same(self.solution, WHOLE[self.name])
        self.folder.cleanup()


WHOLE = {}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Anderson", "Adam", "Broyden", "inertial KM"])
def test_any_number_of_interruptions_leaves_no_trace(name):
    WHOLE[name] = run(iterator=METHODS[name])
    case = type("Machine", (Interruptions,), {"name": name}).TestCase
    case.settings = settings(
        max_examples=5, stateful_step_count=5, deadline=None, derandomize=True, database=None
    )
    case().runTest()


@pytest.mark.slow
def test_replayed_iterations_are_saved_between_replays(tmp_path, monkeypatch):
    monkeypatch.setattr(cuda_graph, "capture", recorded)
    operator, _, z0 = problem(rows=3)
    adam = Adam(schedule=schedules.constant(0.05))
    options = {"check_every": 4, "max_iterations": 30, "rtol": 1e-9}
    whole = solve(operator, z0, adam, **options)
    path = tmp_path / "run"
    written, real = [], Path.replace

    def replace(self, target):
        real(self, target)
        written.append(path.read_bytes())

    monkeypatch.setattr(Path, "replace", replace)
    checkpoint = Checkpoint(path=path, every=8)
    graph = "20 iterations were replayed from CUDA graphs"
    saving = solve(operator, z0, adam, checkpoint=checkpoint, cuda_graph=True, **options)
    assert saving.graph == graph
    assert len(written) == 5  # at 0, 8, 16, 24 and at the end
    assert_same(dataclasses.replace(saving, graph=None), whole)
    for content in list(written):
        path.write_bytes(content)
        assert_same(solve(operator, z0, adam, checkpoint=checkpoint, **options), whole)
    path.write_bytes(written[1])
    resumed = solve(operator, z0, adam, checkpoint=checkpoint, cuda_graph=True, **options)
    assert "16 iterations were replayed" in resumed.graph
    assert_same(dataclasses.replace(resumed, graph=None), whole)
