import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fixpoint.adapters.provenance.roc import Roc

laws = settings(max_examples=40, deadline=None, derandomize=True, database=None)

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
