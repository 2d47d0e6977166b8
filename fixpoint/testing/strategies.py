"""Hypothesis strategies for problems with known answers.

The strategies draw constants, a spectrum and integer seeds. Examples therefore shrink: to one row
in one dimension, with beta 1, the origin as the zero and no rotation of the axes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from hypothesis import strategies as st
from jaxtyping import Float
from torch import Tensor

from fixpoint import schedules, theory
from fixpoint.iterator import Iterator
from fixpoint.iterators import (
    Adam,
    Anderson,
    Broyden,
    ForwardStep,
    Halpern,
    InertialKM,
    NewtonKrylov,
)
from fixpoint.testing.known_operator import SHAPES, KnownOperator, Planes, Separable
from fixpoint.testing.linear_autoencoder import LinearAutoencoder

KINDS = ("cocoercive", "nearly cocoercive", "not cocoercive")
_SEEDS = st.integers(0, 2**16)


@st.composite
def operators(
    draw: st.DrawFn,
    *,
    kinds: Sequence[str] = ("cocoercive",),
    beta: st.SearchStrategy[float] | float | None = None,
    rows: st.SearchStrategy[int] | int | None = None,
    smallest: float = 0.0,
    shapes: Sequence[str] = tuple(SHAPES),
) -> KnownOperator:
    """Operators with exactly known constants and a known zero, the attribute `zero` (rows, size).

    Args:
        kinds: "cocoercive": exactly beta-cocoercive; symmetric or not, affine or not, well or ill
            conditioned, with or without null directions. "nearly cocoercive": with a negative
            slope of at most 0.05/beta in modulus. "not cocoercive": with larger negative slopes,
            or a rotation by a quarter turn. In the last two kinds `cocoercivity` is None, and
            `operator.refutation` is a direction that no cocoercivity admits.
        beta: 0.1 to 10 unless given.
        rows: 1 to 4 unless given.
        smallest: least modulus of an eigenvalue of beta T, in [0, 1]; above 0, T has no null
            directions, and its linear shape is strongly monotone.
        shapes: nonlinearities of the symmetric operators, of `SHAPES`; ("linear",) for affine
            operators only.

    Raises:
        ValueError: an unknown kind or shape.
    """
    _check_names("kinds", kinds, KINDS)
    _check_names("shapes", shapes, tuple(SHAPES))
    kind = draw(st.sampled_from(list(kinds)))
    if kind == "cocoercive":
        separable = st.builds(Separable, _spectra(smallest), st.sampled_from(list(shapes)))
        form: Separable | Planes = draw(st.one_of(separable, st.builds(Planes, _angles(smallest))))
    else:
        largest = 0.05 if kind == "nearly cocoercive" else 1.0
        least = 1e-4 if kind == "nearly cocoercive" else 0.1
        spectrum = draw(_spectra(smallest))
        negative = -draw(st.floats(least, largest))
        form = Separable((*spectrum, negative))
        if kind == "not cocoercive" and draw(st.booleans()):
            form = Planes((*draw(_angles(smallest)), math.pi / 2))
    number = draw(_or_default(beta, st.floats(0.1, 10)))
    count = draw(_or_default(rows, st.integers(1, 4)))
    zero = _normal(draw(_SEEDS), (count, form.size))
    return KnownOperator(number, zero, form, draw(_SEEDS))


@st.composite
def starting_points(
    draw: st.DrawFn,
    operator: KnownOperator,
    *,
    largest: float = 10.0,
    dtype: torch.dtype = torch.float64,
) -> Float[Tensor, "batch size"]:
    """Points for the rows of `operator`, each at its own distance, at most `largest`, from its
    zero."""
    batch, size = operator.zero.shape
    distances = [draw(st.floats(0, largest)) for _ in range(batch)]
    direction = _normal(draw(_SEEDS), (batch, size))
    axis = torch.eye(1, size, dtype=torch.float64).expand(batch, size)
    norm = direction.norm(dim=1, keepdim=True)
    unit = torch.where(norm > 0, direction / norm, axis)
    distance = torch.tensor(distances, dtype=torch.float64).unsqueeze(1)
    return (operator.zero + distance * unit).to(dtype)


def iterators(
    cocoercivity: float = 1.0,
    *,
    methods: Sequence[type[Iterator[Any]]] = (
        ForwardStep,
        InertialKM,
        Halpern,
        Adam,
        Anderson,
        Broyden,
        NewtonKrylov,
    ),
) -> st.SearchStrategy[Iterator[Any]]:
    """Iterators with settings that are admissible for a cocoercivity beta.

    Forward steps below 2 beta, inertial KM inside condition (13) and Halpern with at most beta:
    they converge. Adam, Anderson and Broyden have no such theorem. Anderson, Broyden and
    Newton-Krylov get a mixing below 2 beta, so that their safeguards fall back to a forward step
    that converges. With its safeguard, Newton-Krylov converges.
    """
    unknown = [method.__name__ for method in methods if method not in _ADMISSIBLE]
    if unknown:
        known = [method.__name__ for method in _ADMISSIBLE]
        raise ValueError(f"methods must be among {known}, got {unknown}")
    return st.one_of([_ADMISSIBLE[method](cocoercivity) for method in methods])


@st.composite
def autoencoder_pairs(
    draw: st.DrawFn, *, perturbed: bool | None = None, rows: int | None = None
) -> LinearAutoencoder:
    """Linear encoders and decoders in float64, with a latent and the picture decoded from it.

    Args:
        perturbed: False for E D = I only, True for E D near the identity with known cocoercivity
            (symmetric or not), None for both.
        rows: 1 to 3 unless given.
    """
    size = draw(st.integers(1, 4))
    scales = draw(st.tuples(*[st.floats(0.1, 10)] * size))
    composition: Separable | Planes | None = None
    if draw(st.booleans()) if perturbed is None else perturbed:
        near_one = st.floats(0.7, 1.3)
        if size % 2 == 0 and draw(st.booleans()):
            angles = draw(st.tuples(*[st.floats(-0.6, 0.6)] * (size // 2)))
            moduli = draw(st.tuples(*[near_one] * (size // 2)))
            composition = Planes(angles, moduli)
        else:
            composition = Separable(draw(st.tuples(*[near_one] * size)))
    count = draw(_or_default(rows, st.integers(1, 3)))
    latent = _normal(draw(_SEEDS), (count, size))
    pixels = size + draw(st.integers(0, 6))
    return LinearAutoencoder(latent, scales, pixels, composition, draw(_SEEDS))


def _spectra(smallest: float) -> st.SearchStrategy[tuple[float, ...]]:
    """Eigenvalues from `smallest` to 1. The first is 1, so that beta is sharp."""
    others = st.floats(max(smallest, 0.1), 1)
    small = [value for value in (1e-2, 1e-4, 1e-6, 0.0) if value >= smallest]
    if small:
        others = others | st.sampled_from(small)
    return st.lists(others, max_size=4).map(lambda values: (1.0, *values))


def _angles(smallest: float) -> st.SearchStrategy[tuple[float, ...]]:
    """Angles of planes whose eigenvalues have moduli cos(angle) of at least `smallest`."""
    angle = st.floats(0, math.acos(max(smallest, 0.1)))
    steep = [value for value in (1e-2, 1e-4, 1e-6) if value >= smallest]
    others = angle | st.sampled_from([math.acos(value) for value in steep]) if steep else angle
    return st.tuples(angle, st.lists(others, max_size=2)).map(lambda parts: (parts[0], *parts[1]))


def _forward_steps(beta: float) -> st.SearchStrategy[Iterator[Any]]:
    return st.floats(0.05, 0.95).map(lambda part: ForwardStep(step_size=part * 2 * beta))


def _inertial_kms(beta: float) -> st.SearchStrategy[Iterator[Any]]:
    def build(inertia: float, part: float, share: float) -> Iterator[Any]:
        return InertialKM(
            inertia=inertia,
            relaxation=part * theory.largest_relaxation(inertia),
            cocoercivity=share * beta,
        )

    return st.builds(build, st.floats(0, 0.9), st.floats(0.05, 0.95), st.floats(0.1, 1))


def _adams(beta: float) -> st.SearchStrategy[Iterator[Any]]:
    rates = st.floats(0.001, 0.1)
    constant = rates.map(schedules.constant)
    warmup = st.builds(schedules.warmup_cosine, rates, st.integers(10, 200))
    decays = st.tuples(st.floats(0, 0.95), st.floats(0, 0.999))
    floors = st.none() | st.sampled_from([1e-8, 1e-4, 1e-2])
    return st.builds(Adam, schedule=constant | warmup, betas=decays, eps=floors)


def _andersons(beta: float) -> st.SearchStrategy[Iterator[Any]]:
    return st.builds(
        Anderson,
        memory=st.integers(1, 5),
        mixing=st.floats(0.05, 0.95).map(lambda part: part * 2 * beta),
        regularization=st.sampled_from([0.0, 1e-8, 1e-2]),
        safeguard=st.booleans(),
        largest_weight=st.sampled_from([1e4, 10.0]),
    )


def _halperns(beta: float) -> st.SearchStrategy[Iterator[Any]]:
    shares = st.floats(0.1, 1).map(lambda share: share * beta)
    return st.builds(Halpern, cocoercivity=shares, restart=st.booleans())


def _broydens(beta: float) -> st.SearchStrategy[Iterator[Any]]:
    return st.builds(
        Broyden,
        memory=st.integers(1, 10),
        mixing=st.floats(0.05, 0.95).map(lambda part: part * 2 * beta),
        safeguard=st.booleans(),
        largest_rise=st.sampled_from([2.0, 1.0]),
        largest_step=st.sampled_from([30.0, 3.0]),
    )


def _newton_krylovs(beta: float) -> st.SearchStrategy[Iterator[Any]]:
    return st.builds(
        NewtonKrylov,
        krylov=st.integers(1, 5),
        mixing=st.floats(0.05, 0.95).map(lambda part: part * 2 * beta),
        difference=st.none() | st.sampled_from([1e-4, 1e-2]),
        forcing=st.none() | st.sampled_from([0.0, 1e-3, 0.1]),
        trust=st.sampled_from([0.0, 0.5]),
        largest_step=st.sampled_from([100.0, 3.0]),
        safeguard=st.booleans(),
    )


_ADMISSIBLE: dict[type[Iterator[Any]], Callable[[float], st.SearchStrategy[Iterator[Any]]]] = {
    ForwardStep: _forward_steps,
    InertialKM: _inertial_kms,
    Halpern: _halperns,
    Adam: _adams,
    Anderson: _andersons,
    Broyden: _broydens,
    NewtonKrylov: _newton_krylovs,
}


def _or_default(given: Any, otherwise: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    if given is None:
        return otherwise
    return given if isinstance(given, st.SearchStrategy) else st.just(given)


def _normal(seed: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normal numbers in float64; zeros for seed 0."""
    if seed == 0:
        return torch.zeros(shape, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _check_names(option: str, given: Sequence[str], known: Sequence[str]) -> None:
    unknown = [name for name in given if name not in known]
    if unknown or not given:
        raise ValueError(f"{option} must be among {list(known)}, got {list(given)}")
