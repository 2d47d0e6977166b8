"""`fixpoint watermark embed`, `detect` and `classify`: tree-ring keys in generated pictures."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fixpoint.adapters.commands.options import (
    add_diffusion_model,
    load_diffusion,
    printer,
    shows_progress,
)

if TYPE_CHECKING:
    from torch import Tensor

    from fixpoint.adapters.provenance.tree_ring import TreeRing

MODEL = "diffusion"
KEYS = ("paper-1", "paper-2", "paper-3", "zeros", "rand", "ring")
MASKS = ("centred", "official")
METHODS = ("ours", "encoder", "gradient")
SAMPLING_INVERSIONS = ("naive", "backward-euler")
GUIDANCE = 3.0
DONE, NONFINITE = "DONE", "NONFINITE"
FAILED = f"{NONFINITE}, the recovered noise is not finite"


def add_to(commands: Any) -> None:
    """Register `watermark` with its three commands among the subparsers of the command line."""
    watermark = commands.add_parser(
        "watermark",
        help="put tree-ring watermarks into generated pictures, and find them",
        description="A tree-ring watermark is a key in the Fourier transform of the noise that a "
        "picture starts from. To find it, the noise is recovered from the picture.",
    )
    actions = watermark.add_subparsers(dest="action", required=True, metavar="ACTION")

    embed = actions.add_parser(
        "embed",
        help="generate pictures with a key in their noise",
        description="Writes DIR/KEY-000.png and so on, KEY-000.noise.safetensors with the noise "
        "of each, and key.safetensors, which detect and classify read.",
    )
    _add_diffusion(embed)
    embed.add_argument("--prompt", required=True, metavar="TEXT")
    embed.add_argument("--key", required=True, choices=KEYS)
    _add_key_options(embed)
    embed.add_argument("--count", type=int, default=1, metavar="N", help="pictures (default 1)")
    embed.add_argument("--seed", type=int, default=0, metavar="N", help="of the noise")
    embed.add_argument("--out", type=Path, default=Path("watermarked"), metavar="DIR")
    _add_report(embed, run=_embed)

    detect = actions.add_parser(
        "detect",
        help="say of each picture whether it carries a key",
        description="Recovers the noise of every picture and tests it: the p-value is the chance "
        "that white noise comes as close to the key.",
    )
    _add_recovery(detect)
    detect.add_argument(
        "--key", required=True, metavar="KEY", help=f"a file of embed, or {', '.join(KEYS)}"
    )
    _add_key_options(detect)
    detect.add_argument(
        "--false-positive-rate",
        type=float,
        default=0.01,
        metavar="RATE",
        help="p-values up to this mean: found (default 0.01)",
    )
    _add_report(detect, run=_detect)

    classify = actions.add_parser(
        "classify",
        help="say of each picture which of several keys it carries",
        description="Recovers the noise of every picture and names the nearest key. With --truth, "
        "prints the confusion matrix.",
    )
    _add_recovery(classify)
    classify.add_argument(
        "--keys",
        nargs="+",
        default=["paper-1", "paper-2", "paper-3"],
        metavar="KEY",
        help=f"files of embed, or {', '.join(KEYS)} (default: the paper's three)",
    )
    _add_key_options(classify)
    classify.add_argument(
        "--by",
        choices=("distance", "angle"),
        default="distance",
        help="what makes a key near: the paper's distance, or the angle, which does not mind a key "
        "that came back weaker than it was (default distance)",
    )
    classify.add_argument(
        "--truth",
        nargs="+",
        metavar="LABEL",
        help="the name of the key in each picture, or one for all of them",
    )
    _add_report(classify, run=_classify)


def _add_diffusion(parser: argparse.ArgumentParser) -> None:
    add_diffusion_model(parser)
    parser.add_argument("--steps", type=int, default=50, metavar="N", help="of DDIM (default 50)")
    parser.add_argument(
        "--guidance",
        type=float,
        metavar="G",
        help=f"of the prompt (default {GUIDANCE:g}; without a prompt there is none)",
    )


def _add_key_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("keys given by name")
    group.add_argument(
        "--mask",
        choices=MASKS,
        help="centred on the zero frequency (default), or one row off as in the original",
    )
    group.add_argument("--radius", type=int, metavar="N", help="of the disc (default 6)")
    group.add_argument("--channel", type=int, metavar="N", help="of the noise (default 0)")
    group.add_argument("--key-seed", type=int, metavar="N", help="of rand and ring (default 0)")


def _add_recovery(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE")
    _add_diffusion(parser)
    parser.add_argument("--prompt", metavar="TEXT", help="of the pictures, where it is known")
    parser.add_argument(
        "--method",
        choices=METHODS,
        default="ours",
        help="how the decoder is inverted (default ours)",
    )
    parser.add_argument(
        "--sampling-inversion",
        choices=SAMPLING_INVERSIONS,
        default="naive",
        help="how the sampling is inverted (default naive; backward-euler for models of one step)",
    )


def _add_report(parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int]) -> None:
    parser.add_argument("--json", type=Path, metavar="FILE", help="write a report as JSON")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.set_defaults(run=run)


def _embed(options: argparse.Namespace) -> int:
    from fixpoint.adapters.pictures.pictures import to_pil
    from fixpoint.adapters.reports import latent_files
    from fixpoint.checkpoints.whole_file import write_whole

    say = printer(options.quiet)
    if options.count < 1:
        raise ValueError(f"--count must be at least 1, got {options.count}")
    _check_sampling(options)
    _check_key_options(options, [options.key])
    latent_files.check_outputs(options.out, options.json)
    model = load_diffusion(options)
    noise = model.noise(options.count, seed=options.seed)
    key = named_key(options, options.key, noise.shape)
    key.check(noise.shape)
    sampling = model.sampling(options.prompt, steps=options.steps, guidance=_guidance(options))
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
        content = {"key": key.name, "key_file": str(key_file), "seed": options.seed}
        _write_report(options, content, entries, say)
    return 0


def _detect(options: argparse.Namespace) -> int:
    from fixpoint.adapters.reports import latent_files

    say = printer(options.quiet)
    rate = options.false_positive_rate
    if not 0 < rate < 1:
        raise ValueError(f"--false-positive-rate must lie in (0, 1), got {rate}")
    task = _prepare(options, [options.key])
    content = {"key": task.names[0], "false_positive_rate": rate}
    entries: list[dict[str, Any]] = []
    try:
        for path, keys, noise in _noises(options, task):
            entry: dict[str, Any] = {"picture": str(path), "status": _status(noise)}
            if entry["status"] == DONE:
                found = keys[0].detect(noise, rate)
                entry |= {
                    "distance": float(found.distance),
                    "p_value": float(found.p_value),
                    "log10_p": latent_files.finite_or_none(float(found.log10_p)),
                    "found": bool(found.found),
                }
            entries.append(entry)
            say(f"{path}: {_verdict(entry)}")
    finally:
        _write_report(options, content, entries, say)
    return _exit_code(entries)


def _classify(options: argparse.Namespace) -> int:
    from fixpoint.adapters.provenance.tree_ring import classify

    say = printer(options.quiet)
    pictures, truth = len(options.pictures), options.truth
    if options.by == "angle" and "zeros" in options.keys:
        raise ValueError("--by angle: the key zeros has no direction")
    if truth is not None and len(truth) not in (1, pictures):
        raise ValueError(
            f"--truth takes one label for all pictures or one for each: {len(truth)} for {pictures}"
        )
    truth = None if truth is None else truth * (pictures // len(truth))
    task = _prepare(options, options.keys)
    for label in truth or ():
        if label not in task.names:
            raise ValueError(f"--truth {label}: the keys are {', '.join(task.names)}")
    content: dict[str, Any] = {"keys": task.names, "by": options.by, "truth": truth}
    entries: list[dict[str, Any]] = []
    try:
        for path, keys, noise in _noises(options, task):
            entry: dict[str, Any] = {"picture": str(path), "status": _status(noise)}
            if entry["status"] == DONE:
                found = classify(noise, keys, by=options.by)
                distances = found.distances[0].tolist()
                entry["label"] = found.names[0]
                entry["distances"] = dict(zip(found.keys, distances, strict=True))
            entries.append(entry)
            say(f"{path}: {_nearest(entry)}")
        if truth is not None:
            content |= _confusion(truth, entries, task.names, say)
    finally:
        _write_report(options, content, entries, say)
    return _exit_code(entries)


def _confusion(
    truth: Sequence[str],
    entries: Sequence[dict[str, Any]],
    names: Sequence[str],
    say: Callable[[str], object],
) -> dict[str, Any]:
    """The confusion matrix of the pictures whose noise was recovered, shown and for the report."""
    from fixpoint.adapters.provenance.confusion import confusion_matrix

    both = zip(truth, entries, strict=True)
    pairs = [(label, entry["label"]) for label, entry in both if "label" in entry]
    if not pairs:
        return {}
    confusion = confusion_matrix([true for true, _ in pairs], [label for _, label in pairs], names)
    say(f"\n{confusion}")
    return {
        "confusion": confusion.counts.tolist(),
        "accuracy": confusion.accuracy,
        "interval": confusion.interval,
    }


def named_key(options: argparse.Namespace, name: str, shape: Sequence[int]) -> TreeRing:
    """The key of this name, one of `KEYS`, with the options that keys given by name have."""
    from fixpoint.adapters.provenance.tree_ring import TreeRing

    given = {"radius": options.radius, "channel": options.channel, "mask": options.mask}
    chosen: dict[str, Any] = {option: v for option, v in given.items() if v is not None}
    kind, _, number = name.partition("-")
    if kind == "paper":
        return TreeRing.paper(shape, key=int(number), **chosen)
    if kind == "zeros":
        return TreeRing.zeros(shape, **chosen)
    seed = 0 if options.key_seed is None else options.key_seed
    return getattr(TreeRing, kind)(shape, seed=seed, **chosen)


@dataclass(frozen=True)
class _Task:
    """A model, and pictures whose noise is to be compared with keys made for its size."""

    model: Any
    names: tuple[str, ...]
    pictures: tuple[tuple[Path, Any, tuple[TreeRing, ...]], ...]


def _prepare(options: argparse.Namespace, names: Sequence[str]) -> _Task:
    """Check options and files, load the model, then check what depends on it, before it runs."""
    from fixpoint.adapters.pictures.pictures import as_pictures, check_sides, read_picture
    from fixpoint.adapters.provenance.tree_ring import TreeRing, check_names
    from fixpoint.adapters.reports import latent_files

    _check_sampling(options)
    _check_key_options(options, names)
    loaded = {name: TreeRing.load(name) for name in names if name not in KEYS}
    images = [read_picture(path) for path in options.pictures]
    values = [as_pictures(image).values for image in images]
    if options.json is not None:
        latent_files.check_file(options.json)
    model = load_diffusion(options)
    factor, channels = model.autoencoder.factor, model.autoencoder.channels
    pictures = []
    for path, image, picture in zip(options.pictures, images, values, strict=True):
        try:
            check_sides(picture, factor)
            grid = (1, channels, *(side // factor for side in picture.shape[-2:]))
            keys = tuple(loaded.get(name) or named_key(options, name, grid) for name in names)
            for key in keys:
                key.check(grid)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        check_names(keys)
        pictures.append((path, image, keys))
    return _Task(model, tuple(key.name for key in keys), tuple(pictures))


def _noises(
    options: argparse.Namespace, task: _Task
) -> Iterator[tuple[Path, tuple[TreeRing, ...], Tensor]]:
    """Every picture with its keys and the noise recovered from it, one after the other."""
    from fixpoint.adapters.diffusion.noise_recovery import recover_noise

    for path, image, keys in task.pictures:
        recovered = recover_noise(
            task.model,
            image,
            "" if options.prompt is None else options.prompt,
            steps=options.steps,
            guidance=_guidance(options),
            method=options.sampling_inversion,
            decoder_inversion=options.method,
            progress=shows_progress(options),
        )
        yield path, keys, recovered.noise


def _check_sampling(options: argparse.Namespace) -> None:
    if options.steps < 1:
        raise ValueError(f"--steps must be at least 1, got {options.steps}")
    if options.guidance is not None:
        if options.prompt is None:
            raise ValueError("--guidance belongs to --prompt")
        if not math.isfinite(options.guidance):
            raise ValueError(f"--guidance must be a finite number, got {options.guidance}")


def _check_key_options(options: argparse.Namespace, names: Sequence[str]) -> None:
    """Refuse options that no key uses, rather than ignore them."""
    named = [name for name in names if name in KEYS]
    for option in ("mask", "radius", "channel"):
        if getattr(options, option) is not None and not named:
            raise ValueError(f"--{option} belongs to keys given by name: a file says its own")
    if options.key_seed is not None and not {"rand", "ring"} & set(named):
        raise ValueError("--key-seed belongs to the keys rand and ring")
    for name in set(names) - set(named):
        if not Path(name).is_file():
            raise ValueError(f"key {name!r} is neither a file nor one of {', '.join(KEYS)}")


def _guidance(options: argparse.Namespace) -> float:
    """Without a prompt there is nothing to be guided by."""
    if options.prompt is None:
        return 1.0
    return GUIDANCE if options.guidance is None else options.guidance


def _write_report(
    options: argparse.Namespace,
    content: dict[str, Any],
    entries: list[dict[str, Any]],
    say: Callable[[str], object],
) -> None:
    if options.json is None:
        return
    from fixpoint.adapters.reports import latent_files
    from fixpoint.adapters.reports.versions import versions

    settings: dict[str, Any] = {
        "model": str(options.model),
        "dtype": options.dtype,
        "device": options.device,
        "prompt": options.prompt,
        "guidance": _guidance(options),
        "steps": options.steps,
        "versions": versions(),
    }
    for option in ("method", "sampling_inversion"):
        if hasattr(options, option):
            settings[option] = getattr(options, option)
    latent_files.write_json(options.json, settings | content | {"pictures": entries})
    say(f"JSON: {options.json}")


def _status(noise: Tensor) -> str:
    return DONE if bool(noise.isfinite().all()) else NONFINITE


def _exit_code(entries: Sequence[dict[str, Any]]) -> int:
    return 1 if any(entry["status"] == NONFINITE for entry in entries) else 0


def _verdict(entry: dict[str, Any]) -> str:
    if entry["status"] == NONFINITE:
        return FAILED
    log10_p = entry["log10_p"]
    p_value = f"10^{log10_p:.0f}" if log10_p and log10_p < -300 else f"{entry['p_value']:.2g}"
    verdict = "found" if entry["found"] else "not found"
    return f"{verdict}, p = {p_value}, distance {entry['distance']:.4g}"


def _nearest(entry: dict[str, Any]) -> str:
    if entry["status"] == NONFINITE:
        return FAILED
    near = ", ".join(f"{key} {value:.4g}" for key, value in entry["distances"].items())
    return f"{entry['label']} (distances: {near})"
