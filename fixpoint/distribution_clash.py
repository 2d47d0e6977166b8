"""Says when the distributions `fixpoint-torch` and `fixpoint` are installed side by side.

This package is the distribution `fixpoint-torch`; `fixpoint` on the package index is another
project. Both install into the folder `fixpoint/`, and pip lets the later one overwrite
`fixpoint/__init__.py` of the earlier. Whichever came last, the modules of ours come here at their
first use: all of them need `operator.py`, which imports this file. Uninstalling either one then
takes the shared files along.
"""

from __future__ import annotations

import warnings
from importlib.metadata import Distribution, distributions

OURS, THEIRS = "fixpoint-torch", "fixpoint"


def clash() -> str | None:
    """What to say where both distributions are installed; None where they are not."""
    theirs = _installed(THEIRS)
    ours = _installed(OURS) if theirs is not None else None
    if ours is None or theirs is None:
        return None
    return (
        f"the distributions {OURS} {ours.version} and {THEIRS} {theirs.version} are both installed "
        "and overwrite each other's files in the folder fixpoint/; keep one of them: "
        f"pip uninstall {THEIRS} {OURS}, then pip install {OURS}"
    )


def warn_of_clash() -> None:
    """Warns once if both are installed. Never raises: metadata that cannot be read say nothing."""
    try:
        words = clash()
    except Exception:
        return
    if words is not None:
        warnings.warn(words, RuntimeWarning, stacklevel=3)


def _installed(name: str) -> Distribution | None:
    """The distribution as an installer recorded it; what a build leaves in a checkout is none."""
    return next((found for found in distributions(name=name) if found.read_text("RECORD")), None)
