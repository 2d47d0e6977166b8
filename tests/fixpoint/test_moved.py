"""Old names of modules and classes work for one release, and say where things are now."""

import importlib

import pytest

from fixpoint import adapters, algebra, proximal


def old(module: str, name: str):
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize(
    ("module", "name", "new"),
    [
        ("fixpoint", "Identity", algebra.IdentityOperator),
        ("fixpoint.algebra", "Identity", algebra.IdentityOperator),
        ("fixpoint.algebra", "Translated", algebra.TranslatedOperator),
        ("fixpoint.algebra.linear", "Translated", algebra.TranslatedOperator),
        ("fixpoint.proximal", "PerRow", proximal.RowParameter),
        ("fixpoint.proximal.parameter", "PerRow", proximal.RowParameter),
        ("fixpoint.proximal", "Translated", proximal.TranslatedFunction),
    ],
)
def test_an_old_name_of_a_class_works_and_says_the_new_one(module, name, new):
    with pytest.warns(DeprecationWarning, match=f"{module}.{name} is {module}.{new.__name__} now"):
        assert old(module, name) is new


def test_the_observations_keep_the_names_that_two_classes_had():
    assert adapters.Identity().__class__.__module__ == "fixpoint.adapters.pictures.observations"
    assert adapters.PerRow.__name__ == "PerRow"
    with pytest.warns(DeprecationWarning, match="CallableObservation"):
        old("fixpoint.adapters.pictures.observations", "Function")


@pytest.mark.parametrize(
    ("module", "name", "advice"),
    [
        ("fixpoint.solve", "solve", "import solve from fixpoint;"),
        ("fixpoint.recommend", "recommend", "import recommend from fixpoint;"),
        ("fixpoint.checkpoint", "Checkpoint", "import Checkpoint from fixpoint;"),
        ("fixpoint.splittings.admm", "ADMM", "import ADMM from fixpoint.splittings;"),
        ("fixpoint.splittings.parts", "Bounds", "Bounds is in fixpoint.splittings.bounds now;"),
        ("fixpoint.splittings.parts", "select_part", "select_part is in fixpoint.splittings.steps"),
        ("fixpoint.rows", "where_rows", "where_rows is in fixpoint.trees.rows now;"),
    ],
)
def test_an_old_module_names_the_public_place_where_there_is_one(module, name, advice):
    with pytest.warns(DeprecationWarning, match=f"{module} moved: {advice}"):
        assert callable(old(module, name))


def test_a_name_that_never_was_is_an_attribute_error():
    for module in ("fixpoint", "fixpoint.algebra", "fixpoint.proximal"):
        with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
            old(module, "Nothing")
