import math

import pytest
import torch

from fixpoint.adapters.provenance.confusion import Confusion, confusion_matrix


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
            (("c", "a", "ab"), "'c' is not among the keys"),
            (("a", "a", "aa"), "one name"),
        ],
    )
    def test_labels_that_do_not_fit_are_refused(self, arguments, words):
        with pytest.raises(ValueError, match=words):
            confusion_matrix(*arguments)
