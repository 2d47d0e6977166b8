import pytest
import torch
from tree_ring_cases import LATENT, every_kind, white

from fixpoint.adapters.provenance.confusion import confusion_matrix
from fixpoint.adapters.provenance.tree_ring import TreeRing, classify


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
