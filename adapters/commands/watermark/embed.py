"""`fixpoint watermark embed`: generate pictures with a key in their noise."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from fixpoint.adapters.commands.options import (
    load_diffusion,
    printer,
    shows_progress,
)
from fixpoint.adapters.commands.reports import check_report, write_report
from fixpoint.adapters.commands.watermark.named_keys import (
    check_key_options,
    named_key,
)
from fixpoint.adapters.commands.watermark.sampling_options import (
    check_sampling,
    guidance_of,
    sampling_settings,
)
from fixpoint.adapters.pictures.pictures import to_pil
from fixpoint.adapters.reports import latent_files
from fixpoint.checkpoints.whole_file import write_whole


def run(options: argparse.Namespace) -> int:
    """Check the options, load the model, then generate picture by picture.

    The JSON report holds whatever was done, also when the run is interrupted.
    """
    say = printer(options)
    if options.count < 1:
        raise ValueError(f"--count must be at least 1, got {options.count}")
    check_sampling(options)
    check_key_options(options, [options.key])
    latent_files.check_folder(options.out)
    check_report(options)
    model = load_diffusion(options)
    noise = model.noise(options.count, seed=options.seed)
    key = named_key(options, options.key, noise.shape)
    key.check(noise.shape)
    sampling = model.sampling(options.prompt, steps=options.steps, guidance=guidance_of(options))
    key_file = options.out / "key.safetensors"
    key.save(key_file)
    say(f"{key} -> {key_file}")
    entries: list[dict[str, Any]] = []
    try:
        for index, embedded in enumerate(key.embed(noise).split(1)):
            latent = sampling.generate(embedded, progress=shows_progress(options))
            image = to_pil(model.decode(latent)[0])
            picture = options.out / f"{key.name}-{index:03d}.png"
            write_whole(picture, partial(image.save, format="PNG"))
            noise_file = picture.with_suffix(".noise.safetensors")
            metadata = {"key": key.name, "model": str(options.model), "prompt": options.prompt}
            latent_files.write_latent(noise_file, embedded, metadata)
            entries.append({"picture": str(picture), "noise": str(noise_file)})
            say(str(picture))
    finally:
        made = {"key": key.name, "key_file": str(key_file), "seed": options.seed}
        write_report(options, sampling_settings(options) | made | {"pictures": entries}, say)
    return 0
