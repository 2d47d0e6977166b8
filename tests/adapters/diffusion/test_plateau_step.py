import pytest
import torch

from fixpoint.adapters.diffusion.backward_euler import OneStepFlow
from fixpoint.adapters.diffusion.plateau_step import PlateauStep
from fixpoint.testing import check_iterator


def test_the_plateau_step_is_an_iterator_like_any_other():
    check_iterator(PlateauStep(), cocoercivity=1.0)


def test_the_plateau_step_warms_up_linearly():
    sizes = []
    state = None
    operator = OneStepFlow(lambda z, timestep: torch.zeros_like(z), torch.zeros(1, 1).double())
    iterator = PlateauStep(step_size=0.5, warmup=4)
    state = iterator.init(operator, torch.ones(1, 1).double())
    for _ in range(6):
        following = iterator.step(operator, state)
        sizes.append(float((state.z - following.z) / state.residual))
        state = following
    assert sizes == pytest.approx([0.125, 0.25, 0.375, 0.5, 0.5, 0.5])


def test_the_plateau_step_is_halved_for_the_row_that_stands_still():
    def stuck(z, timestep):  # T = -1 for the first row, wherever it stands
        return torch.where(torch.tensor([[True], [False]]), -1 - z, torch.zeros_like(z))

    operator = OneStepFlow(stuck, torch.zeros(2, 1).double())
    iterator = PlateauStep(step_size=0.5, warmup=1, patience=3)
    state = iterator.init(operator, torch.ones(2, 1).double())
    for _ in range(1 + 1 + 4):  # warm-up, a first value, patience and one
        state = iterator.step(operator, state)
    assert state.step_size.tolist() == [0.25, 0.5]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"step_size": 0.0}, "step_size must be above 0"),
        ({"warmup": 0}, "warmup"),
        ({"factor": 1.0}, "factor"),
        ({"patience": -1}, "patience"),
        ({"threshold": 1.0}, "threshold"),
    ],
)
def test_unusable_options_of_the_plateau_step_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        PlateauStep(**options)
