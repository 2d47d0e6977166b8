"""The loop of the commands that treat picture files one after the other.

Options and files are checked before the model is loaded, and what only the model can judge before
it runs. A picture that is refused while the model runs does not stop the others. The JSON report
is written even if the run is interrupted.
"""

from __future__ import annotations

import argparse
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fixpoint.adapters.autoencoders.autoencoder import Autoencoder
from fixpoint.adapters.commands.cropping import cropped
from fixpoint.adapters.commands.options import one_line, printer
from fixpoint.adapters.commands.reports import check_report, write_report
from fixpoint.adapters.pictures.background import on_background
from fixpoint.adapters.pictures.pictures import Pictures, as_pictures, read_picture
from fixpoint.adapters.reports import latent_files
from fixpoint.status import Status

Entry = dict[str, Any]
"""What the JSON report says of one picture: "picture", "status" and the results."""
REFUSED = "REFUSED"
FAILED = {Status.NONFINITE.name, Status.DIVERGED.name}


@dataclass(frozen=True)
class PictureFile:
    """A picture file, read and converted once.

    Attributes:
        path: as it was given.
        image: the PIL image, which knows the settings of the file.
        pictures: a batch of this one picture.
    """

    path: Path
    image: Any
    pictures: Pictures

    @classmethod
    def read(cls, path: Path, background: str | None = None) -> PictureFile:
        """Read and convert a file.

        Args:
            path: of the file.
            background: what shows where it is transparent; None where it may not be.

        Raises:
            ValueError: it is no picture that can be inverted; the message names the file.
        """
        image = read_picture(path)
        if background is not None:
            image = on_background(image, background)
        return cls(path, image, as_pictures(image))

    def cropped(self, autoencoder: Autoencoder) -> PictureFile:
        """The file with the part of its picture that the autoencoder takes, see `cropped`.

        Raises:
            ValueError: there is none; the message names the file.
        """
        try:
            return replace(self, pictures=cropped(self.pictures, autoencoder))
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from None

    def check(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call a function that checks this picture; its errors then name the file."""
        try:
            function(*arguments)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{self.path}: {error}") from None


class PerPicture(ABC):
    """One run of a command over picture files.

    `run` calls the other methods in the order in which they stand here.

    Args:
        options: of the command line, with `pictures`, `json`, `quiet` and, if files are written
            for each picture, `out`.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.say = printer(options)

    def run(self) -> int:
        """Check everything, load the model, then treat one picture after the other.

        Returns:
            0, or 1 if an inversion diverged or ended in NaN, or 2 if a picture was refused.
        """
        self.check_options()
        files = [self.read(path) for path in self.options.pictures]
        self.check_files(files)
        self.check_outputs()
        self.prepare(files)
        entries: list[Entry] = []
        summary: Entry = {}
        try:
            for file in files:
                entries.append(self._entry(file))
                if entries[-1]["status"] != REFUSED:
                    self.say(self.line(entries[-1]))
            summary = self.summary(entries)
        finally:
            content = self.settings() | summary | {"pictures": entries}
            write_report(self.options, content, self.say)
        statuses = {entry["status"] for entry in entries}
        return 2 if REFUSED in statuses else 1 if statuses & FAILED else 0

    def read(self, path: Path) -> PictureFile:
        """A picture file, on the colour of --background."""
        return PictureFile.read(path, getattr(self.options, "background", None))

    def fit(self, files: list[PictureFile], autoencoder: Autoencoder) -> None:
        """With --crop, replace every file by the part of it that the autoencoder takes."""
        if not getattr(self.options, "crop", False):
            return
        for index, file in enumerate(files):
            files[index] = file.cropped(autoencoder)
            if files[index].pictures is not file.pictures:
                height, width = files[index].pictures.values.shape[-2:]
                self.say(f"{file.path}: cropped to {width} x {height}")

    def _entry(self, file: PictureFile) -> Entry:
        try:
            return self.process(file)
        except ValueError as error:
            message = one_line(error)
            print(f"fixpoint: error: {file.path}: {message}", file=sys.stderr)
            return {"picture": str(file.path), "status": REFUSED, "message": message}

    @abstractmethod
    def check_options(self) -> None:
        """Refuse options that cannot be used, before any picture is read."""

    @abstractmethod
    def check_files(self, files: Sequence[PictureFile]) -> None:
        """Refuse what can be judged of the files without a model."""

    def check_outputs(self) -> None:
        """Refuse outputs that cannot be written."""
        if "out" in self.options:
            latent_files.check_folder(self.options.out)
        check_report(self.options)

    @abstractmethod
    def prepare(self, files: list[PictureFile]) -> None:
        """Load the model, `fit` the files and refuse what only the model can judge.

        It does not run yet.
        """

    @abstractmethod
    def process(self, file: PictureFile) -> Entry:
        """Treat one picture and write its files.

        Raises:
            ValueError: the picture is refused; the others are treated all the same.
        """

    @abstractmethod
    def line(self, entry: Entry) -> str:
        """What is printed of one picture."""

    def summary(self, entries: Sequence[Entry]) -> Entry:
        """What the report says of all pictures together; called when all are done."""
        return {}

    @abstractmethod
    def settings(self) -> Entry:
        """What the report says of the run."""
