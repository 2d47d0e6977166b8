import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from tree_ring_cases import LATENT, every_kind, keys, laws, white

from fixpoint.adapters.provenance.frequencies import (
    mirrored,
    to_frequencies,
)
from fixpoint.adapters.provenance.tree_ring import PAPER_KEYS, TreeRing, classify


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
