import dataclasses
import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from scipy.special import betainc
from scipy.stats import binomtest, kstest

from fixpoint.adapters.provenance.confusion import Confusion, confusion_matrix
from fixpoint.adapters.provenance.frequencies import (
    MASKS,
    from_frequencies,
    mirrored,
    to_frequencies,
)
from fixpoint.adapters.provenance.random_direction import log_chance_of_coming_as_close
from fixpoint.adapters.provenance.roc import Roc
from fixpoint.adapters.provenance.tree_ring import FORMULAS, PAPER_KEYS, TreeRing, classify

LATENT = (64, 64)
laws = settings(max_examples=40, deadline=None, derandomize=True, database=None)


def white(count, shape, seed=0, channels=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, channels, *shape, generator=generator)


def every_kind(shape, radius=3, mask="centred", seed=0, channel=0):
    options = {"radius": radius, "mask": mask, "channel": channel}
    return (
        TreeRing.zeros(shape, **options),
        TreeRing.rand(shape, seed=seed, **options),
        TreeRing.ring(shape, seed=seed, **options),
        TreeRing.paper(shape, key=1 + seed % 3, **options),
    )


@st.composite
def keys(draw, masks=MASKS):
    """A key of any kind on a grid of even or odd sides, with a seed for noise."""
    shape = draw(st.tuples(st.integers(3, 14), st.integers(3, 14)))
    radius = draw(st.integers(1, min(6, (min(shape) - 1) // 2)))
    kinds = every_kind(
        shape,
        radius,
        draw(st.sampled_from(masks)),
        draw(st.integers(0, 99)),
        draw(st.integers(0, 2)),
    )
    return draw(st.sampled_from(kinds)), draw(st.integers(0, 999))


class TestEmbedding:
    @laws
    @given(keys(masks=["centred"]))
    def test_a_centred_key_is_kept_exactly_and_embedding_it_again_changes_nothing(self, drawn):
        key, seed = drawn
        noise = white(2, key.mask.shape, seed, channels=3)
        once = key.embed(noise)
        scale = key.mask.numel() ** 0.5
        assert float(key.distance(once).max()) < 1e-5 * scale
        torch.testing.assert_close(key.embed(once), once, rtol=0, atol=1e-5)
        if key.name != "zeros":
            assert float(key.distance(noise).min()) > 1e-2 * scale

    @laws
    @given(keys())
    def test_embedding_changes_only_one_channel_and_there_only_the_frequencies_of_the_mask(
        self, drawn
    ):
        key, seed = drawn
        noise = white(2, key.mask.shape, seed, channels=3)
        embedded = key.embed(noise)
        others = [channel for channel in range(3) if channel != key.channel]
        assert torch.equal(embedded[:, others], noise[:, others])
        change = to_frequencies(embedded[:, key.channel].double())
        change = (change - to_frequencies(noise[:, key.channel].double())).abs()
        reached = key.mask | mirrored(key.mask)
        scale = 1e-6 * float(key.pattern.abs().max() + 10 * key.mask.numel() ** 0.5)
        assert float((change * ~reached).max()) < scale
        assert float((change * reached).max()) > scale

    @laws
    @given(keys())
    def test_every_row_is_embedded_and_judged_as_it_is_alone(self, drawn):
        key, seed = drawn
        noise = white(3, key.mask.shape, seed, channels=3)
        assert torch.equal(key.embed(noise)[1:2], key.embed(noise[1:2]))
        assert torch.equal(key.distance(noise)[1:2], key.distance(noise[1:2]))
        torch.testing.assert_close(key.log10_p(noise)[1:2], key.log10_p(noise[1:2]))

    def test_embedding_returns_a_new_float32_tensor_for_every_dtype(self):
        key = TreeRing.paper((16, 16), key=2)
        noise = white(1, (16, 16))
        before = noise.clone()
        for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            assert key.embed(noise.to(dtype)).dtype == torch.float32
        assert torch.equal(noise, before)

    @laws
    @given(st.integers(3, 40), st.integers(1, 19))
    def test_the_official_mask_is_the_original_one_and_centred_on_odd_grids_alone(
        self, side, radius
    ):
        radius = min(radius, (side - 1) // 2)
        official = TreeRing.zeros((side, side), radius=radius, mask="official").mask
        y, x = np.ogrid[:side, :side]
        disc = (x - side // 2) ** 2 + (y[::-1] - side // 2) ** 2 <= radius**2
        assert torch.equal(official, torch.from_numpy(disc))
        centred = TreeRing.zeros((side, side), radius=radius).mask
        assert torch.equal(official, centred) == (side % 2 == 1)
        assert torch.equal(centred, mirrored(centred))

    def test_the_papers_keys_hold_its_values_and_are_as_strong_on_every_grid(self):
        for number, values in PAPER_KEYS.items():
            key = TreeRing.paper(LATENT, key=number)
            along = key.pattern[32, 32:39].real.tolist()
            assert along == [values[0], *values]
            small = TreeRing.paper((16, 24), key=number)
            ratio = float(small.pattern[8, 13].real) / values[0]
            assert ratio == pytest.approx((16 * 24) ** 0.5 / 64)

    def test_seeds_radii_channels_and_masks_change_the_key(self):
        noise = white(1, (16, 16), channels=2)
        plain = TreeRing.ring((16, 16), seed=0).embed(noise)
        for options in ({"seed": 1}, {"radius": 5}, {"channel": 1}, {"mask": "official"}):
            assert not torch.equal(TreeRing.ring((16, 16), **options).embed(noise), plain)
        assert not torch.equal(TreeRing.rand((16, 16), seed=0).embed(noise), plain)


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

    @laws
    @given(
        share=st.floats(1e-9, 1 - 1e-9),
        length=st.floats(0.1, 100),
        sizes=st.tuples(st.integers(2, 120), st.integers(1, 4000)),
    )
    def test_with_a_zero_key_the_chance_is_that_of_the_beta_distribution(
        self, share, length, sizes
    ):
        tested, rest = sizes
        squared = np.array([share * length**2])
        log = log_chance_of_coming_as_close(squared, np.array([length]), 0.0, tested, tested + rest)
        expected = mpmath.log(mpmath.betainc(tested / 2, rest / 2, 0, share, regularized=True))
        # The quadrature is good to about 1e-6 of the logarithm: 1.1e-6 has been seen.
        assert log[0] == pytest.approx(float(expected), rel=1e-5, abs=1e-9)

    @pytest.mark.parametrize("squared_distance", [1e-6, 1.0, 30.0, 200.0, 333.0])
    def test_the_chance_is_the_integral_also_where_it_underflows(self, squared_distance):
        tested, dimension, length, key = 113, 4096, 64.0, 15.0
        reach = squared_distance**0.5
        a, b = mpmath.mpf(tested - 1) / 2, mpmath.mpf(dimension - tested) / 2
        constant = mpmath.gamma(mpmath.mpf(dimension) / 2)
        constant /= mpmath.gamma(mpmath.mpf(dimension - 1) / 2) * mpmath.sqrt(mpmath.pi) * length

        def integrand(along):
            room = 1 - (along / length) ** 2
            share = (squared_distance - (along - key) ** 2) / (length**2 * room)
            # The first terms of the series suffice: the share is far below its mean.
            chance = mpmath.betainc(a, b, 0, share, regularized=True)
            return constant * room ** (mpmath.mpf(dimension - 3) / 2) * chance

        places = mpmath.linspace(key - reach, key + reach, 9)
        expected = float(mpmath.log(mpmath.quad(integrand, places)))
        log = log_chance_of_coming_as_close(
            np.array([squared_distance]), np.array([length]), key, tested, dimension
        )
        assert log[0] == pytest.approx(expected, rel=1e-5)

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


class TestClassification:
    """The experiment of the paper's section 5 with the exact noise in place of pictures."""

    # The official mask lies one row off the zero frequency: the real part averages its key with
    # the mirror image of the noise, and key 1 averaged so comes nearer to key 2 than to itself.
    @pytest.mark.parametrize(
        ("mask", "error", "lowest", "highest"),
        [
            ("centred", 0.0, 1.0, 1.0),
            ("official", 0.0, 2 / 3, 2 / 3),
            ("centred", 1.0, 0.99, 1.0),
            ("official", 1.0, 0.64, 0.74),
        ],
    )
    def test_the_official_mask_caps_the_papers_experiment_and_the_centred_one_does_not(
        self, mask, error, lowest, highest
    ):
        keys = [TreeRing.paper(LATENT, key=number, mask=mask) for number in (1, 2, 3)]
        noise = torch.cat(
            [key.embed(white(300, LATENT, seed)) for seed, key in enumerate(keys)]
        ) + error * white(900, LATENT, seed=9)
        found = classify(noise, keys)
        truth = [key.name for key in keys for _ in range(300)]
        confusion = confusion_matrix(truth, found.names, [key.name for key in keys])
        assert lowest <= confusion.accuracy <= highest
        if mask == "official" and not error:
            assert confusion.counts.tolist() == [[0, 300, 0], [0, 300, 0], [0, 0, 300]]

    def test_the_nearest_key_is_found_row_by_row(self):
        keys = every_kind((16, 16), radius=6)
        noise = torch.cat([key.embed(white(1, (16, 16), seed)) for seed, key in enumerate(keys)])
        found = classify(noise, keys)
        assert found.labels.tolist() == [0, 1, 2, 3]
        assert found.names == found.keys == ("zeros", "rand-0", "ring-0", "paper-1")
        assert found.distances.shape == (4, 4)
        assert torch.equal(found.distances[:, 2], keys[2].distance(noise))
        assert torch.equal(classify(noise[[3]], keys).distances, found.distances[[3]])

    def test_a_key_that_came_back_weak_is_read_by_its_angle_and_not_by_its_distance(self):
        keys = [TreeRing.paper(LATENT, key=key) for key in (1, 2, 3)]
        marked = torch.cat([key.embed(white(20, LATENT, seed)) for seed, key in enumerate(keys)])
        truth = torch.arange(3).repeat_interleave(20)
        weak = 0.4 * marked + white(60, LATENT, seed=5)
        by_distance = (classify(weak, keys).labels == truth).double().mean()
        found = classify(weak, keys, by="angle")
        assert (found.labels == truth).double().mean() > by_distance + 0.1
        # The strength of the noise is of no account.
        torch.testing.assert_close(
            classify(7 * weak, keys, by="angle").distances, found.distances, rtol=1e-4, atol=1e-5
        )
        torch.testing.assert_close(
            classify(marked, keys, by="angle").distances.gather(1, truth[:, None]),
            torch.zeros(60, 1, dtype=torch.float64),
            rtol=0,
            atol=1e-5,
        )

    def test_an_angle_needs_a_direction(self):
        noise = white(1, (16, 16))
        with pytest.raises(ValueError, match="zeros is zero and has no direction"):
            classify(noise, [TreeRing.zeros((16, 16))], by="angle")
        with pytest.raises(ValueError, match="distance"):
            classify(noise, [TreeRing.rand((16, 16))], by="cosine")

    def test_keys_must_have_names_to_be_told_apart_by(self):
        key = TreeRing.zeros((16, 16))
        with pytest.raises(ValueError, match="two keys are called 'zeros'"):
            classify(white(1, (16, 16)), [key, key])
        with pytest.raises(ValueError, match="no keys"):
            classify(white(1, (16, 16)), [])


class TestConfusion:
    def test_labels_are_counted_and_printed(self):
        confusion = confusion_matrix("aabbb", "abbba", ("a", "b"))
        assert confusion.counts.tolist() == [[1, 1], [1, 2]]
        assert confusion.accuracy == 0.6
        lines = str(confusion).splitlines()
        assert [line.split()[-2:] for line in lines[:3]] == [["a", "b"], ["1", "1"], ["1", "2"]]
        assert lines[3].startswith("3 of 5 right: 60.0% (95 % interval 14.7% to 94.7%)")

    def test_the_interval_covers_the_truth_as_often_as_it_says(self):
        for share in (0.5, 0.97):
            covered = 0.0
            for right in range(41):
                low, high = Confusion(
                    ("a", "b"), torch.tensor([[right, 40 - right], [0, 0]])
                ).interval
                if low <= share <= high:
                    covered += math.comb(40, right) * share**right * (1 - share) ** (40 - right)
            assert covered >= 0.95

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("ab", "a", "ab"), "2 for 1"),
            (("", "", "ab"), "0 for 0"),
            (("c", "a", "ab"), "'c' is none of the keys"),
            (("a", "a", "aa"), "one name"),
        ],
    )
    def test_labels_that_do_not_fit_are_refused(self, arguments, words):
        with pytest.raises(ValueError, match=words):
            confusion_matrix(*arguments)


scores = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=12)


class TestRoc:
    @laws
    @given(scores, scores)
    def test_the_area_is_the_chance_that_a_positive_scores_higher(self, high, low):
        roc = Roc.of(torch.tensor(high), torch.tensor(low))
        wins = [1.0 if a > b else 0.5 if a == b else 0.0 for a in high for b in low]
        assert roc.auc == pytest.approx(sum(wins) / len(wins))

    @laws
    @given(scores, scores)
    def test_every_point_is_what_its_threshold_does(self, high, low):
        roc = Roc.of(torch.tensor(high), torch.tensor(low))
        points = zip(roc.thresholds, roc.true_positive_rate, roc.false_positive_rate, strict=True)
        for threshold, true, false in points:
            assert float(true) == sum(a >= threshold for a in high) / len(high)
            assert float(false) == sum(b >= threshold for b in low) / len(low)
        assert bool((roc.thresholds.diff() < 0).all())
        assert (float(roc.true_positive_rate[0]), float(roc.true_positive_rate[-1])) == (0, 1)

    @laws
    @given(scores, scores, st.floats(0, 1))
    def test_a_threshold_keeps_to_the_rate_and_no_other_finds_more(self, high, low, rate):
        roc = Roc.of(torch.tensor(high), torch.tensor(low))
        threshold, found = roc.at(rate)
        assert sum(b >= threshold for b in low) / len(low) <= rate
        assert found == sum(a >= threshold for a in high) / len(high)
        for other in {*high, *low}:
            if sum(b >= other for b in low) / len(low) <= rate:
                assert sum(a >= other for a in high) / len(high) <= found

    def test_the_best_accuracy_weighs_both_kinds_alike(self):
        roc = Roc.of(torch.tensor([2.0, 3.0]), torch.tensor([0.0] * 98 + [2.5] * 2))
        assert roc.best_accuracy == pytest.approx((1 + 0.98) / 2)
        assert "AUC 0.9900" in str(roc)

    @pytest.mark.parametrize(
        ("bad", "error"),
        [
            (torch.tensor([]), ValueError),
            (torch.tensor([[1.0]]), ValueError),
            (torch.tensor([math.nan]), ValueError),
            (torch.tensor([math.inf]), ValueError),
            ([1.0], TypeError),
        ],
    )
    def test_scores_that_are_none_are_refused(self, bad, error):
        with pytest.raises(error, match="positive"):
            Roc.of(bad, torch.zeros(1))
        with pytest.raises(error, match="negative"):
            Roc.of(torch.zeros(1), bad)
        with pytest.raises(ValueError, match=r"\[0, 1\]"):
            Roc.of(torch.zeros(1), torch.zeros(1)).at(1.5)


class TestFiles:
    @laws
    @given(keys())
    def test_a_saved_key_comes_back_bit_for_bit(self, tmp_path_factory, drawn):
        key, _ = drawn
        path = tmp_path_factory.mktemp("key") / "key.safetensors"
        key.save(path)
        loaded = TreeRing.load(path)
        assert (loaded.name, loaded.channel) == (key.name, key.channel)
        assert torch.equal(loaded.pattern, key.pattern)
        assert torch.equal(loaded.mask, key.mask)
        assert repr(loaded) == repr(key)

    def test_other_files_are_refused(self, tmp_path):
        path = tmp_path / "key.safetensors"
        with pytest.raises(ValueError, match="not a readable safetensors file"):
            TreeRing.load(path)
        path.write_text("no numbers")
        with pytest.raises(ValueError, match="not a readable safetensors file"):
            TreeRing.load(path)
        save_file({"latent": torch.zeros(1)}, path)
        with pytest.raises(ValueError, match="holds no tree-ring key"):
            TreeRing.load(path)
        TreeRing.zeros((16, 16)).save(path)
        grid = torch.zeros(4, 4, dtype=torch.float64)
        metadata = {"format": "fixpoint tree-ring key 1", "name": "x", "channel": "0"}
        tensors = {"real": grid, "imaginary": grid.clone(), "mask": torch.zeros(4, 4)}
        save_file(tensors, path, metadata)
        with pytest.raises(ValueError, match="damaged"):
            TreeRing.load(path)


class TestBadInput:
    @pytest.mark.parametrize(
        ("build", "words"),
        [
            (lambda: TreeRing.zeros((12, 16)), "below half of either side"),
            (lambda: TreeRing.zeros((16,)), r"end in \(rows, columns\)"),
            (lambda: TreeRing.ring((16, 16), radius=0), "whole number above 0"),
            (lambda: TreeRing.ring((16, 16), radius=2.5), "whole number above 0"),
            (lambda: TreeRing.zeros((16, 16), mask="off"), "centred"),
            (lambda: TreeRing.zeros((16, 16), channel=-1), "channel"),
            (lambda: TreeRing.paper((16, 16), key=4), "1, 2 and 3"),
            (lambda: TreeRing.paper((64, 64), key=1, radius=10), "at most 6"),
            (lambda: TreeRing("x", torch.full((4, 4), torch.nan + 0j), EVERY), "not finite"),
            (lambda: TreeRing("x", torch.zeros(4, 4) + 0j, EVERY), "leave some out"),
            (lambda: TreeRing("x", torch.zeros(4, 4) + 0j, ~EVERY), "at least 2"),
        ],
    )
    def test_keys_that_cannot_be_are_refused(self, build, words):
        with pytest.raises(ValueError, match=words):
            build()

    def test_types_of_a_key_are_checked(self):
        with pytest.raises(TypeError, match="complex"):
            TreeRing("x", torch.zeros(4, 4), EVERY)
        with pytest.raises(TypeError, match="boolean"):
            TreeRing("x", torch.zeros(4, 4) + 0j, torch.ones(4, 4))

    def test_noise_that_does_not_fit_is_refused(self):
        key, noise = TreeRing.ring((16, 16), channel=1), white(3, (16, 16), channels=2)
        broken = noise.clone()
        broken[1, 1, 0, 0] = torch.nan
        for bad, words in (
            (noise[0], "shape"),
            (noise[..., :8], r"\(16, 8\)"),
            (noise[:, :1], "1 channels"),
            (broken, r"not finite in rows \[1\]"),
        ):
            for use in (key.embed, key.distance, key.p_value, key.detect):
                with pytest.raises(ValueError, match=words):
                    use(bad)
        with pytest.raises(TypeError, match="floating-point"):
            key.embed(noise.long())
        with pytest.raises(ValueError, match=r"zero in rows \[0, 1, 2\]"):
            key.p_value(torch.zeros_like(noise))
        with pytest.raises(ValueError, match="rate"):
            key.detect(noise, 1.0)
        with pytest.raises(ValueError, match="formula"):
            key.p_value(noise, formula="best")


EVERY = torch.ones(4, 4, dtype=torch.bool)


@laws
@given(st.integers(2, 9), st.integers(2, 9), st.integers(0, 99))
def test_the_mirror_image_of_real_noise_is_its_conjugate(rows, columns, seed):
    signal = white(1, (rows, columns), seed)[0, 0].double()
    spectrum = to_frequencies(signal)
    torch.testing.assert_close(mirrored(spectrum), spectrum.conj())
    torch.testing.assert_close(from_frequencies(spectrum), signal)
    assert float(spectrum[rows // 2, columns // 2].real) == pytest.approx(float(signal.sum()))


def test_a_coordinate_on_the_sphere_has_the_right_density():
    """The integral over all of a sphere is 1, and half of it lies on either side."""
    length = np.array([3.0])
    everything = log_chance_of_coming_as_close(np.array([100.0]), length, 4.0, 5, 9)
    assert everything[0] == pytest.approx(0, abs=1e-9)
    assert float(betainc(2.5, 2.0, 0.5)) == pytest.approx(
        math.exp(log_chance_of_coming_as_close(length**2 / 2, length, 0.0, 5, 9)[0])
    )


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


@pytest.mark.parametrize("side", [16, 64])
def test_an_empty_batch_has_empty_results(side):
    noise, keys = torch.zeros(0, 1, side, side), every_kind((side, side))
    for key in keys:
        found = key.detect(noise)
        for value in (found.distance, found.p_value, found.log10_p, found.found):
            assert value.shape == (0,)
        assert key.embed(noise).shape == noise.shape
    assert classify(noise, keys).distances.shape == (0, 4)
    assert classify(noise, keys[1:], by="angle").names == ()
