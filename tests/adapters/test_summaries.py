"""What the adapters return prints in a few lines, with shapes in the place of tensors."""

import pytest
import torch

from fixpoint.adapters import Autoencoder, EightBit, Roc, TreeRing, as_pictures, classify, invert
from fixpoint.adapters.diffusion.editing import Edit
from fixpoint.adapters.diffusion.noise_recovery import RecoveredNoise
from fixpoint.adapters.diffusion.sampling import Trajectory
from fixpoint.adapters.inversion.video_result import VideoInversion, VideoWindow
from fixpoint.adapters.provenance.attribution import Attribution, Calibration
from fixpoint.adapters.provenance.confusion import Confusion
from fixpoint.adapters.provenance.tree_ring import Detection
from fixpoint.adapters.verification.results import Verification
from fixpoint.summary import WIDTH

LATENT, PICTURE = torch.ones(9, 4, 8, 8), torch.ones(9, 3, 32, 32)


@pytest.fixture(scope="module")
def inversion():
    pictures = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return invert(Autoencoder.embedded(), pictures, max_iterations=2)


def few_lines(thing) -> bool:
    text = repr(thing)
    lines = text.splitlines()
    return len(lines) <= 6 and max(map(len, lines)) <= 2 * WIDTH and "tensor(" not in text


def test_an_inversion_prints_in_a_few_lines(inversion):
    assert few_lines(inversion)
    shown = repr(inversion)
    assert f"latent=float32{list(inversion.latent.shape)}" in shown
    assert "evaluations=[3, 3]" in shown
    assert "solution=Solution(2 rows: 2 " in shown


def test_an_inversion_of_a_video_prints_in_a_few_lines(inversion):
    window = VideoWindow(0, (0, 2), (0, 2), 0, inversion.solution, torch.ones(2), 1.0)
    latent = torch.ones(1, 4, 18, 8, 8)
    assert few_lines(window)
    assert few_lines(VideoInversion(latent, EightBit(), (window,) * 9, 1.0))


def test_what_comes_from_diffusion_prints_in_a_few_lines(inversion):
    trajectory = Trajectory(LATENT, (LATENT,) * 50, (1.0,) * 49, torch.arange(9))
    recovered = RecoveredNoise(LATENT, LATENT, inversion, trajectory, 1.0)
    mask = torch.ones(9, 32, 32, dtype=torch.bool)
    edited = Edit(PICTURE, PICTURE, mask, LATENT, recovered, torch.arange(9), 1.0)
    for thing in (trajectory, recovered, edited):
        assert few_lines(thing)
    assert "latents=50 x float32[9, 4, 8, 8]" in repr(trajectory)


def test_verdicts_on_pictures_print_in_a_few_lines(inversion):
    scores = torch.linspace(0, 1, 200)
    noise = torch.randn(9, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    keys = [TreeRing.paper((4, 16, 16), key=key) for key in (1, 2)]
    things = [
        Attribution(scores, scores, scores > 0.5, 0.01, inversion),
        Calibration({"real": scores.double()}, "EightBit()", "0" * 64, 50),
        Confusion(("a", "b"), torch.ones(2, 2, dtype=torch.long)),
        Detection(scores, scores, scores, scores > 0.5),
        Roc.of(scores, scores - 0.5),
        as_pictures(torch.zeros(9, 3, 16, 16), value_range=(0, 1)),
        Verification({"crops": 12}, (), (0.0,) * 12, 1e-7, ()),
        classify(noise, keys),
        *keys,
    ]
    for thing in things:
        assert few_lines(thing)
