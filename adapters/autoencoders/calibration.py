"""What a pair tells about itself: how its decoder weighs latent channels, how its encoder errs.

Both come from pictures that the pair makes: z* = E(photograph) stands for a latent that occurs, and
x = Q(D(z*)) is a picture whose latent is known. Neither needs a gradient.

- **Curvature.** C is the mean over latent cells of J^T J, with J the Jacobian of D, restricted to
  the channels of one cell: (channels, channels). Channel c is probed by one central difference of D
  along a field of random signs, whose cross terms between cells average out (Hutchinson, Commun.
  Stat. Simul. Comput. 1989).
- **Step maps.** M_k, k = 1, 2, ..., is the matrix on channels that takes T z_k to z_k - z* with the
  least mean square error over the pictures, where z_{k+1} = z_k - M_k T z_k: the linear
  minimum-mean-square-error estimate, one a step. Where T is cocoercive M is near the identity;
  where it is not, M leaves alone what T cannot tell.
- **Spread.** The covariance over cells of E(x) - z*, by channel.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint.adapters.autoencoders.digest import WeighedPair, digest_of_model
from fixpoint.adapters.autoencoders.sizes import Sizes
from fixpoint.adapters.pictures.example import PHOTOGRAPH
from fixpoint.adapters.pictures.observations import from_levels, to_levels
from fixpoint.adapters.pictures.pictures import as_pictures
from fixpoint.adapters.reports.latent_files import check_file
from fixpoint.checkpoints.whole_file import write_whole

STEPS = 3
"""Step maps that are fitted: later ones bring less than their noise."""

SIDE = 64
"""Of the photographs: a few latent cells are enough."""

LARGEST_SIDE, LEAST_PICTURES = 1024, 4

FORMAT = 1
"""Of the files that are kept: what is measured in another way gets another number."""

PROBE_SIZE = 0.02
"""Length of the central differences of D, of latents with standard deviation about 1."""

PICTURES, PICTURES_FOR_CURVATURE = 64, 6

RIDGE = 1e-2
"""Of the least squares for the maps, relative to the mean square of T z_k."""

LEAST_RIDGE = 1e-30
"""Where T z_k is zero, as of an encoder that is right already, the map is zero."""


class Calibrated(WeighedPair, Protocol):
    """What is asked of an autoencoder here; `Autoencoder` has it."""

    sizes: Sizes

    @property
    def device(self) -> torch.device: ...
    def encode(self, x: Tensor) -> Tensor: ...
    def decode(self, latents: Tensor) -> Tensor: ...


Pair = tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]


@dataclass(frozen=True)
class PairCalibration:
    """What was measured of a pair; see the header of this module.

    Attributes:
        curvature: C.
        maps: M_1, M_2, ...
        spread: covariance of E(x) - z*.
        encoder_db, mapped_db: mean NMSE over the pictures, in dB: of E(x), and after the last map,
            on pictures that the maps were not fitted to.
    """

    curvature: Float[Tensor, "channels channels"]
    maps: Float[Tensor, "steps channels channels"]
    spread: Float[Tensor, "channels channels"]
    encoder_db: float
    mapped_db: float

    def to(self, device: torch.device) -> PairCalibration:
        """The same on a device; this one where it is there already."""
        if self.curvature.device == device:
            return self
        return replace(self, **{name: getattr(self, name).to(device) for name in _TENSORS})

    def save(self, path: str | Path) -> None:
        """Write a safetensors file, whole or not at all."""
        from safetensors.torch import save_file

        path = Path(path)
        check_file(path)
        tensors = {name: getattr(self, name).contiguous().cpu() for name in _TENSORS}
        numbers = {name: repr(getattr(self, name)) for name in _NUMBERS}
        write_whole(path, lambda temporary: save_file(tensors, temporary, numbers))

    @classmethod
    def load(cls, path: str | Path) -> PairCalibration:
        """Read a file of `save`.

        Raises:
            ValueError: it is no such file.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(path), "pt") as file:
                numbers = {name: float((file.metadata() or {})[name]) for name in _NUMBERS}
                tensors = {name: file.get_tensor(name) for name in _TENSORS}
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise ValueError(f"{path} holds no calibration of a pair: {error}") from error
        matrix = tensors["curvature"].shape[-1:] * 2
        expected = {"curvature": matrix, "maps": tensors["maps"].shape[:1] + matrix}
        for name, tensor in tensors.items():
            if tensor.shape != expected.get(name, matrix):
                raise ValueError(
                    f"{path} holds no calibration of a pair: {name} of shape {tuple(tensor.shape)}"
                )
        return cls(
            tensors["curvature"],
            tensors["maps"],
            tensors["spread"],
            numbers["encoder_db"],
            numbers["mapped_db"],
        )

    def __repr__(self) -> str:
        return (
            f"PairCalibration({len(self.curvature)} channels, encoder {self.encoder_db:.1f} dB, "
            f"{len(self.maps)} mapped steps {self.mapped_db:.1f} dB)"
        )


_TENSORS = ("curvature", "maps", "spread")
_NUMBERS = ("encoder_db", "mapped_db")


@torch.no_grad()
def calibrate(
    pair: Pair,
    photographs: Float[Tensor, "batch 3 height width"],
    noise: Float[Tensor, "batch 3 height width"] | None = None,
) -> PairCalibration:
    """Measure a pair on pictures that it makes of photographs.

    Args:
        pair: E and D.
        photographs: on [-1, 1], at least two, of sides that the pair takes.
        noise: added to D(z*) before it is rounded to 8 bits.

    Raises:
        ValueError: E or D returned NaN or infinity.
    """
    truth, start = known_pairs(pair, photographs, noise)
    half = (len(truth) + 1) // 2
    # Two fits on half of the pictures, each judged on the other half, say what the maps are worth.
    judged = torch.cat(
        [
            _mapped(pair, start[there], _fit(pair, start[here], truth[here])) - truth[there]
            for here, there in ((slice(half), slice(half, None)), (slice(half, None), slice(half)))
        ]
    )
    order = torch.cat((truth[half:], truth[:half]))
    return PairCalibration(
        curvature=curvature(pair[1], truth[:PICTURES_FOR_CURVATURE]),
        maps=torch.stack(_fit(pair, start, truth)),
        spread=covariance(start - truth),
        encoder_db=_nmse_db(start - truth, truth),
        mapped_db=_nmse_db(judged, order),
    )


@torch.no_grad()
def known_pairs(
    pair: Pair,
    photographs: Float[Tensor, "batch 3 height width"],
    noise: Float[Tensor, "batch 3 height width"] | None = None,
) -> tuple[Tensor, Tensor]:
    """z* = E(photograph), and E(x) of the picture x that D makes of it, with noise and 8 bits.

    Raises:
        ValueError: E or D returned NaN or infinity.
    """
    encode, decode = pair
    truth = encode(photographs)
    decoded = decode(truth)
    start = encode(_rounded(decoded if noise is None else decoded + noise))
    if not bool(truth.isfinite().all() and start.isfinite().all()):
        raise ValueError("the pair cannot be calibrated: it returned NaN or infinity")
    return truth, start


@torch.no_grad()
def first_map(pair: Pair, truth: Tensor, start: Tensor) -> Float[Tensor, "channels channels"]:
    """M_1 of latents that are known."""
    return least_squares(_residual(pair, start, start), start - truth)


@torch.no_grad()
def curvature(
    decode: Callable[[Tensor], Tensor], z: Float[Tensor, "batch channels *cells"]
) -> Float[Tensor, "channels channels"]:
    """C, the mean over latent cells of J^T J restricted to the channels of one cell, at z."""
    signs = torch.Generator().manual_seed(0)
    channels = z.shape[1]
    field = torch.randint(0, 2, z[:, :1].shape, generator=signs).to(z) * 2 - 1
    product = z.new_zeros(channels, channels, dtype=torch.float64)
    for row, sign in zip(z.split(1), field.split(1), strict=True):
        columns = []
        for channel in range(channels):
            probe = torch.zeros_like(row)
            probe[:, channel : channel + 1] = PROBE_SIZE * sign
            columns.append((decode(row + probe) - decode(row - probe)).flatten())
        jacobian = torch.stack(columns).double() / (2 * PROBE_SIZE)
        product += jacobian @ jacobian.T
    return (product / field.numel()).to(z.dtype)


def apply_map(
    matrix: Float[Tensor, "channels channels"], z: Float[Tensor, "batch channels *cells"]
) -> Float[Tensor, "batch channels *cells"]:
    """The matrix on the channels of every cell."""
    return torch.einsum("cd,bd...->bc...", matrix.to(z), z)


def _fit(pair: Pair, start: Tensor, truth: Tensor) -> list[Tensor]:
    """M_1, M_2, ... by least squares over all cells of all pictures."""
    maps: list[Tensor] = []
    z = start
    for _ in range(STEPS):
        residual = _residual(pair, z, start)
        maps.append(least_squares(residual, z - truth))
        z = z - apply_map(maps[-1], residual)
    return maps


def _mapped(pair: Pair, start: Tensor, maps: list[Tensor]) -> Tensor:
    z = start
    for matrix in maps:
        z = z - apply_map(matrix, _residual(pair, z, start))
    return z


def _residual(pair: Pair, z: Tensor, start: Tensor) -> Tensor:
    """T z of pictures in 8 bits."""
    encode, decode = pair
    return encode(_rounded(decode(z))) - start


def least_squares(residual: Tensor, error: Tensor) -> Tensor:
    """The matrix M of least sum over cells of |M residual - error|^2, with a ridge."""
    a, b = _by_cell(residual), _by_cell(error)
    normal = a @ a.T
    ridge = (RIDGE * normal.diagonal().mean()).clamp(min=LEAST_RIDGE)
    eye = torch.eye(len(a), dtype=a.dtype, device=a.device)
    return torch.linalg.solve(normal + ridge * eye, a @ b.T).T.to(residual.dtype)


def covariance(error: Tensor) -> Tensor:
    cells = _by_cell(error)
    return (cells @ cells.T / cells.shape[1]).to(error.dtype)


def _by_cell(z: Tensor) -> Float[Tensor, "channels cells"]:
    return z.transpose(0, 1).flatten(1).double()


def _nmse_db(error: Tensor, truth: Tensor) -> float:
    ratios = error.double().square().flatten(1).sum(1) / truth.double().square().flatten(1).sum(1)
    return float(10 * ratios.log10().mean())


def _rounded(pictures: Tensor) -> Tensor:
    return from_levels(to_levels(pictures))


def example_photographs(
    height: int, width: int | None = None, *, count: int = PICTURES
) -> Float[Tensor, "count 3 height width"]:
    """Crops of the photograph that comes with the package, every second one mirrored."""
    width = height if width is None else width
    whole = as_pictures(PHOTOGRAPH).values[0]
    for axis, size in ((-2, height), (-1, width)):
        while whole.shape[axis] < size:
            whole = torch.cat((whole, whole.flip(axis)), axis)
    places = torch.Generator().manual_seed(0)
    crops = []
    for index in range(count):
        top = int(torch.randint(0, whole.shape[-2] - height + 1, (), generator=places))
        left = int(torch.randint(0, whole.shape[-1] - width + 1, (), generator=places))
        crop = whole[:, top : top + height, left : left + width]
        crops.append(crop.flip(-1) if index % 2 else crop)
    return torch.stack(crops)


def photographs_for(
    autoencoder: Calibrated, like: Float[Tensor, "batch 3 height width"] | None = None
) -> Float[Tensor, "count 3 height width"]:
    """Photographs of the smallest square size from `SIDE` on that the autoencoder takes, or of the
    size of `like`; fewer of them where they are large.

    Raises:
        ValueError: there is no such size up to `LARGEST_SIDE`, and no `like`.
    """
    side = smallest_side(autoencoder)
    if side is not None and (like is None or side <= max(like.shape[-2:])):
        height = width = side
    elif like is not None:
        height, width = like.shape[-2:]
    else:
        raise ValueError(
            f"{autoencoder!r} takes no square pictures of up to {LARGEST_SIDE} pixels a side: give "
            "photographs of a size that it takes"
        )
    count = max(LEAST_PICTURES, PICTURES * SIDE**2 // (height * width))
    return example_photographs(height, width, count=min(PICTURES, count)).to(autoencoder.device)


def smallest_side(autoencoder: Calibrated) -> int | None:
    """Of square pictures that the autoencoder takes, from `SIDE` to `LARGEST_SIDE`, where any."""
    rules = autoencoder.sizes.rules[-2:]
    sides = (side for side in range(SIDE, LARGEST_SIDE + 1) if all(r.holds(side) for r in rules))
    return next(sides, None)


_CALIBRATIONS: WeakKeyDictionary[Any, PairCalibration] = WeakKeyDictionary()


def calibration_of(
    autoencoder: Calibrated,
    like: Float[Tensor, "batch 3 height width"] | None = None,
    photographs: Float[Tensor, "count 3 height width"] | None = None,
) -> PairCalibration:
    """What was measured of this autoencoder.

    Measured now where nothing was, or where `photographs` are given, and kept: as long as the
    autoencoder lives and, where its weights are known, in a file by their digest
    (`kept_file`), which the next process finds.
    """
    found = _CALIBRATIONS.get(autoencoder) if photographs is None else None
    if found is not None:
        return found.to(autoencoder.device)
    path = kept_file(autoencoder) if photographs is None else None
    if path is not None and path.is_file():
        with suppress(ValueError):  # a damaged file is measured anew
            found = PairCalibration.load(path)
    if found is None:
        pair = autoencoder.encode, autoencoder.decode
        given = photographs_for(autoencoder, like) if photographs is None else photographs
        found = calibrate(pair, given)
        if path is not None:
            with suppress(OSError, ValueError):  # a folder that cannot be written
                path.parent.mkdir(parents=True, exist_ok=True)
                found.save(path)
    found = found.to(autoencoder.device)
    _CALIBRATIONS[autoencoder] = found
    return found


def kept_file(autoencoder: Calibrated) -> Path | None:
    """Where the calibration of these weights is kept: below `$FIXPOINT_CACHE`, else below the
    user's cache folder. None where the weights are not known."""
    if autoencoder.module is None or not autoencoder.module.state_dict():
        return None
    digest = digest_of_model(autoencoder)
    return cache_folder() / "calibrations" / f"{FORMAT}-{digest}.safetensors"


def cache_folder() -> Path:
    """Where what was measured or learned of pairs is kept."""
    if "FIXPOINT_CACHE" in os.environ:
        return Path(os.environ["FIXPOINT_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "fixpoint"
