import pytest
import torch

from fixpoint import ForwardStep, Status, as_operator, solve
from fixpoint.adapters import Identity
from fixpoint.adapters.inversion.video_result import VideoInversion, VideoWindow


@pytest.fixture
def solution():
    """Two rows, of which the second needs more evaluations."""
    return solve(as_operator(lambda z: z), torch.tensor([[0.0], [1.0]]), ForwardStep(step_size=0.5))


def window(video, latents, solution):
    frames = latents[1] - latents[0]
    return VideoWindow(video, latents, latents, 0, solution, torch.full((frames,), 30.0), 1.0)


def test_every_latent_frame_has_the_account_of_its_row(solution):
    windows = tuple(
        window(video, latents, solution) for video in range(2) for latents in ((0, 2), (2, 6))
    )
    found = VideoInversion(torch.zeros(2, 1, 6, 1, 1), Identity(), windows, 1.0)
    first, second = solution.evaluations.tolist()
    assert first < second
    assert found.evaluations.tolist() == 2 * [[first, second, first, first, second, second]]
    assert found.residual_norm.shape == found.psnr_db.shape == (2, 6)
    assert found.status == 2 * ((Status.CONVERGED,) * 6,)


def test_the_error_by_frame_shows_the_frame_that_is_wrong():
    truth = torch.ones(1, 2, 3, 4, 4)
    latent = truth.clone()
    latent[:, :, 1] += 0.1
    found = VideoInversion(latent, Identity(), (), 1.0)
    errors = found.nmse_db_by_frame(truth)
    assert errors.argmax().item() == 1
    assert float(errors[0, 1]) == pytest.approx(-20, abs=1e-3)
    assert float(found.nmse_db(truth)) == pytest.approx(-24.77, abs=1e-2)
