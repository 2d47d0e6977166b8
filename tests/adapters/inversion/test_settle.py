"""The methods that settle rows which the iteration could not finish."""

import math
from dataclasses import replace

import pytest
import torch
from refuted_pairs import generated, refuted_pair

from fixpoint.adapters import EightBit, Identity, Masked, PerRow, RoundingCells, nmse_db
from fixpoint.adapters.autoencoders.calibration import (
    calibration_of,
    example_photographs,
    photographs_for,
)
from fixpoint.adapters.inversion.judgement import LEVEL, InversionOutcome
from fixpoint.adapters.inversion.settle import (
    Task,
    by_calibrated_steps,
    by_gradient,
    by_one_step,
)
from fixpoint.adapters.pictures.observations import EIGHT_BIT_NOISE

WHY = "condition refuted: the reason"


@pytest.fixture(scope="module")
def autoencoder():
    return refuted_pair()


@pytest.fixture(scope="module")
def truth(autoencoder):
    return generated(autoencoder)[0]


def task_of(autoencoder, image, observation=None, why=WHY):
    batch = len(image)
    with torch.no_grad():
        start = autoencoder.encode(image)
    return Task(
        pair=(autoencoder.encode, autoencoder.decode),
        image=image,
        start=start,
        observation=RoundingCells() if observation is None else observation,
        floor=torch.full((batch,), EIGHT_BIT_NOISE).double(),
        why=[why] * batch,
        calibrated=lambda: calibration_of(autoencoder, image),
        photographs=lambda: photographs_for(autoencoder, image),
    )


@pytest.fixture(scope="module")
def task(autoencoder, truth):
    """Pictures of the pair in 8 bits."""
    with torch.no_grad():
        return task_of(autoencoder, EightBit()(autoencoder.decode(truth)))


@pytest.fixture(scope="module")
def noisy(autoencoder, truth):
    """The same with white noise that no observation announces."""
    with torch.no_grad():
        decoded = autoencoder.decode(truth)
    draws = torch.Generator().manual_seed(0)
    noise = 0.05 * torch.randn(decoded.shape, generator=draws)
    return task_of(autoencoder, EightBit()(decoded + noise))


@pytest.fixture(scope="module")
def foreign(autoencoder):
    """Photographs, which the pair draws in coarse cells alone."""
    return task_of(autoencoder, EightBit()(example_photographs(32, count=8)[4:7]))


def errors(latent, truth):
    return nmse_db(latent, truth)


# Tasks


def test_the_misfit_is_over_the_values_that_are_not_clipped(task):
    half_white = task.image.clone()
    half_white[..., :16] = 1
    shown = replace(task, image=half_white)
    decoded = half_white + 0.03
    decoded[..., :16] = -1
    assert shown.misfit(decoded).tolist() == pytest.approx([0.03] * 3, rel=1e-4)
    assert task.misfit(task.image).tolist() == [0] * 3


def test_a_fully_clipped_row_has_no_misfit(task):
    assert replace(task, image=torch.ones_like(task.image)).misfit(task.image).eq(0).all()


def test_selected_rows_are_the_rows(task):
    rows = torch.tensor([2, 0])
    observations = (RoundingCells(), EightBit(), Identity())
    whole = replace(task, observation=PerRow(observations), why=["a", "b", "c"])
    part = whole.select(rows)
    assert part.image.equal(task.image[rows])
    assert part.start.equal(task.start[rows])
    assert part.why == ["c", "a"]
    assert part.observation.observations == (Identity(), RoundingCells())
    assert part.floor.equal(task.floor[rows])


def test_a_latent_of_many_values_leaves_a_small_share_of_the_noise(task):
    # 8 channels of 8 x 8 cells, of 3 x 32 x 32 values
    assert task.freedom == pytest.approx(math.sqrt(1 - 8 / 48))
    assert replace(task, start=torch.zeros(3, 48, 8, 8)).freedom == pytest.approx(math.sqrt(0.1))


# By gradients


def test_gradients_explain_pictures_that_the_decoder_made(task, truth):
    rows = by_gradient(task)
    assert float(errors(rows.latent, truth).max()) < -35
    assert float(errors(task.start, truth).min()) > -10
    for each in rows.judgements:
        assert each.outcome is InversionOutcome.EXPLAINED
        assert each.method == "whitened L-BFGS"
        assert each.sentence.startswith("explained by the observation")
        assert each.sentence.endswith(f"({WHY})")
    assert rows.evaluations.min() >= 25


def test_without_a_reason_the_sentence_has_no_brackets(task):
    one = replace(task, why=[""] * 3).select(torch.tensor([0]))
    assert "(" not in by_gradient(one).judgements[0].sentence.replace("D(latent)", "")


def test_noise_is_not_fitted_but_weighed_against_the_encoders_latent(noisy, truth):
    rows = by_gradient(noisy)
    assert (errors(rows.latent, truth) < errors(noisy.start, truth) - 3).all()
    for each in rows.judgements:
        assert each.outcome is InversionOutcome.NOISE
        assert each.method == "whitened L-BFGS near the encoder's latent"
        level = float(each.sentence.partition("noise of ")[2].split()[0]) * LEVEL
        assert level == pytest.approx(0.05, rel=0.15)


def test_photographs_are_not_explained(foreign):
    for each in by_gradient(foreign).judgements:
        assert each.outcome is not InversionOutcome.EXPLAINED


def test_rows_that_are_explained_do_not_change_where_noisy_ones_are_beside_them(task, noisy):
    both = task_of(task_pair(task), torch.cat((task.image[:1], noisy.image[:1])))
    together, alone = by_gradient(both), by_gradient(task.select(torch.tensor([0])))
    torch.testing.assert_close(together.latent[:1], alone.latent, rtol=1e-2, atol=1e-2)
    assert [each.outcome for each in together.judgements] == [
        InversionOutcome.EXPLAINED,
        InversionOutcome.NOISE,
    ]


def task_pair(task):
    return task.pair[0].__self__


def test_a_row_that_decodes_to_no_number_has_failed(task):
    decode = task.pair[1]
    spoiled = replace(task, pair=(task.pair[0], lambda z: decode(z) * marked(z)))
    start = spoiled.start.clone()
    start[1] = 50
    rows = by_gradient(replace(spoiled, start=start))
    assert [each.outcome for each in rows.judgements] == [
        InversionOutcome.EXPLAINED,
        InversionOutcome.FAILED,
        InversionOutcome.EXPLAINED,
    ]
    assert rows.judgements[1].sentence == f"failed: D returned NaN or infinity ({WHY})"


def marked(z):
    """1, and NaN for latents that do not occur."""
    high = z.flatten(1).mean(1) > 40
    return torch.where(high, math.nan, 1.0)[:, None, None, None]


# Without gradients


def test_calibrated_steps_improve_the_encoders_latent_of_refuted_rows(task, truth):
    rows = by_calibrated_steps(task)
    assert (errors(rows.latent, truth) < errors(task.start, truth) - 3).all()
    for each in rows.judgements:
        assert each.outcome is InversionOutcome.REFUTED
        assert each.method == "calibrated steps"
        assert each.sentence.startswith(WHY)
        assert "improved by about" in each.sentence
    calibrated = task.calibrated()
    assert rows.evaluations.tolist() == [2 * len(calibrated.maps) + 2] * 3


def test_calibrated_steps_are_not_taken_where_they_were_measured_to_be_of_no_use(task):
    useless = replace(task.calibrated(), mapped_db=task.calibrated().encoder_db)
    rows = by_calibrated_steps(replace(task, calibrated=lambda: useless))
    assert rows.latent.equal(task.start)
    for each in rows.judgements:
        assert each.method == "encoder"
        assert "the encoder's latent is kept" in each.sentence


def test_pictures_that_the_decoder_did_not_draw_keep_the_encoders_latent(task):
    draws = torch.Generator().manual_seed(0)
    noise = EightBit()(torch.rand(task.image.shape, generator=draws) * 2 - 1)
    strange = task_of(task_pair(task), noise)
    rows = by_calibrated_steps(strange)
    assert rows.latent.equal(strange.start)
    assert {each.method for each in rows.judgements} == {"encoder"}


def test_no_gradient_is_asked_for_by_calibrated_steps(task, truth):
    plain = refuted_pair(gradients=False)
    rows = by_calibrated_steps(task_of(plain, task.image))
    torch.testing.assert_close(rows.latent, by_calibrated_steps(task).latent)


def test_rows_take_calibrated_steps_as_they_would_alone(task):
    together = by_calibrated_steps(task)
    for row in range(3):
        alone = by_calibrated_steps(task.select(torch.tensor([row])))
        torch.testing.assert_close(alone.latent, together.latent[row : row + 1])


# One step


def test_one_calibrated_step_is_better_than_the_encoder_under_noise(noisy, truth):
    rows = by_one_step(noisy, truth)
    assert (errors(rows.latent, truth) < errors(noisy.start, truth)).all()
    assert rows.evaluations.tolist() == [1, 1, 1]
    for each in rows.judgements:
        assert each.outcome is InversionOutcome.NOISE
        assert each.method == "one calibrated step"


def test_simulated_pictures_need_not_be_square(noisy, truth):
    oblong = replace(noisy, photographs=lambda: example_photographs(32, 64, count=8))
    rows = by_one_step(oblong, truth)
    assert (errors(rows.latent, truth) < errors(noisy.start, truth)).all()


def test_what_looks_like_a_picture_is_taken_for_another_and_white_noise_for_noise(task):
    left = task.start  # far from x, and what is left of x is smooth
    assert {each.outcome for each in by_one_step(task, left).judgements} == {
        InversionOutcome.FOREIGN
    }


def test_methods_are_deterministic_whatever_the_generator(noisy):
    one = noisy.select(torch.tensor([1]))
    latents = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        latents.append((by_gradient(one).latent, by_one_step(one, one.start).latent))
    for first, second in zip(*latents, strict=True):
        assert first.equal(second)


def test_masked_pictures_are_not_taken_for_known(task):
    """A guard: `choice` keeps them from here, and their misfit would count what is hidden."""
    known = torch.ones(32, 32, dtype=torch.bool)
    known[:, :16] = False
    damaged = task.image.clone()
    damaged[..., :16] = 0.5
    masked = replace(task, image=damaged, observation=Masked(known))
    assert masked.misfit(task.image).max() < 1e-6
