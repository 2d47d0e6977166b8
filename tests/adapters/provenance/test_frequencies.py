import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tree_ring_cases import laws, white

from fixpoint.adapters.provenance.frequencies import (
    from_frequencies,
    mirrored,
    to_frequencies,
)


@laws
@given(st.integers(2, 9), st.integers(2, 9), st.integers(0, 99))
def test_the_mirror_image_of_real_noise_is_its_conjugate(rows, columns, seed):
    signal = white(1, (rows, columns), seed)[0, 0].double()
    spectrum = to_frequencies(signal)
    torch.testing.assert_close(mirrored(spectrum), spectrum.conj())
    torch.testing.assert_close(from_frequencies(spectrum), signal)
    assert float(spectrum[rows // 2, columns // 2].real) == pytest.approx(float(signal.sum()))
