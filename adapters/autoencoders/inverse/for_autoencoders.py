"""From a user's pictures to a learned inverse in a file: the methods of an `Autoencoder`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fixpoint.adapters.autoencoders.calibration import (
    Calibrated,
    cache_folder,
    calibration_of,
    smallest_side,
)
from fixpoint.adapters.autoencoders.digest import digest_of_model
from fixpoint.adapters.autoencoders.inverse.crops import Crops, split, training_pictures
from fixpoint.adapters.autoencoders.inverse.learned_inverse import LearnedInverse, use_inverse
from fixpoint.adapters.autoencoders.inverse.network import WIDTH
from fixpoint.adapters.autoencoders.inverse.training import HELD_OUT, Recipe, Training
from fixpoint.adapters.reports.latent_files import check_file


class WithLearnedInverse(Calibrated):
    """The methods of an autoencoder that train a network to correct its latents, and use it."""

    medium: str
    sample_channels: int

    def train_inverse(
        self,
        pictures: Any,
        *,
        steps: int = 2000,
        out: str | Path | None = None,
        held_out: Any = None,
        side: int | None = None,
        batch: int = 32,
        width: int = WIDTH,
        seed: int = 0,
        save_every: int = 250,
        network_dtype: str = "float32",
        value_range: tuple[float, float] | None = None,
        progress: bool = True,
    ) -> LearnedInverse:
        """Train a network that corrects latents of this pair, without a gradient through E or D.

        It learns from what the pair makes itself: z* = E(crop) of augmented crops of the pictures,
        and x = Q(D(z*)) in 8 bits. `use_inverse` lets `invert` use it.

        A checkpoint is written every `save_every` steps. After an interruption the same call goes
        on from there, and ends with the same bits.

        Args:
            pictures: a folder, or a sequence of what `as_pictures` takes, of pictures of any sizes.
            steps: of the optimizer; with more of them a training that is done goes on.
            out: file of the weights, `.safetensors`, with the card beside it as `.json` and the
                checkpoint as `.checkpoint`; by default below the user's cache.
            held_out: other pictures, that the card is measured on; by default every eighth one.
            side: of the crops, in pixels; by default the smallest from 64 on that the pair takes.
            batch: crops of a step.
            width: of the network: channels at the latents' resolution.
            seed: of all that is drawn.
            save_every: steps between checkpoints; each measures the card anew.
            network_dtype: of the network in training: "float32", or "bfloat16", which is twice as
                fast on processors that have it.
            value_range: of float input, see `as_pictures`.
            progress: show a progress bar.

        Raises:
            TypeError, ValueError: the pair is none of RGB pictures, a picture or an option cannot
                be used, or there is a checkpoint of another training.
        """
        if self.medium != "picture" or self.sample_channels != 3:
            raise ValueError(f"only pairs of RGB pictures have a learned inverse, got {self!r}")
        recipe = Recipe(
            steps=steps,
            batch=batch,
            width=width,
            seed=seed,
            save_every=save_every,
            dtype=network_dtype,
        )
        return _trained(self, pictures, held_out, side, value_range, recipe, out, progress)

    def use_inverse(self, inverse: LearnedInverse | str | Path | None = None) -> LearnedInverse:
        """Let `invert` take learned steps where the fixed-point iteration is refuted.

        Args:
            inverse: what `train_inverse` returned, or its file; by default the file that it writes
                where no other is named.

        Raises:
            ValueError: there is no such file, or it was learned for other weights.
        """
        if not isinstance(inverse, LearnedInverse):
            inverse = LearnedInverse.load(kept_inverse(self) if inverse is None else inverse)
        use_inverse(self, inverse)
        return inverse

    def drop_inverse(self) -> None:
        """Let `invert` do without a learned inverse again."""
        use_inverse(self, None)


def _trained(
    autoencoder: Calibrated,
    pictures: Any,
    held_out: Any,
    side: int | None,
    value_range: tuple[float, float] | None,
    recipe: Recipe,
    out: str | Path | None,
    progress: bool,
) -> LearnedInverse:
    """See `train_inverse`."""
    path = kept_inverse(autoencoder) if out is None else Path(out)
    if path.suffix != ".safetensors":
        raise ValueError(f"out must be a .safetensors file, got {path}")
    check_file(path)
    side = smallest_side(autoencoder) if side is None else side
    if side is None:
        raise ValueError(f"{autoencoder!r} takes no small square pictures: give a side")
    if not all(rule.holds(side) for rule in autoencoder.sizes.rules[-2:]):
        raise ValueError(f"{autoencoder!r} takes no pictures of {side} x {side} pixels")
    given = training_pictures(pictures, side, value_range)
    if held_out is None:
        given, apart = split(given)
    else:
        apart = training_pictures(held_out, side, value_range)
    measured = Crops(apart, side, recipe.seed, augmented=False).batch(range(HELD_OUT))
    calibration = calibration_of(autoencoder)
    training = Training(
        autoencoder, Crops(given, side, recipe.seed), measured, calibration, recipe, path
    )
    return training.run(progress)


def kept_inverse(autoencoder: Calibrated) -> Path:
    """Where the inverse of these weights is kept, where no other file is named.

    Raises:
        ValueError: the weights are not known, so that it could not be told from another one.
    """
    if autoencoder.module is None or not autoencoder.module.state_dict():
        raise ValueError(
            f"the weights of {autoencoder!r} are not known: name the file of its inverse"
        )
    return cache_folder() / "inverses" / f"{digest_of_model(autoencoder)}.safetensors"
