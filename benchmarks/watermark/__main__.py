"""Watermarks in the noise of the embedded pipelines: the paper's table 2 and figure S1.

    python -m benchmarks.watermark --out docs                # measure, draw, write the page
    python -m benchmarks.watermark --out docs --part flow    # one part of it
    python -m benchmarks.watermark --out docs --render       # draw and write what is stored

Three keys times 100 pictures for each of two models: `diffusion`, which is sampled in 25
steps and inverted by naive DDIM, as the paper does in 50 with Stable Diffusion 2.1, and the
one-step `flow`, whose operator `solve` inverts, as the paper's InstaFlow. Pictures are saved with
8 bits. Every method gets the same pictures, and hands its latent to the same inversion of the
sampling.
Every part is stored as soon as it is measured, as `results/watermark_PART.json`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.shared import fresh_process
from benchmarks.shared.command import add_render, command_line, parse
from benchmarks.shared.machine import machine_name
from benchmarks.shared.prompts import PROMPTS
from benchmarks.shared.stored import store
from benchmarks.shared.tables import summary
from benchmarks.watermark import page as watermark_page
from fixpoint.adapters import (
    Clip,
    EightBit,
    invert,
    invert_by_encoder,
    invert_by_gradient,
    nmse_db,
)
from fixpoint.adapters.distortions import standard_distortions
from fixpoint.adapters.latent_diffusion import LatentDiffusion
from fixpoint.adapters.recover_noise import DecoderInverter, RecoveredNoise, recover_noise
from fixpoint.adapters.roc import Roc
from fixpoint.adapters.sampling import Method
from fixpoint.adapters.tree_ring import TreeRing, classify

KEYS = (1, 2, 3)
BATCH = 10  # pictures at a time
SEED = 0
DISTORTIONS = ("8 bit", "JPEG 75", "crop 0.75", "blur 1", "noise 0.1")
Say = Callable[[str], object]

METHODS: dict[str, DecoderInverter] = {
    "encoder": invert_by_encoder,
    "ours": invert,
    "gradient, L-BFGS": partial(
        invert_by_gradient, steps=40, optimizer="lbfgs", observation=Clip()
    ),
    "gradient, Adam": partial(invert_by_gradient, steps=100),
}
SLOW = ("gradient, L-BFGS", "gradient, Adam")  # given the first pictures alone


@dataclass(frozen=True)
class Mark:
    """Where the keys are put, which methods look for them, and in which share of the pictures."""

    mask: str
    channel: int
    methods: tuple[str, ...]
    share: float = 1.0


@dataclass(frozen=True)
class Case:
    """How a model's pictures are made and taken back to the noise."""

    model: str
    steps: int
    guidance: float
    method: Method  # of inverting the sampling
    marks: dict[str, Mark]

    def load(self) -> LatentDiffusion:
        return LatentDiffusion.embedded(self.model)

    def settings(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "steps": self.steps,
            "guidance": self.guidance,
            "method": self.method,
        }


FIRST = Mark("centred", 0, tuple(METHODS))
LAST = Mark("centred", 3, ("encoder", "ours"))
OFFICIAL = Mark("official", 0, ("encoder", "ours"), share=0.1)
CASES = {
    "diffusion": Case(
        "diffusion", 25, 3.0, "naive", {"channel 0": FIRST, "channel 0, official mask": OFFICIAL}
    ),
    "diffusion_channel_3": Case("diffusion", 25, 3.0, "naive", {"channel 3": LAST}),
    "flow": Case("flow", 1, 1.0, "backward-euler", {"channel 0": FIRST}),
}


@dataclass(frozen=True)
class Made:
    """Pictures whose noise is known; `labels` number their keys."""

    noise: Tensor
    latent: Tensor
    picture: Tensor
    prompts: tuple[str, ...]
    labels: Tensor
    keys: tuple[TreeRing, ...]

    def rows(self, rows: slice) -> Made:
        noise, latent, picture = (part[rows] for part in (self.noise, self.latent, self.picture))
        return Made(noise, latent, picture, self.prompts[rows], self.labels[rows], self.keys)

    def batches(self) -> list[Made]:
        return [self.rows(slice(at, at + BATCH)) for at in range(0, len(self.noise), BATCH)]


def make(model: LatentDiffusion, case: Case, mark: Mark, count: int) -> Made:
    """`count` pictures a key, saved with 8 bits."""
    keys = tuple(
        TreeRing.paper(model.latent_shape, key=key, mask=mark.mask, channel=mark.channel)
        for key in KEYS
    )
    noise = model.noise(count * len(keys), seed=SEED)
    labels = torch.arange(len(noise)) % len(keys)
    for label, key in enumerate(keys):
        noise[labels == label] = key.embed(noise[labels == label])
    return drawn(model, case, noise, labels, keys)


def drawn(
    model: LatentDiffusion, case: Case, noise: Tensor, labels: Tensor, keys: tuple[TreeRing, ...]
) -> Made:
    prompts = tuple(PROMPTS[(row // len(keys)) % len(PROMPTS)] for row in range(len(noise)))
    latents, pictures = [], []
    for at in range(0, len(noise), BATCH):
        told = prompts[at : at + BATCH]
        sampling = model.sampling(told, steps=case.steps, guidance=case.guidance)
        latents.append(sampling.generate(noise[at : at + BATCH]))
        pictures.append(EightBit()(model.decode(latents[-1])))
    return Made(noise, torch.cat(latents), torch.cat(pictures), prompts, labels, keys)


def recover(
    model: LatentDiffusion, case: Case, made: Made, invert_decoder: DecoderInverter
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


def classification(part: str, count: int, slow: dict[str, int], say: Say) -> dict[str, Any]:
    """Every method on the same pictures, `count` a key, of which SLOW gets the first ones."""
    case = CASES[part]
    model = case.load()
    marks: dict[str, Any] = {}
    for title, mark in case.marks.items():
        made = make(model, case, mark, max(1, round(mark.share * count)))
        marks[title] = {"exact noise": judged(made, made.noise)}
        say(f"{case.model}, {title}, exact noise: {marks[title]['exact noise']['right']}")
        for name in mark.methods:
            given = made.rows(slice(0, slow.get(name, count) * len(KEYS)))
            marks[title][name] = shown = recovered(model, case, given, METHODS[name])
            say(
                f"{case.model}, {title}, {name}: {shown['right']} ({shown['right_by_angle']} by "
                f"angle) of {shown['pictures']}, z_0 {shown['latent']['nmse_db']:.1f} dB, z_T "
                f"{shown['noise']['nmse_db']:.1f} dB, {shown['decoder_seconds']:.2f} s of "
                f"{shown['seconds']:.2f} s a picture, {shown['evaluations']:.1f} evaluations"
            )
    return {"case": case.settings(), "marks": marks, "peaks": peaks(part)}


def recovered(
    model: LatentDiffusion, case: Case, made: Made, invert_decoder: DecoderInverter
) -> dict[str, Any]:
    """One method on every picture: what it found, and its time a picture."""
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


def judged(made: Made, noise: Tensor) -> dict[str, Any]:
    """The keys that a noise is read as, against the truth."""
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
            "benchmarks.watermark.__main__:one_picture", part=part, method=name
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


def robustness(case: Case, count: int, say: Say) -> dict[str, Any]:
    """What happens to a published picture, and what can still be read in it.

    As many pictures without a key tell how often one is found where there is none. Ours is told
    what happened, and has it stand inside the operator.
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
            say(
                f"{name}, {method}: {shown['right']} of {shown['pictures']} classified, AUC "
                f"{shown['auc']:.3f}, TPR {shown['tpr']:.2f} and FPR {shown['fpr']:.2f} at p = 0.01"
            )
    return {"case": case.settings(), "distortions": found}


def detected(marked: Made, with_key: Tensor, without: Tensor) -> dict[str, float]:
    """Every key looked for in the pictures that carry it and in as many that carry none."""
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


def main(arguments: list[str] | None = None) -> None:
    parser = command_line(__spec__.name, __doc__, "watermark-benchmark.md")
    parser.add_argument("--part", choices=watermark_page.PARTS, help="measure one part alone")
    parser.add_argument("--count", type=int, default=100, metavar="N", help="pictures a key")
    parser.add_argument("--lbfgs", type=int, default=100, metavar="N", help="of them for L-BFGS")
    parser.add_argument("--adam", type=int, default=100, metavar="N", help="of them for Adam")
    parser.add_argument("--robust", type=int, default=60, metavar="N", help="pictures a distortion")
    add_render(parser)
    options = parse(parser, arguments)
    say: Say = partial(print, flush=True)
    slow = dict(zip(SLOW, (options.lbfgs, options.adam), strict=True))
    parts = watermark_page.PARTS if options.part is None else (options.part,)
    for part in () if options.render else parts:
        if part == "robustness":
            found = robustness(CASES["diffusion_channel_3"], options.robust, say)
        else:
            found = classification(part, options.count, slow, say)
        found["machine"] = machine_name()
        store(options.out, f"watermark_{part}", found)
    watermark_page.write(options.out)


if __name__ == "__main__":
    main()
