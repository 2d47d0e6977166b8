"""When extrapolations are tried, refused and left: the bookkeeping, one evaluation at a time."""

import torch

from fixpoint import Anderson, Broyden, as_operator, solve
from fixpoint.iterators.trials import Trials

PATIENCE = 5


def start(rows=1, norm=1.0):
    return Trials.first(torch.full((rows,), norm, dtype=torch.float64))


def after(trials, extrapolated, accepted, norm, patience=PATIENCE):
    flags = (torch.full(trials.wait.shape, flag) for flag in (extrapolated, accepted))
    return trials.after(*flags, torch.full_like(trials.reference, norm), patience)


def refused(trials, **options):
    return after(trials, True, False, 2.0, **options)


def walked(trials, norm=1.0):
    """A forward step that is accepted."""
    return after(trials, False, True, norm)[0]


def test_one_refusal_after_the_other_costs_one_two_four_and_eight_forward_steps():
    trials, waits = start(), []
    for _ in range(6):
        trials, left = refused(trials, patience=100)
        assert not left.any()
        waits.append(int(trials.wait))
        while trials.wait > 0:
            trials, _ = after(trials, False, True, 1.0, patience=100)
    assert waits == [1, 2, 4, 8, 8, 8]


def test_an_extrapolation_that_is_accepted_makes_the_next_refusal_cheap_again():
    trials = start()
    for _ in range(3):
        trials, _ = refused(trials, patience=100)
    assert int(trials.penalty) == 8
    trials, _ = after(trials, True, True, 0.99, patience=100)
    trials, _ = refused(trials, patience=100)
    assert int(trials.wait) == 1


def test_a_forward_step_does_not_forgive_a_refusal():
    trials, _ = refused(start())
    trials = walked(trials)
    assert int(trials.wait) == 0
    trials, _ = refused(trials)
    assert int(trials.wait) == 2


def test_a_row_goes_back_after_so_many_evaluations_without_progress():
    trials, backs = start(), []
    for _ in range(PATIENCE):
        trials, left = after(trials, True, True, 0.95)  # lower, but not by a tenth
        backs.append(bool(left))
    assert backs == [False] * (PATIENCE - 1) + [True]
    assert bool(trials.bold)
    assert int(trials.since) == 0
    assert int(trials.wait) == 1


def test_an_extrapolation_that_lowers_the_residual_by_a_tenth_starts_the_count_anew():
    trials, norm = start(), 1.0
    for _ in range(10 * PATIENCE):
        norm *= 0.89
        trials, left = after(trials, True, True, norm)
        assert int(trials.since) == 0
        assert not left.any()


def test_progress_by_forward_steps_alone_does_not_save_the_extrapolations():
    trials, norm, lefts = start(), 1.0, 0
    for _ in range(PATIENCE):
        norm *= 0.5
        trials, left = after(trials, False, True, norm)
        lefts += int(left)
    assert lefts == 1
    assert float(trials.reference) == norm


def test_a_refused_point_is_never_progress():
    trials, _ = after(start(), True, False, 1e-9)
    assert trials.reference.tolist() == [1.0]
    assert trials.milestone.tolist() == [1.0]
    assert trials.since.tolist() == [1]


def test_a_nan_is_no_progress():
    trials, _ = after(start(), True, False, float("nan"))
    assert trials.reference.tolist() == [1.0]


def leave(trials):
    """Extrapolate without progress until the row goes back; the next trials."""
    for _ in range(PATIENCE):
        trials, left = after(trials, True, True, float(trials.reference))
        if bool(left):
            return trials
    raise AssertionError("the row did not go back")


def rest(trials):
    """Make the forward steps that must be made; how many, and the next trials."""
    count = 0
    while trials.wait > 0:
        trials, left = after(trials, False, True, float(trials.reference))
        assert not left.any()
        count += 1
    return count, trials


def test_bold_trials_come_first_then_blocks_of_forward_steps_that_double():
    trials, blocks, rests = start(), [], []
    for number in range(8):
        trials = leave(trials)
        assert bool(trials.bold) == (number % 2 == 0)
        assert bool(trials.resting) == (number % 2 == 1)
        rests.append(bool(trials.resting))
        count, trials = rest(trials)
        blocks.append(count)
    assert blocks[0::2] == [1] * 4  # before bold ones
    assert blocks[1::2] == [2, 4, 8, 16]


def test_evaluations_of_a_block_are_not_counted_against_the_extrapolations():
    trials = leave(leave(start()))
    assert bool(trials.resting)
    _, trials = rest(trials)
    assert int(trials.since) == 0
    trials, _ = after(trials, True, True, 1.0)
    assert not bool(trials.resting)
    assert int(trials.since) == 1


def test_blocks_are_halved_when_the_residual_has_fallen_to_a_tenth():
    trials = start()
    for _ in range(6):
        _, trials = rest(leave(trials))
    assert int(trials.block) == 16
    trials = walked(trials, 0.11)
    assert int(trials.block) == 16
    trials = walked(trials, 0.09)
    assert int(trials.block) == 8
    assert trials.milestone.tolist() == [0.09]
    trials = walked(trials, 0.01)  # a tenth of the first one, not of the last milestone
    assert int(trials.block) == 8
    for norm in (8e-3, 7e-4, 6e-5, 5e-6):
        trials = walked(trials, norm)
    assert int(trials.block) == 2  # the least


def test_rows_are_counted_each_on_its_own():
    single = [start() for _ in range(3)]
    together = start(3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        extrapolated = torch.rand(3, generator=generator) < 0.7
        accepted = torch.rand(3, generator=generator) < 0.6
        norm = torch.rand(3, generator=generator, dtype=torch.float64)
        together, left = together.after(extrapolated, accepted, norm, PATIENCE)
        for row in range(3):
            one = slice(row, row + 1)
            single[row], alone = single[row].after(
                extrapolated[one], accepted[one], norm[one], PATIENCE
            )
            assert bool(alone) == bool(left[row])
            for name, value in vars(single[row]).items():
                assert torch.equal(value[0], getattr(together, name)[row]), name


def kinked():
    """Monotone, with many kinks: extrapolations get nowhere for long."""
    generator = torch.Generator().manual_seed(4)
    matrix = torch.randn(12, 12, generator=generator, dtype=torch.float64)
    skew = (matrix - matrix.T) / 12

    def function(z):
        turned = (skew * z.unsqueeze(1)).sum(2)
        return 0.02 * z + 0.3 * turned + 0.2 * torch.clamp(5 * (z - 1), -1, 1)

    return as_operator(function), torch.full((2, 12), 4.0, dtype=torch.float64)


def test_patience_changes_when_a_row_leaves_extrapolations():
    operator, z0 = kinked()
    for method in (Anderson, Broyden):
        counts = {
            patience: int(
                solve(operator, z0, method(patience=patience), rtol=0.0, max_iterations=60)
                .statistics["left"]
                .sum()
            )
            for patience in (1, 50)
        }
        assert counts[1] >= counts[50], method
