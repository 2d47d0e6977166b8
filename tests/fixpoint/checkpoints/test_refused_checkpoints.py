"""A file that does not fit the run is refused in a line, and kept."""

import random
import sys
import warnings
from dataclasses import dataclass

import pytest
import torch
from killed_runs import CPU, Killed, assert_same, run
from problems import Counting, problem

from fixpoint import Anderson, Checkpoint, ForwardStep, Operator, State, as_operator, solve
from fixpoint.checkpoints.tree_file import NotSavable, write_tree
from fixpoint.monitors import Fejer, Monitor
from fixpoint.stop import Stagnation

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
