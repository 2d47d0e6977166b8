"""Tree-ring watermarks: a key in the Fourier transform of the noise that a picture is made of.

    F = fftshift(fft2(z_T)),    F[mask] = K[mask],    z_T <- Re ifft2(ifftshift(F))

Wen, Kirchenbauer, Geiping and Goldstein, "Tree-Ring Watermarks" (2023). The paper, section 5,
distinguishes several keys. On an even grid the centre of the original mask is one row off the zero
frequency. Real noise cannot hold such a key: taking the real part averages it with its mirror
image. The mask here is centred by default; the original one is optional.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor

from fixpoint.adapters.provenance.frequencies import (
    annuli,
    distance_from_centre,
    from_frequencies,
    mirrored,
    to_frequencies,
)
from fixpoint.adapters.provenance.which_key import Classification, check_names, classify
from fixpoint.adapters.provenance.white_noise_test import (
    exact_log_p_value,
    original_log_p_value,
    scaled_frequencies,
)
from fixpoint.checkpoints.whole_file import write_whole
from fixpoint.summary import Summarised

__all__ = ["Classification", "Detection", "TreeRing", "check_names", "classify"]

PAPER_KEYS = {
    1: (96.0, 48.0, 112.0, 64.0, 16.0, 144.0),
    2: (96.0, 16.0, 96.0, 112.0, 48.0, 112.0),
    3: (32.0, 112.0, 128.0, 48.0, 64.0, 96.0),
}
"""Values of the annuli, beginning with the innermost, on latents of 64 x 64."""
PAPER_SIDE = 64
FORMULAS = ("exact", "original")
FORMAT = "fixpoint tree-ring key 1"


@dataclass(frozen=True)
class Detection(Summarised):
    """Whether noise carries a key, per row.

    Attributes:
        distance: mean of |F - K| over the mask.
        p_value: the probability that white noise is at least as close to the key.
        log10_p: its logarithm to base 10, also where `p_value` underflows to 0.
        found: whether `p_value` is at most the false positive rate.
    """

    distance: Float[Tensor, " batch"]
    p_value: Float[Tensor, " batch"]
    log10_p: Float[Tensor, " batch"]
    found: Bool[Tensor, " batch"]


@dataclass(frozen=True, eq=False)
class TreeRing:
    """A key: complex values at some frequencies of one channel of the noise.

    Args:
        name: of the key, in tables.
        pattern: K on the grid of the latent, the zero frequency at (rows // 2, columns // 2).
            White noise of standard deviation 1 has |F| of order sqrt(rows * columns) there.
        mask: the frequencies of the key: at least 2, not all.
        channel: of the noise.

    Raises:
        TypeError, ValueError: an argument cannot be used, or they do not fit each other.
    """

    name: str
    pattern: Complex[Tensor, "rows columns"]
    mask: Bool[Tensor, "rows columns"]
    channel: int = 0

    def __post_init__(self) -> None:
        if not self.pattern.is_complex() or self.pattern.dim() != 2:
            raise TypeError(
                f"pattern must be a complex tensor of shape (rows, columns), got "
                f"{self.pattern.dtype} of {tuple(self.pattern.shape)}"
            )
        if self.mask.dtype != torch.bool or self.mask.shape != self.pattern.shape:
            raise TypeError(
                f"mask must be a boolean tensor of shape {tuple(self.pattern.shape)}, got "
                f"{self.mask.dtype} of {tuple(self.mask.shape)}"
            )
        if not bool(self.pattern[self.mask].isfinite().all()):
            raise ValueError("pattern holds values that are not finite")
        whole = isinstance(self.channel, int) and not isinstance(self.channel, bool)
        if not whole or self.channel < 0:
            raise ValueError(f"channel must be a whole number from 0, got {self.channel!r}")
        tested = int((self.mask | mirrored(self.mask)).sum())
        if not 2 <= tested < self.mask.numel():
            raise ValueError(
                f"mask must hold at least 2 frequencies, counting mirror images, and leave some "
                f"out; it holds {tested} of {self.mask.numel()}"
            )

    @classmethod
    def zeros(
        cls, shape: Sequence[int], *, radius: int = 6, channel: int = 0, mask: str = "centred"
    ) -> TreeRing:
        """Zero inside the disc.

        Args:
            shape: of the noise; its last two numbers are rows and columns.
            radius: of the disc in steps of frequency, below half of either side; 10 in the
                original.
            channel: of the noise; 3 in the original, 0 in the paper.
            mask: "centred" on the zero frequency, so that the real part keeps the key exactly; or
                "official", one row off on an even grid, as in the original and in the paper.
        """
        distance = distance_from_centre(shape, radius, mask)
        nothing = torch.zeros(distance.shape, dtype=torch.complex128)
        return cls("zeros", nothing, distance <= radius, channel)

    @classmethod
    def rand(
        cls,
        shape: Sequence[int],
        *,
        seed: int = 0,
        radius: int = 6,
        channel: int = 0,
        mask: str = "centred",
    ) -> TreeRing:
        """The frequencies of white noise of standard deviation 1; for the rest, see `zeros`."""
        distance = distance_from_centre(shape, radius, mask)
        generator = torch.Generator().manual_seed(seed)
        spectrum = to_frequencies(
            torch.randn(distance.shape, generator=generator, dtype=torch.float64)
        )
        disc = distance <= radius
        return cls(f"rand-{seed}", torch.where(disc, spectrum, 0), disc, channel)

    @classmethod
    def ring(
        cls,
        shape: Sequence[int],
        *,
        seed: int = 0,
        radius: int = 6,
        channel: int = 0,
        mask: str = "centred",
    ) -> TreeRing:
        """A random value for each annulus, as strong as white noise; for the rest, see `zeros`.

        With a centred mask the values are real, since the real part of the noise would keep only
        the real part of complex ones. With the official mask they are complex, as in the original.
        """
        distance = distance_from_centre(shape, radius, mask)
        dtype = torch.float64 if mask == "centred" else torch.complex128
        values = torch.randn(radius, generator=torch.Generator().manual_seed(seed), dtype=dtype)
        values = values * distance.numel() ** 0.5
        return cls(f"ring-{seed}", annuli(distance, values), distance <= radius, channel)

    @classmethod
    def paper(
        cls,
        shape: Sequence[int],
        *,
        key: int,
        radius: int = 6,
        channel: int = 0,
        mask: str = "centred",
    ) -> TreeRing:
        """One of the paper's three keys; for the rest, see `zeros`.

        The paper's values are for latents of 64 x 64, where white noise has |F| of order 64. On
        other grids they are scaled by sqrt(rows * columns) / 64, as |F| of white noise is.

        Args:
            key: 1, 2 or 3.
            radius: at most 6; a smaller one leaves out the outer annuli.
        """
        if key not in PAPER_KEYS:
            raise ValueError(f"the paper's keys are 1, 2 and 3, got {key!r}")
        if radius > len(PAPER_KEYS[key]):
            raise ValueError(f"the paper's keys have a radius of at most 6, got {radius}")
        distance = distance_from_centre(shape, radius, mask)
        values = torch.tensor(PAPER_KEYS[key][:radius], dtype=torch.float64)
        values = values * (distance.numel() ** 0.5 / PAPER_SIDE)
        return cls(f"paper-{key}", annuli(distance, values), distance <= radius, channel)

    def embed(
        self, noise: Float[Tensor, "batch channels rows columns"]
    ) -> Float[Tensor, "batch channels rows columns"]:
        """The noise with the key in its channel, float32; other channels are not changed.

        With the original mask the noise holds only a part of the key; see the head of this file.
        """
        spectrum = self._spectrum(noise)
        mask = self.mask.to(noise.device)
        patched = torch.where(mask, self.pattern.to(spectrum), spectrum)
        embedded = noise.to(torch.float32, copy=True)
        embedded[:, self.channel] = from_frequencies(patched).float()
        return embedded

    def distance(
        self, noise: Float[Tensor, "batch channels rows columns"]
    ) -> Float[Tensor, " batch"]:
        """The mean of |F - K| over the mask, float64 (the paper's appendix A.2.2)."""
        return self._deviation(noise).abs().mean(1)

    def angle(self, noise: Float[Tensor, "batch channels rows columns"]) -> Float[Tensor, " batch"]:
        """One minus the cosine between F and K over the mask, float64, between 0 and 2.

        Raises:
            ValueError: the key is zero and has no direction.
        """
        spectrum = scaled_frequencies(self._signal(noise))[0][:, self.mask.to(noise.device)]
        key = self.pattern.to(spectrum)[self.mask.to(noise.device)]
        if not bool(key.abs().sum() > 0):
            raise ValueError(f"{self.name} is zero and has no direction; classify by distance")
        key = key / key.abs().max()
        product = (spectrum * key.conj()).real.sum(1)
        return 1 - product / (spectrum.norm(dim=1) * key.norm()).clamp_min(1e-300)

    def p_value(
        self, noise: Float[Tensor, "batch channels rows columns"], *, formula: str = "exact"
    ) -> Float[Tensor, " batch"]:
        """The probability that white noise is at least as close to the key; see `log10_p`."""
        return 10 ** self.log10_p(noise, formula=formula)

    def log10_p(
        self, noise: Float[Tensor, "batch channels rows columns"], *, formula: str = "exact"
    ) -> Float[Tensor, " batch"]:
        """The logarithm to base 10 of the probability that white noise is at least as close.

        Args:
            noise: whose channel is tested.
            formula: "exact", or "original" for comparison.

                "exact" is uniform over [0, 1] for white noise of every standard deviation and for
                every mask. A frequency and its mirror image hold the same two real numbers; a
                frequency that is its own mirror image holds one. There are thus as many independent
                numbers as frequencies in the mask and its mirror image. The key is the part of it
                that remains after taking the real part. See `white_noise_test`.

                "original" counts two numbers for every frequency, so that each comes twice, and
                uses their standard deviation as that of the noise: ncx2.cdf(sum((y - k)^2) / s^2,
                2 |mask|, sum(k^2) / s^2). It is not uniform, and it is -inf where it underflows.
        """
        if formula not in FORMULAS:
            raise ValueError(f'formula must be "exact" or "original", got {formula!r}')
        logs = (exact_log_p_value if formula == "exact" else original_log_p_value)(
            self.pattern.cpu().to(torch.complex128), self.mask.cpu(), self._signal(noise).cpu()
        )
        return logs.to(noise.device) / torch.log(torch.tensor(10.0, dtype=torch.float64))

    def detect(
        self,
        noise: Float[Tensor, "batch channels rows columns"],
        false_positive_rate: float = 0.01,
        *,
        formula: str = "exact",
    ) -> Detection:
        """Whether the noise carries this key, per row.

        Args:
            noise: recovered from pictures.
            false_positive_rate: the share of white noise in which the key is found by mistake,
                above 0 and below 1.
            formula: of the p-value, see `log10_p`.
        """
        if not 0 < false_positive_rate < 1:
            raise ValueError(f"a false positive rate lies in (0, 1), got {false_positive_rate}")
        log10_p = self.log10_p(noise, formula=formula)
        p_value = 10**log10_p
        return Detection(self.distance(noise), p_value, log10_p, p_value <= false_positive_rate)

    def save(self, path: str | Path) -> None:
        """Write a safetensors file, whole or not at all."""
        from safetensors.torch import save_file

        pattern = self.pattern.cpu().to(torch.complex128)
        tensors = {
            "real": pattern.real.contiguous(),
            "imaginary": pattern.imag.contiguous(),
            "mask": self.mask.cpu().contiguous(),
        }
        metadata = {"format": FORMAT, "name": self.name, "channel": str(self.channel)}
        write_whole(Path(path), lambda temporary: save_file(tensors, temporary, metadata))

    @classmethod
    def load(cls, path: str | Path) -> TreeRing:
        """Read a file that `save` wrote.

        Raises:
            ValueError: the file is missing or damaged, or holds something else.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise ValueError(f"{path} is not a readable safetensors file: {error}") from error
        if metadata.get("format") != FORMAT or set(tensors) != {"real", "imaginary", "mask"}:
            raise ValueError(f"{path} holds no tree-ring key")
        try:
            pattern = torch.complex(tensors["real"].double(), tensors["imaginary"].double())
            return cls(metadata["name"], pattern, tensors["mask"], int(metadata["channel"]))
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(f"{path} holds a damaged tree-ring key: {error}") from error

    def __repr__(self) -> str:
        rows, columns = self.mask.shape
        frequencies = int(self.mask.sum())
        return f"TreeRing({self.name}, {frequencies} of {rows} x {columns}, channel {self.channel})"

    def check(self, shape: Sequence[int]) -> None:
        """Check that noise of this shape, (batch, channels, rows, columns), can carry the key.

        Raises:
            ValueError: the grid is another one, or there is no such channel.
        """
        if len(shape) != 4:
            raise ValueError(
                f"noise must have shape (batch, channels, rows, columns), got {tuple(shape)}"
            )
        if tuple(shape[-2:]) != tuple(self.mask.shape):
            raise ValueError(
                f"key {self.name} is for latents of {tuple(self.mask.shape)}, the noise has "
                f"{tuple(shape[-2:])}"
            )
        if self.channel >= shape[1]:
            raise ValueError(
                f"key {self.name} is for channel {self.channel}, the noise has {shape[1]} channels"
            )

    def _signal(self, noise: Tensor) -> Tensor:
        """The channel of the key, float64: (batch, rows, columns)."""
        if not isinstance(noise, Tensor) or not noise.is_floating_point():
            kind = noise.dtype if isinstance(noise, Tensor) else type(noise).__name__
            raise TypeError(f"noise must be a floating-point tensor, got {kind}")
        self.check(noise.shape)
        signal = noise[:, self.channel].detach().double()
        finite = signal.isfinite().flatten(1).all(1)
        if not bool(finite.all()):
            rows = (~finite).nonzero().flatten().tolist()
            raise ValueError(f"the noise is not finite in rows {rows}")
        return signal

    def _spectrum(self, noise: Tensor) -> Tensor:
        return to_frequencies(self._signal(noise))

    def _deviation(self, noise: Tensor) -> Tensor:
        """F - K at the frequencies of the mask: (batch, frequencies)."""
        spectrum = self._spectrum(noise)
        chosen = self.mask.flatten().nonzero().flatten().to(noise.device)
        return (spectrum - self.pattern.to(spectrum)).flatten(1).index_select(1, chosen)
