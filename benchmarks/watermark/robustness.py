"""What is left of a key when a published picture is changed."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.watermark.cases import KEYS, LAST, SEED, Case, KnownPictures, drawn, make
from benchmarks.watermark.classification import judged, recover
from fixpoint.adapters import invert, invert_by_encoder
from fixpoint.adapters.diffusion.noise_recovery import DecoderInverter
from fixpoint.adapters.pictures.distortions import standard_distortions
from fixpoint.adapters.provenance.roc import Roc

DISTORTIONS = ("8 bit", "JPEG 75", "crop 0.75", "blur 1", "noise 0.1")


def robustness(case: Case, count: int) -> dict[str, Any]:
    """How well keys are still read in pictures that were changed.

    As many pictures without a key show how often a key is found where there is none. Ours knows
    the change, which is part of its operator.
    """
    model = case.load()
    marked = make(model, case, LAST, count // len(KEYS))
    noise = model.noise(len(marked.noise), seed=SEED + 1)
    plain = drawn(model, case, noise, marked.labels, marked.keys)
    found: dict[str, Any] = {}
    for name in DISTORTIONS:
        distortion = standard_distortions()[name]
        observation = distortion.observation(*marked.picture.shape[-2:])
        methods: dict[str, DecoderInverter] = {
            "encoder": invert_by_encoder,
            "ours": partial(invert, observation=observation),
        }
        found[name] = {}
        for method, invert_decoder in methods.items():
            noises = []
            for side, seed in ((marked, 0), (plain, 10**6)):
                seen = replace(side, picture=distortion(side.picture, seed=seed))
                read = [recover(model, case, batch, invert_decoder) for batch in seen.batches()]
                noises.append(torch.cat([each.noise for each in read]))
            shown = judged(marked, noises[0]) | detected(marked, *noises)
            found[name][method] = shown
            print(
                f"{name}, {method}: {shown['right']} of {shown['pictures']} classified, AUC "
                f"{shown['auc']:.3f}, TPR {shown['tpr']:.2f} and FPR {shown['fpr']:.2f} at "
                "p = 0.01",
                flush=True,
            )
    return {"case": case.settings(), "distortions": found}


def detected(marked: KnownPictures, with_key: Tensor, without: Tensor) -> dict[str, float]:
    """Detection of every key, in the pictures that carry it and in as many without a key."""
    sides = []
    for noise in (with_key, without):
        scores = torch.empty(len(noise), dtype=torch.float64)
        for label, key in enumerate(marked.keys):
            rows = marked.labels == label
            scores[rows] = -key.log10_p(noise[rows])
        sides.append(scores)
    positive, negative = sides
    return {
        "auc": Roc.of(positive, negative).auc,
        "tpr": float((positive >= 2).double().mean()),
        "fpr": float((negative >= 2).double().mean()),
        "median_log10_p": float(-positive.median()),
    }
