"""A run may be interrupted: rows dropped, reordered, saved and loaded, in any order."""

import io

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from problems import ITERATORS, problem

from fixpoint import ForwardStep, State
from fixpoint.testing.trees import first_difference

ROWS = 5


class Interrupted(RuleBasedStateMachine):
    """Invariant: every remaining row is, bit for bit, what it is in a run of that row alone."""

    iterator = None

    def __init__(self):
        super().__init__()
        self.whole, _, self.start = problem(rows=ROWS, size=4)
        self.start = self.start + torch.arange(ROWS).reshape(ROWS, 1)
        self.rows = torch.arange(ROWS)
        self.operator = self.whole
        self.state = self.iterator.init(self.operator, self.start)
        self.steps = 0
        self.alone = {}

    @rule()
    def step(self):
        self.state = self.iterator.step(self.operator, self.state)
        self.steps += 1

    @rule(data=st.data())
    def reorder(self, data):
        self.select(data.draw(st.permutations(range(len(self.rows)))))

    @precondition(lambda self: len(self.rows) > 1)
    @rule(data=st.data())
    def drop(self, data):
        kept = data.draw(st.sets(st.sampled_from(range(len(self.rows))), min_size=1))
        self.select(sorted(kept))

    @rule()
    def save_and_load(self):
        file = io.BytesIO()
        torch.save(self.state, file)
        file.seek(0)
        self.state = torch.load(file, weights_only=False)

    def select(self, index):
        index = torch.tensor(index)
        self.rows = self.rows[index]
        self.operator, self.state = self.operator.select(index), self.state.select(index)

    @invariant()
    def every_row_is_as_in_an_uninterrupted_run_of_it_alone(self):
        for place, row in enumerate(self.rows.tolist()):
            now = self.state.select(torch.tensor([place]))
            assert first_difference(now, self.uninterrupted(row)) is None

    def uninterrupted(self, row):
        index = torch.tensor([row])
        operator = self.whole.select(index)
        if row not in self.alone:
            self.alone[row] = [self.iterator.init(operator, self.start[index])]
        run = self.alone[row]
        while len(run) <= self.steps:
            run.append(self.iterator.step(operator, run[-1]))
        return run[self.steps]


def run(iterator):
    machine = type("Machine", (Interrupted,), {"iterator": iterator})
    case = machine.TestCase
    case.settings = settings(
        max_examples=12, stateful_step_count=20, deadline=None, derandomize=True, database=None
    )
    case().runTest()


@pytest.mark.slow
@pytest.mark.parametrize("name", ITERATORS)
def test_an_interrupted_run_is_an_uninterrupted_one(name):
    run(ITERATORS[name])


class Together(ForwardStep):
    """Steps in the mean direction of the batch, a little."""

    def step(self, operator, state):
        residual = state.residual + 1e-12 * state.residual.mean(0)
        z = state.z - self.step_size * residual
        return State(z=z, point=z, residual=operator(z))


@pytest.mark.slow
def test_rows_that_meet_are_seen():
    with pytest.raises(AssertionError):
        run(Together(step_size=0.8))
