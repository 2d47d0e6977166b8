"""Sixteen frames within a memory budget, and what the seam of windows that look back costs.

    python -m benchmarks.studies.video --out docs                         # measure, fill in
    python -m benchmarks.studies.video --out docs --render                # fill in what is stored

Frames are 8-bit decodings of known latents: of crops that move over the bundled photograph, by the
embedded autoencoder frame by frame, and by a temporal decoder in the shape of Stable Video
Diffusion's with a quarter of its channels and random weights, which E does not invert: its rows
tell memory and time, and no accuracy of trained ones. Every run is measured in a process of its
own. Stored as `results/video.json`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.shared import fresh_process
from benchmarks.shared.command import add_quick, add_render, command_line, parse
from benchmarks.shared.machine import machine_name
from benchmarks.shared.pages import renew_table
from benchmarks.shared.stored import load, store
from benchmarks.shared.tables import mebibytes, number, table
from fixpoint.adapters import Autoencoder, EightBit, as_pictures, invert_by_gradient, nmse_db
from fixpoint.adapters.autoencoders.diffusers_classes import classes_that_look_back
from fixpoint.adapters.autoencoders.parts import PastFirst
from fixpoint.adapters.autoencoders.per_frame import PerFrame
from fixpoint.adapters.commands.demonstration import PHOTOGRAPH
from fixpoint.adapters.inversion.video_windows import invert_video

FRAMES, SIDE, QUICK = 16, 96, 32
EVALUATIONS = {"per frame": 10, "temporal decoder": 4}
BUDGETS = (64, 128, 256)  # MiB
CHUNK = 4
CHANNELS = (32, 64, 128, 128)
STEP = (2, 4)  # pixels that the crop moves down and to the right, from frame to frame
OVERLAPS = (1, 2, 4, 8)
NAMES = {
    "per frame": 'per frame, `embedded("kl")`',
    "temporal decoder": f"temporal decoder, chunks of {CHUNK}",
}


def moving_crops(frames: int, height: int, width: int) -> Tensor:
    """Crops of the bundled photograph, one after the other: (1, 3, frames, height, width)."""
    values = as_pictures(PHOTOGRAPH).values
    down, right = STEP
    crops = [
        values[:, :, down * k : down * k + height, right * k : right * k + width]
        for k in range(frames)
    ]
    return torch.stack(crops, 2)


def build(kind: str) -> Autoencoder:
    if kind == "per frame":
        return PerFrame(Autoencoder.embedded("kl"))
    from diffusers import AutoencoderKLTemporalDecoder

    torch.manual_seed(0)
    model = AutoencoderKLTemporalDecoder(
        down_block_types=("DownEncoderBlock2D",) * len(CHANNELS),
        block_out_channels=CHANNELS,
        layers_per_block=2,
    )
    model = model.eval().requires_grad_(False)
    return Autoencoder.from_diffusers(model, decode_chunk_size=CHUNK)


def work(
    kind: str,
    budget: int | None,
    frames: int,
    height: int,
    width: int,
    evaluations: int,
    gradient: bool = False,
) -> Callable[[], dict[str, Any]]:
    """One run, ready to be measured.

    Within `budget` MiB, in one window (None), or by gradient descent.
    """
    torch.set_num_threads(1)
    autoencoder = build(kind)
    with torch.no_grad():
        latents = [
            autoencoder.encode(part)
            for part in moving_crops(frames, height, width).split(CHUNK, dim=2)
        ]
        pictures = [EightBit()(autoencoder.decode(part)) for part in latents]
    truth, video = torch.cat(latents, 2), torch.cat(pictures, 2)
    options: dict[str, Any] = {"value_range": (-1, 1)}
    least = {"max_iterations": 1, "window": CHUNK, **options}
    invert_video(autoencoder, video[:, :, :CHUNK, :16, :16], **least)

    def windows() -> dict[str, Any]:
        within: dict[str, Any] = (
            {"window": frames} if budget is None else {"memory_budget": budget * 2**20}
        )
        began = time.process_time()
        found = invert_video(
            autoencoder, video, max_iterations=evaluations - 1, **within, **options
        )
        return {
            "seconds": time.process_time() - began,
            "nmse_db": float(found.nmse_db(truth)),
            "psnr_db": float(found.psnr_db.mean()),
            "status": Counter(status.name for status in found.status[0]),
            "frames": max(b - a for a, b in (window.frames for window in found.windows)),
            "windows": len(found.windows),
            "predicted_bytes": None if found.plan is None else found.plan.predicted,
        }

    def descent() -> dict[str, Any]:
        per_frame = isinstance(autoencoder, PerFrame)
        began = time.process_time()
        found = invert_by_gradient(
            autoencoder.pictures if isinstance(autoencoder, PerFrame) else autoencoder,
            video[0].transpose(0, 1) if per_frame else video,
            steps=evaluations,
            **options,
        )
        latent = found.latent.transpose(0, 1).unsqueeze(0) if per_frame else found.latent
        return {
            "seconds": time.process_time() - began,
            "nmse_db": float(nmse_db(latent, truth)),
            "psnr_db": float(found.psnr_db.mean()),
            "frames": frames,
            "windows": 1,
        }

    return descent if gradient else windows


def measure(quick: bool) -> dict[str, Any]:
    side = QUICK if quick else SIDE
    rows = []
    for kind, evaluations in EVALUATIONS.items():
        cases: list[tuple[str, int | None, bool]] = [
            ("all frames at once", None, False),
            *((f"budget {budget} MiB", budget, False) for budget in BUDGETS),
            ("gradient descent", None, True),
        ]
        for name, budget, gradient in cases:
            found = fresh_process.measure(
                "benchmarks.studies.video:work",
                kind=kind,
                budget=budget,
                frames=FRAMES,
                height=side,
                width=side,
                evaluations=2 if quick else evaluations,
                gradient=gradient,
            )
            rows.append({"kind": kind, "name": name, "evaluations": evaluations, **found})
            shown = found["found"] and {key: found["found"][key] for key in ("seconds", "nmse_db")}
            print(kind, name, mebibytes(found["peak_bytes"]), shown, found["failed"], flush=True)
    return {"machine": machine_name(), "side": side, "rows": rows, "seams": seams()}


@torch.no_grad()
def seams() -> dict[str, dict[str, float]]:
    """NMSE in dB of frames whose past was cut off, against D of the whole video, by overlap.

    Tiny instances with random weights. The latents are the same; the decoder starts `overlap`
    latent frames before them.
    """
    from benchmarks.shared.tiny_autoencoders import TINY, tiny

    found: dict[str, dict[str, float]] = {}
    for name in classes_that_look_back():
        autoencoder = Autoencoder.from_diffusers(tiny(name))
        parts = autoencoder.parts
        assert isinstance(parts, PastFirst)
        shape = TINY[name].shape
        probe = autoencoder.encode(torch.zeros(1, *shape))
        torch.manual_seed(0)
        latents = torch.randn(1, *probe.shape[1:2], 17, *probe.shape[3:])
        whole = autoencoder.decode(latents)
        step = (whole.shape[2] - 1) // 16
        start = 11
        tail = whole[:, :, 1 + step * (start - 1) :]
        found[name] = {}
        for overlap in OVERLAPS:
            past = 1 + parts.group * -(-(overlap - 1) // parts.group)
            part = autoencoder.decode(latents[:, :, start - past :])[:, :, -tail.shape[2] :]
            found[name][str(overlap)] = float(nmse_db(part, tail))
    return found


def markdown(results: dict[str, Any]) -> str:
    side = results["side"]
    rows = []
    for row in results["rows"]:
        found = row["found"] or {}
        whole = next(
            each for each in results["rows"] if each["kind"] == row["kind"]
        )  # the first one
        ratio = found.get("seconds", 0) / whole["found"]["seconds"] if found else None
        rows.append(
            (
                NAMES[row["kind"]],
                row["name"],
                str(found.get("frames", "–")),
                mebibytes(found.get("predicted_bytes")),
                mebibytes(row["peak_bytes"]),
                number(ratio, ".2f"),
                number(found.get("nmse_db")),
            )
        )
    decoder = [row for row in results["rows"] if row["kind"] == "temporal decoder"]
    ends = Counter[str]()
    for row in decoder:
        ends.update((row["found"] or {}).get("status", {}))
    lines = [
        f"{FRAMES} frames of {side} x {side} pixels. Peak: what the call added to memory, each run "
        "in a process of its own; planned: what the budget was expected to need. Time is that of "
        "the processor, relative to all frames at once, with the measurements behind a budget. At "
        f"most {EVALUATIONS['per frame']} evaluations a frame, or "
        f"{EVALUATIONS['temporal decoder']} a chunk, and as many gradient steps.",
        "",
        *table(
            (
                "autoencoder",
                "run",
                "frames at once",
                "planned MiB",
                "peak MiB",
                "time",
                "NMSE (dB)",
            ),
            rows,
            words=2,
        ),
        "",
        f"The temporal decoder has random weights, channels {CHANNELS}: its E does not invert its "
        "D, and its NMSE says nothing about trained ones, but that windows do not change it. Over "
        "its runs by `invert_video`, latent frames ended as "
        + ", ".join(f"{name} {count}" for name, count in sorted(ends.items()))
        + ".",
        "",
        "What D makes of frames whose past begins `overlap` latent frames before them, against D "
        "of the whole video: NMSE in dB, tiny instances with random weights. Those forget slowly, "
        "some hardly at all; what trained weights do is for `seam_db` to say.",
        "",
        *table(
            ("class", *(f"overlap {overlap}" for overlap in OVERLAPS)),
            [
                (f"`{name}`", *(number(line[str(overlap)]) for overlap in OVERLAPS))
                for name, line in results["seams"].items()
            ],
        ),
        "",
        results["machine"],
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = command_line(__spec__.name, __doc__, "video.md")
    add_render(parser)
    add_quick(parser)
    options = parse(parser, arguments)
    if not options.render:
        started = time.perf_counter()
        store(options.out, "video", measure(options.quick))
        print(f"measured in {time.perf_counter() - started:.0f} s")
    renew_table(options.out / "video.md", markdown(load(options.out, "video")))


if __name__ == "__main__":
    main()
