"""Tree-ring keys that the command line gives by name, with their options."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fixpoint.adapters.commands.choices import KEYS
from fixpoint.adapters.provenance.tree_ring import TreeRing


def check_key_options(options: argparse.Namespace, names: Sequence[str]) -> None:
    """Refuse options that no key uses, rather than ignore them.

    Args:
        options: those of `add_key_options`.
        names: of the keys; each is one of `KEYS` or a file.

    Raises:
        ValueError: an option is not used, or a key is neither a name nor a file.
    """
    named = [name for name in names if name in KEYS]
    for option in ("mask", "radius", "channel"):
        if getattr(options, option) is not None and not named:
            raise ValueError(f"--{option} belongs to keys given by name: a file says its own")
    if options.key_seed is not None and not {"rand", "ring"} & set(named):
        raise ValueError("--key-seed belongs to the keys rand and ring")
    for name in set(names) - set(named):
        if not Path(name).is_file():
            raise ValueError(f"key {name!r} is neither a file nor one of {', '.join(KEYS)}")


def named_key(options: argparse.Namespace, name: str, shape: Sequence[int]) -> TreeRing:
    """The key of this name, one of `KEYS`, for noise of this shape."""
    given = {"radius": options.radius, "channel": options.channel, "mask": options.mask}
    chosen: dict[str, Any] = {option: v for option, v in given.items() if v is not None}
    kind, _, number = name.partition("-")
    if kind == "paper":
        return TreeRing.paper(shape, key=int(number), **chosen)
    if kind == "zeros":
        return TreeRing.zeros(shape, **chosen)
    seed = 0 if options.key_seed is None else options.key_seed
    return getattr(TreeRing, kind)(shape, seed=seed, **chosen)
