"""A run that is killed and resumed is, bit for bit, one that was never interrupted."""

import contextlib
import dataclasses
import io
import random
import subprocess
import sys
import tempfile
import types
import warnings
from dataclasses import InitVar, dataclass
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from problems import ITERATORS, Counting, problem
from torch import Tensor

from fixpoint import (
    Adam,
    Anderson,
    Checkpoint,
    ForwardStep,
    Iterator,
    Operator,
    State,
    Status,
    as_operator,
    schedules,
    solve,
)
from fixpoint.checkpoints.fingerprint import fingerprint
from fixpoint.checkpoints.tree_file import NotReadable, NotSavable, read_tree, write_tree
from fixpoint.loop import cuda_graph
from fixpoint.monitors import (
    Cocoercivity,
    Convergence,
    Fejer,
    ForwardStepTheorem,
    InertialKMTheorem,
    Monitor,
)
from fixpoint.stop import NoiseFloor, Stagnation, StopRule
from fixpoint.testing.trees import first_difference

CPU = torch.device("cpu")
METHODS = ITERATORS | {"Adam": Adam(schedule=schedules.warmup_cosine(0.6, 60))}


class Killed(BaseException):
    """What nothing catches."""


class Mortal(Operator):
    """Another operator that raises at one of its calls, and measures its own residual."""

    def __init__(self, operator, calls, error=Killed, count=None):
        self.operator, self.calls, self.error = operator, calls, error
        self.count = [] if count is None else count
        self.cocoercivity = operator.cocoercivity

    def __call__(self, z):
        return self.evaluate(z)[0]

    def evaluate(self, z):
        self.count.append(len(z))
        if len(self.count) == self.calls:
            raise self.error
        value = self.operator(z)
        return value, {"misfit": value.norm(dim=1), "value": value}

    def select(self, rows):
        return Mortal(self.operator.select(rows), self.calls, self.error, self.count)


def run(path=None, *, calls=-1, iterator=METHODS["Anderson"], every=3, **options):
    """A run with everything that carries a memory; killed in its call number `calls`."""
    operator, zero, z0 = problem()
    z0 = z0 + torch.arange(5).reshape(5, 1)  # rows that need different numbers of iterations
    monitors = (
        Cocoercivity(zero=zero, capacity=4),
        Convergence(),
        Fejer(zero=zero),
        ForwardStepTheorem(step_size=0.8, cocoercivity=1.0),
        InertialKMTheorem(inertia=0.25, relaxation=0.6, cocoercivity=0.8),
    )
    options = {
        "rtol": 1e-3,
        "max_iterations": 60,
        "monitors": monitors,
        "stop": (Stagnation(window=20), NoiseFloor(level=1e-4)),
    } | options
    checkpoint = None if path is None else Checkpoint(path=path, every=every)
    return solve(Mortal(operator, calls), z0, iterator, checkpoint=checkpoint, **options)


def assert_same(a, b):
    """Two solutions, bit for bit, with their histories, reports and statistics."""
    for field in dataclasses.fields(a):
        x, y = getattr(a, field.name), getattr(b, field.name)
        assert first_difference(x, y) is None, field.name


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


# What is refused


def test_a_file_of_another_run_is_refused_and_says_what_differs(tmp_path):
    operator, zero, z0 = problem()

    class Other(Counting):
        pass

    def go(operator=operator, z0=z0, iterator=ForwardStep(step_size=0.8), **options):  # noqa: B008
        options = {"max_iterations": 12, "rtol": 0.0, "monitors": (Fejer(zero=zero),)} | options
        return solve(
            operator, z0, iterator, checkpoint=Checkpoint(path=tmp_path / "run"), **options
        )

    go()
    content = (tmp_path / "run").read_bytes()
    others = {
        r"iterator\.step_size was 0\.8 and is 0\.5": {"iterator": ForwardStep(step_size=0.5)},
        "iterator was .*ForwardStep and is .*Anderson": {"iterator": Anderson()},
        r"rtol was 0\.0 and is 0\.1": {"rtol": 0.1},
        "keep was 'best' and is 'last'": {"keep": "last"},
        "stop was .*tuple of 0 and is .*tuple of 1": {"stop": (Stagnation(),)},
        r"monitors\[0\]\.zero was .* with digest": {"monitors": (Fejer(zero=zero + 1),)},
        "z0 was torch.float64 .* and is torch.float32": {"z0": z0.float()},
        r"z0 was .*\(5, 8\).* and is .*\(4, 8\)": {"z0": z0[:4]},
        "z0's values": {"z0": z0 + 1},
        "operator was .* and is .*Other": {"operator": Other(operator)},
        "T z0 has changed": {"operator": type(operator).select(operator, torch.arange(4, -1, -1))},
        "has ended at max_iterations = 12": {"max_iterations": 20},
        "has ended at max_iterations = 12, and cannot": {"max_iterations": 6},
    }
    for words, options in others.items():
        with pytest.raises(ValueError, match=words) as caught:
            go(**options)
        assert "\n" not in str(caught.value)
    assert (tmp_path / "run").read_bytes() == content
    go()


def shifted(path, shift=0.0, dtype=torch.float32, size=4096):
    """A run of T z = 0.5 (z - data), whose data are moved by that part of ||z0||, as T z0 is."""
    made = torch.Generator().manual_seed(5)
    z0 = torch.randn(3, size, generator=made, dtype=torch.float64)
    data = torch.randn(z0.shape, generator=made, dtype=z0.dtype) + 2 * shift * z0
    operator = as_operator(lambda z, data: 0.5 * (z - data), data.to(dtype))
    checkpoint = Checkpoint(path=path)
    return solve(operator, z0.to(dtype), ForwardStep(), max_iterations=3, checkpoint=checkpoint)


@pytest.mark.parametrize(
    ("dtype", "shift"),
    [
        (torch.bfloat16, 0.3),
        (torch.float16, 0.1),
        (torch.float32, 1e-3),
        (torch.float64, 1e-8),
    ],
)
def test_other_data_of_the_same_shape_are_refused(dtype, shift, tmp_path):
    shifted(tmp_path / "run", dtype=dtype)
    with pytest.raises(ValueError, match="T z0 has changed"):
        shifted(tmp_path / "run", shift, dtype)


@pytest.mark.parametrize(
    ("dtype", "shift"),
    [
        (torch.bfloat16, 4e-3),
        (torch.float16, 5e-4),
        (torch.float32, 1e-6),
        (torch.float64, 1e-15),
    ],
)
def test_rounding_of_the_first_value_is_a_warning(dtype, shift, tmp_path):
    whole = shifted(tmp_path / "run", dtype=dtype)
    with pytest.warns(UserWarning, match=r"T z0 .* perhaps not bit for bit") as caught:
        again = shifted(tmp_path / "run", shift, dtype)
    assert_same(again, whole)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shifted(tmp_path / "run", dtype=dtype)


@pytest.mark.parametrize("special", [float("nan"), float("inf")])
def test_infinite_first_values_are_compared_as_well(special, tmp_path):
    def go(data):
        operator = as_operator(lambda z, data: z - data, data)
        checkpoint = Checkpoint(path=tmp_path / "run")
        return solve(operator, torch.zeros_like(data), ForwardStep(), checkpoint=checkpoint)

    data = torch.tensor([[1.0, 2.0], [3.0, special]])
    whole = go(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same(go(data), whole)
    for row, column, value in ((1, 1, 4.0), (1, 1, -float("inf")), (1, 0, 5.0), (0, 0, special)):
        other = data.clone()
        other[row, column] = value
        with pytest.raises(ValueError, match="T z0 has changed"):
            go(other)


def test_a_tree_of_another_structure_is_refused(tmp_path):
    class Leafwise(Operator):
        def __call__(self, z):
            if isinstance(z, dict):
                return {name: 0.5 * leaf for name, leaf in z.items()}
            return tuple(0.5 * leaf for leaf in z)

        def select(self, rows):
            return self

    class Other(Leafwise):
        pass

    def go(z0, operator=Leafwise()):  # noqa: B008
        checkpoint = Checkpoint(path=tmp_path / "run")
        return solve(operator, z0, ForwardStep(), max_iterations=3, checkpoint=checkpoint)

    x, y = torch.ones(2, 4), torch.ones(2, 2)
    whole = go({"x": x, "y": y})
    others = {
        r"z0's leaves was \['x'\] \(4,\), \['y'\] \(2,\) and is \[0\] \(4,\)": (x, y),
        r"and is \['x'\] \(4,\), \['z'\]": {"x": x, "z": y},
        r"and is \['x'\] \(2,\), \['y'\] \(4,\)": {"x": y, "y": x},
        r"and is \['x'\] \(2, 2\)": {"x": x.reshape(2, 2, 2), "y": y},
        "z0's leaves was .* and is absent": torch.ones(2, 6),
    }
    for words, z0 in others.items():
        with pytest.raises(ValueError, match=words):
            go(z0)
    with pytest.raises(ValueError, match=r"operator was .*Leafwise and is .*Other"):
        go({"x": x, "y": y}, Other())
    assert_same(go({"x": x, "y": y}), whole)


def test_more_iterations_may_be_asked_for_as_long_as_no_row_has_ended_there(tmp_path):
    with pytest.raises(Killed):
        run(tmp_path / "run", calls=12)
    with pytest.raises(ValueError, match="has come to iteration"):
        run(tmp_path / "run", max_iterations=3)
    assert_same(run(tmp_path / "run", max_iterations=100), run(max_iterations=100))
    assert_same(run(tmp_path / "run", max_iterations=200), run(max_iterations=200))


def test_a_damaged_file_is_refused_in_a_line_and_kept(tmp_path):
    path = tmp_path / "run"
    with pytest.raises(Killed):
        run(path, calls=8)
    content = path.read_bytes()
    header = int.from_bytes(content[:8], "little")
    chosen = random.Random(0)
    places = [chosen.randrange(8 + header, len(content)) for _ in range(15)]
    places += [chosen.randrange(8, 8 + header) for _ in range(25)]
    damaged = [content[:length] for length in (0, 4, 8, 100, header, len(content) - 1)]
    for place in places:
        damaged.append(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    for bad in damaged:
        path.write_bytes(bad)
        with pytest.raises(ValueError, match="run ") as caught:
            run(path)
        assert "\n" not in str(caught.value)
        assert path.read_bytes() == bad


def test_other_files_are_never_overwritten(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "latent.safetensors"
    save_file({"latent": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match="no checkpoint"):
        run(path)
    write_tree(path, {"z": torch.zeros(3)}, {}, CPU)
    with pytest.raises(ValueError, match="written by another run"):
        run(path)
    with pytest.raises(ValueError, match="is a folder"):
        Checkpoint(path=tmp_path)
    with pytest.raises(ValueError, match="every must be"):
        Checkpoint(path=path, every=0)
    with pytest.raises(TypeError, match="path must be"):
        Checkpoint(path=3)


def test_another_version_is_a_warning(tmp_path, monkeypatch):
    path = tmp_path / "run"
    with pytest.raises(Killed):
        run(path, calls=9)
    monkeypatch.setattr("fixpoint.checkpoints.checkpoint.__version__", "9.0")
    with pytest.warns(UserWarning, match=r"fixpoint .*\(now 9\.0\): the run goes on"):
        assert_same(run(path), run())


def test_without_safetensors_the_run_does_not_begin(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    operator, _, z0 = problem()
    counting = Counting(operator)
    with pytest.raises(ImportError, match="pip install safetensors"):
        solve(counting, z0, ForwardStep(), checkpoint=Checkpoint(path=tmp_path / "run"))
    assert counting.count == []


def test_what_cannot_be_read_back_is_refused_before_the_first_step(tmp_path):
    @dataclass(frozen=True)
    class Local(State):
        pass

    class Method(ForwardStep):
        def init(self, operator, z):
            return Local(z, z, operator(z))

    class Remembers(Monitor):
        def start(self, iterate):
            return {"kind": object()}

        def watch(self, iterate, memory):
            return memory

    operator, _, z0 = problem()
    checkpoint = Checkpoint(path=tmp_path / "run")
    counting = Counting(operator)
    with pytest.raises(NotSavable, match="define the class at the top of a module"):
        solve(counting, z0, Method(), checkpoint=checkpoint)
    with pytest.raises(NotSavable, match=r"observations\[0\]\['kind'\] is a builtins\.object"):
        solve(counting, z0, ForwardStep(), monitors=(Remembers(),), checkpoint=checkpoint)
    assert counting.count == [5, 5]
    assert not list(tmp_path.iterdir())


# Anyone's iterators, monitors and rules


class Pair(NamedTuple):
    value: Tensor
    number: float


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
    from tests.fixpoint.test_cuda_graph import recorded

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


# Trees in files


def test_tensors_keep_identity_layout_and_bits(tmp_path):
    shared = torch.randn(3, 4)
    storage = torch.arange(60, dtype=torch.float32)
    tree = {
        "a": shared,
        "b": (shared, shared.clone()),
        "transposed": torch.randn(3, 5, 2).transpose(1, 2),
        "expanded": torch.randn(3, 1, 4).expand(3, 6, 4),
        "scattered": torch.randn(8, 9)[::2, 1:],
        "overlapping": storage.as_strided((4, 5), (3, 1)),
        "away": storage[3:9],
        "empty": torch.zeros(0, 3),
        "number": torch.tensor(2.5),
        "half": torch.randn(3).to(torch.bfloat16),
        "bits": torch.tensor([float("nan"), float("inf"), -0.0, 5e-324], dtype=torch.float64),
        "flags": torch.tensor([True, False]),
        "small": torch.tensor([1, -2], dtype=torch.int8),
        "complex": torch.tensor([1 + 2j]).conj(),
        "pair": Pair(torch.ones(2), float("-inf")),
        3: (),
        None: {"x": 0.1, "y": -1, "z": "word", "t": True, "none": None, "nan": float("nan")},
    }
    path = tmp_path / "tree"
    write_tree(path, tree, {"note": "x"}, CPU)
    found = read_tree(path, CPU)
    assert first_difference(tree, found) is None
    assert found["a"] is found["b"][0]
    assert found["a"] is not found["b"][1]
    assert isinstance(found["pair"], Pair)
    assert found[None]["t"] is True
    for name in ("a", "transposed", "expanded", "scattered", "away", "number", "empty"):
        assert found[name].stride() == tree[name].stride(), name
    assert found["away"].data_ptr() % 64 == tree["away"].data_ptr() % 64
    assert torch.equal(found["bits"].view(torch.int64), tree["bits"].view(torch.int64))


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ([torch.ones(2)], "the tree is a builtins.list"),
        ({"a": {("b",): 1}}, "keys must be strings or numbers"),
        ({"a": torch.ones(2).to_sparse()}, "not a dense tensor"),
        ({"a": lambda: 0}, "cannot hold"),
    ],
)
def test_trees_of_other_things_are_refused(tree, words, tmp_path):
    with pytest.raises(NotSavable, match=words):
        write_tree(tmp_path / "tree", tree, {}, CPU)
    assert not list(tmp_path.iterdir())


@dataclass(frozen=True)
class Derived:
    side: float
    area: float = dataclasses.field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "area", self.side**2)


@dataclass(frozen=True)
class Scaled:
    value: float
    scale: InitVar[float]

    def __post_init__(self, scale):
        object.__setattr__(self, "value", self.value * scale)


@pytest.mark.parametrize(("part", "name"), [(Derived(2.0), "area"), (Scaled(2.0, 3.0), "scale")])
def test_dataclasses_whose_constructor_takes_other_things_are_refused(part, name, tmp_path):
    words = rf"'a'\] is a {type(part).__name__}, which a checkpoint cannot hold: .*'{name}'"
    with pytest.raises(NotSavable, match=words):
        write_tree(tmp_path / "tree", {"a": part}, {}, CPU)
    assert not list(tmp_path.iterdir())


class Loads(type):
    """A metaclass whose classes are asked for what they lack."""

    def __getattr__(cls, name):
        ASKED.append(name)
        raise AttributeError(name)


class Lazy(types.ModuleType):
    """A module that loads itself when it is asked for anything."""

    def __getattribute__(self, name):
        ASKED.append(name)
        return super().__getattribute__(name)


class Proxy:
    """An object that says it is a class of data."""

    @property
    def __class__(self):
        ASKED.append("__class__")
        return type

    def __getattr__(self, name):
        ASKED.append(name)
        return ()


ASKED = []


def test_looking_up_a_class_asks_no_module_and_no_class(tmp_path, monkeypatch):
    lazy = Lazy("lazy")
    lazy.__dict__.update(
        __getattr__=ASKED.append, Loads=Loads("Loads", (), {}), proxy=Proxy(), Pair=Pair
    )
    monkeypatch.setitem(sys.modules, "lazy", lazy)
    monkeypatch.setitem(sys.modules, "proxy", Proxy())
    ASKED.clear()
    path = tmp_path / "tree"
    names = ("missing", "missing.inner.x", "Loads", "Loads.Inner", "proxy", "proxy.Inner", "")
    for name in (*(f"lazy:{name}" for name in names), "proxy:Pair", "torch:_inductor.config.x"):
        before = set(sys.modules)
        forge(path, {"class": name, "parts": []}, monkeypatch)
        with pytest.raises(NotReadable, match="no class loaded in this process"):
            read_tree(path, CPU)
        assert ASKED == [], name
        assert set(sys.modules) == before
    forge(path, {"class": "lazy:Pair", "parts": [{"value": 1}, {"value": 2}]}, monkeypatch)
    assert read_tree(path, CPU) == Pair(1, 2)
    assert ASKED == []


def test_a_file_makes_no_class_that_is_not_data(tmp_path, monkeypatch):
    path = tmp_path / "tree"
    for name in ("subprocess:Popen", "builtins:tuple", "not_imported:Pair", "os:system"):
        forge(path, {"class": name, "parts": []}, monkeypatch)
        with pytest.raises(NotReadable, match="no class loaded in this process"):
            read_tree(path, CPU)


def forge(path, node, monkeypatch):
    """A file with a tree that no writer writes."""
    with monkeypatch.context() as patch:
        patch.setattr("fixpoint.checkpoints.tree_file._Writer.node", lambda *_: node)
        write_tree(path, None, {}, CPU)


# Fingerprints


@pytest.mark.slow
def test_fingerprints_tell_things_apart_and_hold_across_processes():
    program = (
        "from fixpoint import Adam, schedules\n"
        "from fixpoint.fingerprint import fingerprint\n"
        "def made(rate): return lambda step: rate if step in {1, 2, 'a', 'b'} else 0.5\n"
        "print(sorted(fingerprint((Adam(schedule=made(0.1)), {'a', 'b'}), 'x').items()))"
    )
    here = io.StringIO()
    with contextlib.redirect_stdout(here):
        exec(compile(program, "<string>", "exec"), {"__name__": "__main__"})
    command = [sys.executable, "-c", program]
    there = subprocess.run(command, capture_output=True, text=True, check=True)
    assert there.stdout == here.getvalue()
    assert "0x" not in there.stdout

    def made(rate):
        return lambda step: rate / (step + 1)

    same = fingerprint(made(0.1), "f"), fingerprint(made(0.1), "f")
    assert same[0] == same[1]
    assert fingerprint(made(0.2), "f") != same[0]
    assert fingerprint(lambda step: 1 / (step + 2), "f") != fingerprint(lambda s: 1 / s, "f")
    assert fingerprint(torch.ones(3), "t") != fingerprint(torch.ones(3).double(), "t")
    looped = {"a": 1}
    looped["self"] = looped
    assert fingerprint(looped, "d")["d['self']"] == "itself"
