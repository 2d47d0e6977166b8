"""Trees in files come back bit for bit, and a file makes nothing that is not data."""

import dataclasses
import sys
import types
from dataclasses import InitVar, dataclass

import pytest
import torch
from killed_runs import CPU, Pair

from fixpoint.checkpoints.tree_file import NotReadable, NotSavable, read_tree, write_tree
from fixpoint.testing.trees import first_difference

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
