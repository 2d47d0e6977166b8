"""The arrows of ARCHITECTURE.md: what each room may import, and that no imports go in circles."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {"fixpoint.kernels": "kernels", "fixpoint.adapters": "adapters", "fixpoint": "fixpoint"}

OUTSIDE = {
    "kernels": {"torch", "triton", "jaxtyping"},
    "fixpoint": {"torch", "numpy", "jaxtyping", "tqdm", "safetensors", "hypothesis", "pytest"},
}
"""What the two lower rooms import beside the standard library; adapters may import anything."""

PICTURES = {"pictures"}
REPORTS = {"pictures", "reports"}
AUTOENCODERS = {"autoencoders", "pictures", "reports"}
INVERSION = AUTOENCODERS | {"inversion"}
DIFFUSION = INVERSION | {"diffusion"}
ROUND_TRIPS = INVERSION | {"round_trips"}
PROVENANCE = INVERSION | {"provenance"}
VERIFICATION = INVERSION | {"verification"}

MAY_IMPORT = {
    "pictures": PICTURES,
    "reports": REPORTS,
    "autoencoders": AUTOENCODERS,
    "inversion": INVERSION,
    "diffusion": DIFFUSION,
    "round_trips": ROUND_TRIPS,
    "provenance": PROVENANCE,
    "verification": VERIFICATION,
    "commands": DIFFUSION | ROUND_TRIPS | PROVENANCE | VERIFICATION | {"commands"},
}
"""Inside adapters: the rooms that each room may import from."""

ENTRANCE = "fixpoint.__main__"
"""`python -m fixpoint`, which Python looks for in the lower room."""

LONGEST_CYCLE = 9
"""Operators make operators (`2 * T`, `T.resolvent()`): `operator` and `algebra` need each other."""


def sources() -> dict[str, str]:
    """The text of every module of the three rooms, by its import name."""
    found = {}
    for package, folder in ROOMS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            if package == "fixpoint" and parts[0] in ("adapters", "kernels"):  # links
                continue
            name = ".".join([package, *(part for part in parts if part != "__init__")])
            found[name] = path.read_text()
    return found


def imports(modules: dict[str, str]) -> dict[str, set[str]]:
    """What each module imports, also inside functions: modules of ours, or packages of others."""
    found = {}
    for name, text in modules.items():
        pairs = _imported(text)
        found[name] = {whole if whole in modules else module for module, whole in pairs} - {name}
    return found


@cache
def _imported(text: str) -> frozenset[tuple[str, str]]:
    """Every name that a module imports: where from, and with it its own name."""
    found: set[tuple[str, str]] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {(alias.name, alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {(str(node.module), f"{node.module}.{alias.name}") for alias in node.names}
    return frozenset(found)


def room(module: str) -> tuple[str, str]:
    """The top-level folder and the room in it: ("adapters", "pictures")."""
    package = next(package for package in ROOMS if (module + ".").startswith(package + "."))
    rest = module[len(package) + 1 :].split(".")
    return ROOMS[package], rest[0]


def forbidden(modules: dict[str, str]) -> list[str]:
    """Every import against the arrows, in words."""
    wrong = []
    for module, targets in imports(modules).items():
        folder, inside = room(module)
        for target in sorted(targets):
            if not target.startswith("fixpoint"):
                top = target.split(".")[0]
                if folder in OUTSIDE and top not in OUTSIDE[folder] | STANDARD:
                    wrong.append(f"{module} imports {top}")
                continue
            to_folder, to_inside = room(target)
            upwards = FLOORS.index(to_folder) > FLOORS.index(folder) and module != ENTRANCE
            if upwards or (
                folder == to_folder == "adapters"
                and inside in MAY_IMPORT
                and to_inside in {*MAY_IMPORT, "", "__init__"}
                and to_inside not in MAY_IMPORT[inside]
            ):
                wrong.append(f"{module} imports {target}")
    return wrong


FLOORS = ("kernels", "fixpoint", "adapters")
STANDARD = {"__future__", *__import__("sys").stdlib_module_names}


def cycles(modules: dict[str, str]) -> list[set[str]]:
    """Groups of modules that reach each other by imports: strongly connected components."""
    graph = {name: targets & set(modules) for name, targets in imports(modules).items()}
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(name: str) -> None:
        index[name] = lowest[name] = len(index)
        stack.append(name)
        for target in graph[name]:
            if target not in index:
                visit(target)
                lowest[name] = min(lowest[name], lowest[target])
            elif target in stack:
                lowest[name] = min(lowest[name], index[target])
        if lowest[name] == index[name]:
            place = stack.index(name)
            group, stack[place:] = set(stack[place:]), []
            if len(group) > 1:
                found.append(group)

    for name in graph:
        if name not in index:
            visit(name)
    return found


@pytest.fixture(scope="module")
def modules():
    return sources()


def test_the_arrows_run_one_way(modules):
    assert forbidden(modules) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("fixpoint.kernels.dispatch", "from fixpoint.operator import Operator"),
        ("fixpoint.stop", "import fixpoint.adapters.pictures.pictures"),
        ("fixpoint.stop", "import diffusers"),
        ("fixpoint.theory", "def f():\n    from PIL import Image"),
        ("fixpoint.adapters.pictures.pictures", "from fixpoint.adapters.commands import main"),
        (
            "fixpoint.adapters.autoencoders.sizes",
            "from fixpoint.adapters.inversion.result import Inversion",
        ),
        ("fixpoint.adapters.reports.figures", "import fixpoint.adapters.inversion"),
    ],
)
def test_a_planted_import_against_the_arrows_is_found(modules, module, line):
    planted = modules | {module: modules.get(module, "") + f"\n{line}\n"}
    assert len(forbidden(planted)) == 1


def test_no_imports_go_in_circles_in_kernels_and_adapters(modules):
    circles = cycles(modules)
    assert [group for group in circles if room(min(group))[0] != "fixpoint"] == []


def test_cycles_in_fixpoint_stay_short(modules):
    assert max(map(len, cycles(modules)), default=0) <= LONGEST_CYCLE


def test_a_planted_cycle_is_found(modules):
    name = "fixpoint.adapters.autoencoders.sizes"
    line = "import fixpoint.adapters.autoencoders.autoencoder\n"
    assert any(name in group for group in cycles(modules | {name: modules[name] + line}))


def test_every_room_of_adapters_is_in_the_table():
    rooms = {path.parent.name for path in (ROOT / "adapters").glob("*/__init__.py")}
    assert rooms == set(MAY_IMPORT)


def repeated(modules: dict[str, str]) -> dict[str, list[str]]:
    """The names that two public classes have, with their modules."""
    found: dict[str, list[str]] = {}
    for module, text in modules.items():
        for node in ast.parse(text).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(module)
    return {name: where for name, where in found.items() if len(where) > 1}


def test_no_two_public_classes_share_a_name(modules):
    assert repeated(modules) == {}


def test_a_planted_second_class_of_a_name_is_found(modules):
    name = "fixpoint.stop"
    planted = modules | {name: modules[name] + "\nclass Identity:\n    pass\n"}
    assert set(repeated(planted)) == {"Identity"}


@pytest.mark.parametrize("folder", ["fixpoint", "adapters", "kernels", "benchmarks"])
def test_no_file_is_longer_than_400_lines(folder):
    paths = (path for path in (ROOT / folder).rglob("*.py") if not path.is_symlink())
    long = {str(path): count for path in paths if (count := path.read_text().count("\n")) > 400}
    assert long == {}
