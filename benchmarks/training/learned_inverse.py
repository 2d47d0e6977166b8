"""Train a learned inverse for a user's pair, on the pictures of the embedded models' training.

    python -m benchmarks.training.learned_inverse --pair module:function --out inverse.safetensors

Photographs from scikit-image and scikit-learn and procedural pictures; the card is measured on
crops of photographs that are never trained on. An interrupted training goes on with the same
command.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.shared.pictures import (
    COLOUR,
    GREY,
    dead_leaves,
    held_out_crops,
    photograph,
    written_page,
)
from fixpoint.adapters import to_pil
from fixpoint.adapters.commands.pairs import load_pair

LEAVES, PAGES, SIDE = 24, 4, 256


def pictures() -> list[Image.Image]:
    """Photographs, textures, dead leaves and written pages."""
    draws = np.random.default_rng(0)
    drawn = [dead_leaves(SIDE, draws) for _ in range(LEAVES)]
    drawn += [written_page(SIDE, draws) for _ in range(PAGES)]
    return [photograph(name) for name in (*COLOUR, *COLOUR, *GREY)] + drawn


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog=f"python -m {__spec__.name}",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--pair", required=True, help="module:function, as of fixpoint --pair")
    parser.add_argument("--out", type=Path, required=True, help="file of the weights")
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--save-every", type=int, default=250)
    parser.add_argument("--network-dtype", default="float32")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    autoencoder = load_pair(options.pair, torch.float32, torch.device("cpu"))
    inverse = autoencoder.train_inverse(
        pictures(),
        steps=options.steps,
        out=options.out,
        held_out=[to_pil(crop) for crop in held_out_crops(24)],
        batch=options.batch,
        width=options.width,
        save_every=options.save_every,
        network_dtype=options.network_dtype,
    )
    print(inverse, inverse.card)


if __name__ == "__main__":
    main()
