import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, kstest
from tree_ring_cases import LATENT, every_kind, keys, laws, white

from fixpoint.adapters.provenance.frequencies import (
    MASKS,
    to_frequencies,
)
from fixpoint.adapters.provenance.tree_ring import FORMULAS, TreeRing


class TestPValue:
    # 16 x 16 with a radius of 6 is hard: nearly half of all frequencies are tested, so that an
    # estimate of the noise from the others would not do.
    @pytest.mark.parametrize("mask", MASKS)
    @pytest.mark.parametrize("level", [1.0, 0.3])
    def test_p_values_of_white_noise_of_any_level_are_uniform(self, mask, level):
        noise = level * white(1500, (16, 16), seed=1)
        for key in every_kind((16, 16), radius=6, mask=mask):
            assert kstest(key.p_value(noise).numpy(), "uniform").pvalue > 0.01

    @pytest.mark.parametrize("shape", [(3, 3), (5, 8), (9, 9)])
    def test_they_are_uniform_on_the_smallest_grids_too(self, shape):
        noise = white(1500, shape, seed=2)
        for key in every_kind(shape, radius=(min(shape) - 1) // 2):
            assert kstest(key.p_value(noise).numpy(), "uniform").pvalue > 0.01

    def test_the_original_formula_is_not_uniform_and_finds_keys_in_noise_too_often(self):
        noise = white(1000, (32, 32), seed=3)
        for key in every_kind((32, 32), radius=6)[1:]:
            ours, original = (key.p_value(noise, formula=each) for each in FORMULAS)
            assert kstest(original.numpy(), "uniform").pvalue < 1e-3
            right, wrong = (int((each <= 0.01).sum()) for each in (ours, original))
            assert binomtest(right, 1000, 0.01).pvalue > 0.001
            assert binomtest(wrong, 1000, 0.01, alternative="greater").pvalue < 1e-4

    def test_the_original_formula_never_finds_the_zero_key(self):
        noise = white(200, (32, 32), seed=4)
        zeros = TreeRing.zeros((32, 32))
        for each in (noise, zeros.embed(noise) + 0.1 * white(200, (32, 32), seed=5)):
            original = zeros.p_value(each, formula="original")
            assert float(original.min()) > 0.45
        assert bool(zeros.detect(each, 1e-6).found.all())

    def test_the_original_formula_is_that_of_the_original_code(self):
        from scipy.stats import ncx2

        key = TreeRing.rand((16, 16), mask="official")
        noise = white(1, (16, 16), seed=6)
        found = np.fft.fftshift(np.fft.fft2(noise[0, 0].double().numpy()))[key.mask.numpy()]
        y, k = (
            np.concatenate([each.real, each.imag])
            for each in (found, key.pattern[key.mask].numpy())
        )
        sigma = y.std(ddof=1)
        expected = ncx2.cdf((((y - k) / sigma) ** 2).sum(), len(k), (k**2 / sigma**2).sum())
        assert float(key.p_value(noise, formula="original")) == pytest.approx(expected, rel=1e-9)

    def test_both_tails_are_sane(self):
        key = TreeRing.paper(LATENT, key=1)
        there = key.embed(white(2, LATENT))
        away = dataclasses.replace(key, pattern=-key.pattern).embed(white(2, LATENT))
        found, opposite = key.detect(there), key.detect(away)
        assert found.p_value.tolist() == [0, 0]
        assert bool((found.log10_p < -500).all())
        assert bool(found.log10_p.isfinite().all())
        assert bool((opposite.p_value > 1 - 1e-6).all())
        assert bool((opposite.p_value <= 1).all())
        assert found.found.tolist() == [True, True]
        assert opposite.found.tolist() == [False, False]

    def test_evidence_grows_as_noise_on_top_shrinks(self):
        for key in every_kind((32, 32), radius=6):
            noise, error = key.embed(white(20, (32, 32))), white(20, (32, 32), seed=1)
            by_level = torch.stack([key.log10_p(noise + s * error) for s in (0.1, 0.5, 1.0, 4.0)])
            assert bool((by_level.diff(dim=0) > 0).all())

    def test_the_false_positive_rate_is_that_asked_for(self):
        key, noise = TreeRing.rand((16, 16), radius=4), white(2000, (16, 16), seed=7)
        for rate in (0.2, 0.01):
            found = int(key.detect(noise, rate).found.sum())
            assert binomtest(found, 2000, rate).pvalue > 0.001


STRENGTHS = (1e-300, 1e-170, 1e-20, 1e-12, 1e-3, 1e-2, 0.1, 1.0, 1e3, 1e20, 1e170, 1e300)


class TestStrength:
    """White noise of any strength has uniform p-values, and no strength is special."""

    @pytest.mark.parametrize("kind", range(4))
    @pytest.mark.parametrize("strength", STRENGTHS)
    def test_p_values_of_white_noise_are_uniform_at_every_strength(self, kind, strength):
        key = every_kind((16, 16), radius=4, seed=3)[kind]
        noise = white(1000, (16, 16), seed=5).double() * strength
        assert kstest(key.p_value(noise).numpy(), "uniform").pvalue > 1e-3

    @laws
    @given(keys(), st.integers(-450, 450), st.integers(-40, 10))
    def test_a_power_of_two_on_key_and_noise_changes_nothing(self, drawn, exponent, weak):
        key, seed = drawn
        noise = white(4, key.mask.shape, seed, channels=key.channel + 1).double() * 2.0**weak
        scaled = dataclasses.replace(key, pattern=key.pattern * 2.0**exponent)
        torch.testing.assert_close(
            scaled.log10_p(noise * 2.0**exponent), key.log10_p(noise), rtol=1e-9, atol=1e-9
        )

    def test_the_limit_of_weak_noise_is_the_test_of_its_angle_to_the_key(self):
        key, noise = TreeRing.rand((16, 16), radius=4), white(50, (16, 16), seed=8).double()
        weak, weaker = key.p_value(1e-6 * noise), key.p_value(1e-30 * noise)
        torch.testing.assert_close(weak, weaker, rtol=1e-3, atol=1e-5)
        spectrum = to_frequencies(noise[:, 0])
        cosine = (spectrum * key.pattern.conj()).real.sum((1, 2)) / spectrum.abs().square().sum(
            (1, 2)
        ).sqrt()
        assert bool((weaker[cosine.argsort(descending=True)].diff() >= 0).all())

    def test_rows_of_very_different_strength_do_not_meet(self):
        key, noise = TreeRing.rand((16, 16), radius=4), white(3, (16, 16), seed=9).double()
        noise = noise * torch.tensor([1e-200, 1.0, 1e200], dtype=torch.float64)[:, None, None, None]
        together = key.log10_p(noise)
        for row in range(3):
            assert torch.equal(key.log10_p(noise[row : row + 1])[0], together[row])

    def test_angles_do_not_depend_on_the_strength(self):
        key, noise = TreeRing.rand((16, 16), radius=4), white(5, (16, 16)).double()
        for strength in (1e-300, 1e-20, 1e300):
            torch.testing.assert_close(key.angle(strength * noise), key.angle(noise))
