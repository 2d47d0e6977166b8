"""Which key is read in a picture, by each decoder inversion."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.shared import fresh_process
from benchmarks.shared.tables import summary
from benchmarks.watermark.cases import CASES, KEYS, METHODS, Case, KnownPictures, make
from fixpoint.adapters import nmse_db
from fixpoint.adapters.diffusion.latent_diffusion import LatentDiffusion
from fixpoint.adapters.diffusion.noise_recovery import (
    DecoderInverter,
    RecoveredNoise,
    recover_noise,
)
from fixpoint.adapters.provenance.tree_ring import classify


def recover(
    model: LatentDiffusion, case: Case, made: KnownPictures, invert_decoder: DecoderInverter
) -> RecoveredNoise:
    return recover_noise(
        model,
        made.picture,
        made.prompts,
        steps=case.steps,
        guidance=case.guidance,
        method=case.method,
        decoder_inversion=invert_decoder,
        value_range=(-1, 1),
    )


def classification(part: str, count: int, slow: dict[str, int]) -> dict[str, Any]:
    """Every method on the same pictures, `count` a key; `slow` limits those of slow methods."""
    case = CASES[part]
    model = case.load()
    marks: dict[str, Any] = {}
    for title, mark in case.marks.items():
        made = make(model, case, mark, max(1, round(mark.share * count)))
        marks[title] = {"exact noise": judged(made, made.noise)}
        right = marks[title]["exact noise"]["right"]
        print(f"{case.model}, {title}, exact noise: {right}", flush=True)
        for name in mark.methods:
            given = made.rows(slice(0, slow.get(name, count) * len(KEYS)))
            marks[title][name] = shown = recovered(model, case, given, METHODS[name])
            print(
                f"{case.model}, {title}, {name}: {shown['right']} ({shown['right_by_angle']} by "
                f"angle) of {shown['pictures']}, z_0 {shown['latent']['nmse_db']:.1f} dB, z_T "
                f"{shown['noise']['nmse_db']:.1f} dB, {shown['decoder_seconds']:.2f} s of "
                f"{shown['seconds']:.2f} s a picture, {shown['evaluations']:.1f} evaluations",
                flush=True,
            )
    return {"case": case.settings(), "marks": marks, "peaks": peaks(part)}


def recovered(
    model: LatentDiffusion, case: Case, made: KnownPictures, invert_decoder: DecoderInverter
) -> dict[str, Any]:
    """One method on every picture: the keys that it read, its errors, and its time."""
    noises, latents, decoder_seconds, evaluations = [], [], 0.0, 0
    started = time.perf_counter()
    for batch in made.batches():
        found = recover(model, case, batch, invert_decoder)
        assert found.inversion is not None
        noises.append(found.noise)
        latents.append(found.latent)
        decoder_seconds += found.inversion.seconds
        evaluations += int(found.inversion.evaluations.sum())
    seconds = time.perf_counter() - started
    count = len(made.noise)
    return judged(made, torch.cat(noises)) | {
        "latent": summary(nmse_db(torch.cat(latents), made.latent)),
        "noise": summary(nmse_db(torch.cat(noises), made.noise)),
        "seconds": seconds / count,
        "decoder_seconds": decoder_seconds / count,
        "evaluations": evaluations / count,
    }


def judged(made: KnownPictures, noise: Tensor) -> dict[str, Any]:
    """The keys read in noises, against the true ones: right ones, and the confusion matrix."""
    found = classify(noise, made.keys).labels
    by_angle = classify(noise, made.keys, by="angle").labels
    confusion = torch.zeros(len(made.keys), len(made.keys), dtype=torch.long)
    confusion.index_put_((made.labels, found.cpu()), torch.tensor(1), accumulate=True)
    return {
        "pictures": len(noise),
        "right": int(confusion.diagonal().sum()),
        "hits": "".join("01"[hit] for hit in (found.cpu() == made.labels).tolist()),
        "right_by_angle": int((by_angle == made.labels).sum()),
        "confusion": confusion.tolist(),
    }


def peaks(part: str) -> dict[str, Any]:
    """What the recovery of one picture adds to memory, each in a process of its own."""
    return {
        name: fresh_process.measure(
            "benchmarks.watermark.classification:one_picture", part=part, method=name
        )
        for name in dict.fromkeys(
            name for mark in CASES[part].marks.values() for name in mark.methods
        )
    }


def one_picture(part: str, method: str) -> Callable[[], None]:
    case = CASES[part]
    model = case.load()
    made = make(model, case, next(iter(case.marks.values())), 1).rows(slice(0, 1))
    recover(model, case, made, METHODS["encoder"])

    def work() -> None:
        recover(model, case, made, METHODS[method])

    return work
