"""The watermark commands that recover the noise of pictures and compare it with keys."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from fixpoint.adapters.commands.choices import KEYS
from fixpoint.adapters.commands.options import load_diffusion, shows_progress
from fixpoint.adapters.commands.per_picture import Entry, PerPicture, PictureFile
from fixpoint.adapters.commands.watermark.named_keys import check_key_options, named_key
from fixpoint.adapters.commands.watermark.sampling_options import (
    check_sampling,
    guidance_of,
    sampling_settings,
)
from fixpoint.adapters.diffusion.noise_recovery import recover_noise
from fixpoint.adapters.pictures.pictures import check_sides
from fixpoint.adapters.provenance.tree_ring import TreeRing, check_names
from fixpoint.status import Status

DONE, NONFINITE = "DONE", Status.NONFINITE.name
FAILED = f"{NONFINITE}, the recovered noise is not finite"


class PerRecoveredNoise(PerPicture):
    """A command that recovers the noise of each picture and compares it with keys.

    Keys given by name are made for the size of each picture.
    """

    names: tuple[str, ...]
    """The names of the keys, once the model is loaded."""

    @property
    def prompt(self) -> str:
        """Of the pictures; empty where it is not known."""
        return "" if self.options.prompt is None else self.options.prompt

    @abstractmethod
    def key_options(self) -> Sequence[str]:
        """The keys as the options give them: names and files."""

    @abstractmethod
    def compare(self, noise: Tensor, keys: Sequence[TreeRing]) -> Entry:
        """What the report says of finite noise, (1, channels, rows, columns), and the keys."""

    @abstractmethod
    def verdict(self, entry: Entry) -> str:
        """What is printed of a picture whose noise is finite."""

    def check_options(self) -> None:
        check_sampling(self.options)
        check_key_options(self.options, self.key_options())

    def check_files(self, files: Sequence[PictureFile]) -> None:
        self.loaded = {name: TreeRing.load(name) for name in self.key_options() if name not in KEYS}

    def prepare(self, files: list[PictureFile]) -> None:
        self.model = load_diffusion(self.options)
        self.fit(files, self.model.autoencoder)
        self.model.check_sampling(
            self.prompt, steps=self.options.steps, guidance=guidance_of(self.options)
        )
        self.keys: dict[Path, tuple[TreeRing, ...]] = {}
        for file in files:
            file.check(self._make_keys, file)
            check_names(self.keys[file.path])
        self.names = tuple(key.name for key in self.keys[files[-1].path])

    def process(self, file: PictureFile) -> Entry:
        options = self.options
        noise = recover_noise(
            self.model,
            file.pictures,
            self.prompt,
            steps=options.steps,
            guidance=guidance_of(options),
            method=options.sampling_inversion,
            decoder_inversion=options.method,
            progress=shows_progress(options),
        ).noise
        finite = bool(noise.isfinite().all())
        entry: Entry = {"picture": str(file.path), "status": DONE if finite else NONFINITE}
        return entry | self.compare(noise, self.keys[file.path]) if finite else entry

    def line(self, entry: Entry) -> str:
        verdict = FAILED if entry["status"] == NONFINITE else self.verdict(entry)
        return f"{entry['picture']}: {verdict}"

    def settings(self) -> Entry:
        return sampling_settings(self.options) | {
            "method": self.options.method,
            "sampling_inversion": self.options.sampling_inversion,
        }

    def _make_keys(self, file: PictureFile) -> None:
        """The keys for the size of a picture.

        Raises:
            ValueError: the autoencoder cannot take the picture, or a key does not fit its noise.
        """
        factor, channels = self.model.autoencoder.factor, self.model.autoencoder.channels
        values = file.pictures.values
        check_sides(values, factor)
        shape = (1, channels, *(side // factor for side in values.shape[-2:]))
        self.keys[file.path] = tuple(
            self.loaded.get(name) or named_key(self.options, name, shape)
            for name in self.key_options()
        )
        for key in self.keys[file.path]:
            key.check(shape)
