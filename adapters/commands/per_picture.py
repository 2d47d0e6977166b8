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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fixpoint.adapters.commands.options import one_line, printer
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
    def read(cls, path: Path) -> PictureFile:
        """Read and convert a file.

        Raises:
            ValueError: it is no picture that can be inverted; the message names the file.
        """
        image = read_picture(path)
        return cls(path, image, as_pictures(image))

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
        self.say = printer(options.quiet)

    def run(self) -> int:
        """Check everything, load the model, then treat one picture after the other.

        Returns:
            0, or 1 if an inversion diverged or ended in NaN, or 2 if a picture was refused.
        """
        self.check_options()
        files = [PictureFile.read(path) for path in self.options.pictures]
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
            if self.options.json is not None:
                content = self.settings() | summary | {"pictures": entries}
                latent_files.write_json(self.options.json, content)
                self.say(f"JSON: {self.options.json}")
        statuses = {entry["status"] for entry in entries}
        return 2 if REFUSED in statuses else 1 if statuses & FAILED else 0

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
        if self.options.json is not None:
            latent_files.check_file(self.options.json)

    @abstractmethod
    def prepare(self, files: Sequence[PictureFile]) -> None:
        """Load the model and refuse what only the model can judge; it does not run yet."""

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
