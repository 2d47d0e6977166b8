"""Writing a file whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it into place.

    The folder is made where it is missing. A symbolic link is followed; a device or pipe, as
    /dev/stdout, is written to, not replaced.

    Raises:
        OSError: the folder cannot be written; no half-written file is left.
    """
    path = path.resolve()
    special = path.exists() and not path.is_file()
    folder = None if special else path.parent
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=folder, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        if special:
            path.write_bytes(temporary.read_bytes())
        else:
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
