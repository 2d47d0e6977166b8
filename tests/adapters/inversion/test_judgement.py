"""What an inversion came to: outcomes, statuses and sentences."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixpoint import Status
from fixpoint.adapters.inversion import judgement as words
from fixpoint.adapters.inversion.judgement import (
    FOREIGN_DB,
    LEVEL,
    NOISY_DB,
    InversionOutcome,
    Judgement,
)

SUCCESSES = {InversionOutcome.EXPLAINED, InversionOutcome.NOISE}
misfits = st.floats(1e-6, 2)


def misfit_of(psnr_db):
    return 2 / 10 ** (psnr_db / 20)


# Outcomes and statuses


def test_explained_pictures_are_successes_and_nothing_else_is():
    assert {each for each in InversionOutcome if each.success} == SUCCESSES


@pytest.mark.parametrize("solved", [None, *Status])
@pytest.mark.parametrize("outcome", list(InversionOutcome))
def test_the_status_of_a_judged_row_succeeds_exactly_where_its_outcome_does(outcome, solved):
    status = outcome.status(solved)
    if outcome.success:
        assert status.success
    elif solved is None or not solved.success:
        assert status is None or not status.success


@pytest.mark.parametrize("solved", [each for each in Status if each.success])
def test_a_success_of_the_solver_is_kept(solved):
    for outcome in InversionOutcome:
        assert outcome.status(solved) is solved


@pytest.mark.parametrize("solved", [None, *(each for each in Status if not each.success)])
def test_an_explained_row_that_the_solver_did_not_finish_is_at_the_noise_floor(solved):
    for outcome in SUCCESSES:
        assert outcome.status(solved) is Status.NOISE_FLOOR


def test_where_no_solver_ran_the_outcome_says_why_a_row_ended():
    without = {each: each.status(None) for each in InversionOutcome if not each.success}
    assert without == {
        InversionOutcome.FOREIGN: Status.STALLED,
        InversionOutcome.REFUTED: Status.REFUTED,
        InversionOutcome.UNFINISHED: Status.MAX_ITERATIONS,
        InversionOutcome.FAILED: Status.NONFINITE,
        InversionOutcome.UNJUDGED: None,
    }


def test_the_values_of_outcomes_are_words():
    assert len({each.value for each in InversionOutcome}) == len(InversionOutcome)
    assert all(each.value.islower() and "_" not in each.value for each in InversionOutcome)


# Sentences


def test_a_judgement_prints_as_its_sentence():
    judgement = Judgement(InversionOutcome.FOREIGN, "encoder", "not made by this decoder")
    assert str(judgement) == "not made by this decoder"


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        (
            words.explained(0.29 * LEVEL),
            "explained by the observation: D(latent) is 0.29 of 255 levels from the picture",
        ),
        (
            words.noise(2.5 * LEVEL),
            "explained up to an estimated noise of 2.50 of 255 levels, which the observation does "
            "not account for",
        ),
        (
            words.foreign(10 * LEVEL),
            "not made by this decoder, or changed much since: the nearest that was drawn is 10.00 "
            "of 255 levels (28 dB) from it",
        ),
        (
            words.unfinished(1.5 * LEVEL),
            "not finished: D(latent) is 1.50 of 255 levels from the picture, and was still coming "
            "nearer when the run ended",
        ),
        (
            words.refuted(0.47, 3),
            "condition refuted: 47% of the residual is left after 3 evaluations, so E(D(.)) does "
            "not contract here",
        ),
    ],
)
def test_the_sentences_name_their_numbers_in_levels(sentence, expected):
    assert sentence == expected


@pytest.mark.parametrize("say", [words.explained, words.noise, words.foreign, words.unfinished])
@pytest.mark.parametrize("misfit", [0.0, math.inf, math.nan])
def test_a_sentence_is_had_for_any_misfit(say, misfit):
    assert "of 255 levels" in say(misfit)


# Pictures of another decoder


@given(misfits)
def test_a_decoding_is_foreign_below_the_threshold_of_its_kind(misfit):
    psnr = 20 * math.log10(2 / misfit)
    assert words.is_foreign(misfit) == (psnr < FOREIGN_DB)
    assert words.is_foreign(misfit, textured=False) == (psnr < NOISY_DB)


@given(misfits, misfits, st.booleans())
def test_what_comes_nearer_is_not_more_foreign(one, other, textured):
    near, far = sorted((one, other))
    assert words.is_foreign(near, textured) <= words.is_foreign(far, textured)


@given(misfits)
def test_white_noise_is_forgiven_more_than_texture(misfit):
    assert words.is_foreign(misfit, textured=False) <= words.is_foreign(misfit, textured=True)


def test_the_thresholds_are_between_noise_and_other_pictures():
    assert not words.is_foreign(misfit_of(FOREIGN_DB + 0.1))
    assert words.is_foreign(misfit_of(FOREIGN_DB - 0.1))
    assert not words.is_foreign(misfit_of(NOISY_DB + 0.1), textured=False)
    assert words.is_foreign(misfit_of(NOISY_DB - 0.1), textured=False)


def test_a_decoding_that_is_the_picture_is_not_foreign_and_one_that_is_no_number_is():
    assert not words.is_foreign(0.0)
    for misfit in (math.inf, math.nan):
        assert words.is_foreign(misfit)
        assert words.is_foreign(misfit, textured=False)
