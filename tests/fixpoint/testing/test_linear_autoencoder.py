"""Drawn encoders and decoders compose to the map that they declare."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fixpoint import ForwardStep, solve
from fixpoint.testing import autoencoder_pairs, check_operator

drawn = settings(max_examples=40, deadline=None, derandomize=True, database=None)
few = settings(max_examples=8, deadline=None, derandomize=True, database=None)


@given(pair=autoencoder_pairs(perturbed=False))
@drawn
def test_an_exact_autoencoder_pair_composes_to_the_identity(pair):
    z = torch.randn(pair.latent.shape, dtype=torch.float64)
    torch.testing.assert_close(pair.encode(pair.decode(z)), z, rtol=1e-12, atol=1e-12)
    operator = pair.operator()
    torch.testing.assert_close(operator(z), z - pair.latent, rtol=1e-11, atol=1e-11)
    assert operator.cocoercivity == 1


@given(pair=autoencoder_pairs(perturbed=True), seed=st.integers(0, 1000))
@drawn
def test_a_perturbed_autoencoder_pair_has_its_latent_as_a_zero_and_its_constant(pair, seed):
    operator = pair.operator()
    assert operator(pair.latent).abs().max() <= 1e-11
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, *pair.latent.shape, generator=generator, dtype=torch.float64)
    dz, dt = a - b, operator(a) - operator(b)
    slack = 1e-10 * (dz.square().sum(1) + 1)
    assert ((dz * dt).sum(1) >= operator.cocoercivity * dt.square().sum(1) - slack).all()
    solution = solve(operator, torch.zeros_like(a), ForwardStep(step_size=0.7))
    assert solution.success


@given(pair=autoencoder_pairs(rows=3))
@few
def test_autoencoder_pairs_pass_the_check_of_operators(pair):
    check_operator(pair.operator(), pair.latent, rounding=1e-10, examples=5)
