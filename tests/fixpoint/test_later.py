"""Names of the packages are loaded when one of them is first used."""

import subprocess
import sys

import pytest

import fixpoint
from fixpoint import adapters


def in_a_fresh_process(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


def test_importing_fixpoint_loads_no_torch_until_a_name_is_used():
    code = """
import sys, fixpoint, fixpoint.adapters
print(fixpoint.__version__, "torch" in sys.modules)
fixpoint.solve
print("torch" in sys.modules)
"""
    assert in_a_fresh_process(code).stdout.split()[1:] == ["False", "True"]


def test_one_import_reaches_every_room():
    code = """
import fixpoint
print(fixpoint.adapters.invert.__name__, fixpoint.splittings.__name__, fixpoint.kernels.__name__)
"""
    assert in_a_fresh_process(code).stdout == "invert fixpoint.splittings fixpoint.kernels\n"


@pytest.mark.parametrize(
    "first",
    [
        "fixpoint.operator",
        "fixpoint.inner_solves.row_systems",
        "fixpoint.splittings",
        "fixpoint.iterators.anderson",
        "fixpoint.adapters.inversion.choice",
    ],
)
def test_a_module_can_be_imported_before_all_others(first):
    code = f"import {first}, fixpoint; fixpoint.solve; fixpoint.adapters.invert"
    assert in_a_fresh_process(code).stderr == ""


@pytest.mark.parametrize("package", [fixpoint, adapters])
def test_dir_and_star_know_every_public_name(package):
    assert set(package.__all__) <= set(dir(package))
    namespace = {}
    exec(f"from {package.__name__} import *", namespace)
    assert set(package.__all__) <= set(namespace)
    assert all(namespace[name] is getattr(package, name) for name in package.__all__)


@pytest.mark.parametrize("package", [fixpoint, adapters])
def test_a_name_that_is_not_there_is_an_attribute_error(package):
    assert not hasattr(package, "nothing")
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        package.nothing  # noqa: B018


def test_a_resolvent_finds_its_inner_solver_in_a_program_that_imports_only_operators():
    code = """
import torch
from fixpoint.operator import as_operator
T = as_operator(lambda z: z.tanh(), cocoercivity=1.0)
print(float(T.resolvent(1.0, tolerance=1e-3)(torch.ones(1, 1))) > 0)
"""
    assert in_a_fresh_process(code).stdout == "True\n"


def test_triton_is_left_alone_where_torch_knows_no_gpu():
    code = """
import os, sys, torch
os.environ.pop("TRITON_INTERPRET", None)
import fixpoint
fixpoint.solve
print("triton" in sys.modules or not (torch.version.cuda or torch.version.hip))
from fixpoint.kernels import device
print(device.AVAILABLE == ("triton" in sys.modules))
"""
    assert in_a_fresh_process(code).stdout == "True\nTrue\n"
