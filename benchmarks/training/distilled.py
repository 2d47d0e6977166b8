"""Train the embedded pair whose halves were trained apart.

    python -m benchmarks.training.distilled --out adapters/models/distilled

A diffusers `AutoencoderTiny` is distilled against the embedded autoencoder `kl`, the way the tiny
autoencoders for previews are made (TAESD and its kin): the encoder learns the teacher's latents
of photographs by their squared error, the decoder learns the photographs from the teacher's
latents by 4 MSE + L1/2. Neither half ever sees what the other makes, so that nothing makes them
each other's inverse.

The latents are the teacher's in another layout: cells of 2 x 2 go into the channels, as FLUX.2's
pipeline does it, which gives factor 8 and 16 channels, and a linear map decorrelates the channels
and gives all of them about one variance. Details then weigh as much as mean colours, which is
what makes such a latent hard to read off a picture.

Seeded, under an hour on one CPU core (bfloat16 autocast).
"""

from __future__ import annotations

import copy
import json
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from torch import Tensor, nn
from torch.nn.functional import conv2d, pixel_shuffle, pixel_unshuffle

from benchmarks.shared.jacobians import spectrum
from benchmarks.shared.pictures import TrainingPictures, held_out_crops
from benchmarks.training.autoencoders import reconstruction_loss
from benchmarks.training.command import command_line
from benchmarks.training.rate_and_average import average_in, rate
from fixpoint.adapters import Autoencoder, EightBit, nmse_db

DEVIATION = 0.5
"""Of the channels as the nets see them: their tanh(z / 3) then bends rare values only."""


@dataclass(frozen=True)
class Recipe:
    teacher: str = "kl"
    cells: int = 2  # of the teacher, along each side of one cell of ours
    width: int = 32
    blocks: tuple[int, ...] = (1, 3, 3, 3)  # of the encoder, from the pixels on
    floor: float = 0.1  # added to every channel's variance, in units of their mean
    steps: int = 1000
    l1_weight: float = 0.5
    peak_rate: float = 1e-3
    batch: int = 16
    size: int = 64
    seed: int = 20241127


class Teacher:
    """The teacher in the layout of the student's latents."""

    def __init__(self, recipe: Recipe) -> None:
        self.autoencoder, self.cells = Autoencoder.embedded(recipe.teacher), recipe.cells
        pictures = TrainingPictures(recipe.size, 64, recipe.seed + 1, procedural=60)
        latents = torch.cat([self.stacked(next(pictures)) for _ in range(8)])
        values = latents.movedim(1, -1).flatten(0, -2).double()
        variances, directions = torch.linalg.eigh(torch.cov(values.T))
        deviations = (variances + recipe.floor * variances.mean()).sqrt() / DEVIATION
        self.mean = values.mean(0).float()[:, None, None]
        self.matrix = (directions / deviations).T.float()[..., None, None]
        self.inverse = (directions * deviations).float()[..., None, None]
        self.channels = len(variances)

    @torch.no_grad()
    def stacked(self, pictures: Tensor) -> Tensor:
        """The teacher's latents with cells of 2 x 2 in the channels."""
        return pixel_unshuffle(self.autoencoder.encode(pictures), self.cells)

    def standardised(self, stacked: Tensor) -> Tensor:
        """Stacked latents with uncorrelated channels of one deviation."""
        return conv2d(stacked - self.mean, self.matrix)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Pictures of standardised latents."""
        stacked = conv2d(latents, self.inverse) + self.mean
        return self.autoencoder.decode(pixel_shuffle(stacked, self.cells)).clamp(-1, 1)


def build(recipe: Recipe, channels: int) -> AutoencoderTiny:
    widths = (recipe.width,) * len(recipe.blocks)
    return AutoencoderTiny(
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        num_encoder_blocks=recipe.blocks,
        num_decoder_blocks=recipe.blocks[::-1],
        latent_channels=channels,
        scaling_factor=1 / DEVIATION,
    )


def psnr_db(pictures: Tensor, targets: Tensor) -> float:
    """Mean over the pictures."""
    error = (pictures.clamp(-1, 1) - targets).square().flatten(1).mean(1)
    return float((10 * torch.log10(4 / error)).mean())


@torch.no_grad()
def measure(model: AutoencoderTiny, teacher: Teacher, crops: Tensor) -> dict[str, object]:
    """Held-out figures of each half against the teacher, and of both together."""
    student = Autoencoder.from_diffusers(model)
    latents, taught = student.encode(crops), teacher.standardised(teacher.stacked(crops))
    drawn = EightBit()(student.decode(latents))
    own = nmse_db(student.encode(drawn), latents)
    return {
        "decoder_psnr_db_to_teacher": psnr_db(
            student.decode(taught / DEVIATION), teacher.decode(taught)
        ),
        "encoder_nmse_db_to_teacher": float(nmse_db(latents * DEVIATION, taught).mean()),
        "psnr_db": psnr_db(drawn, crops),
        "teacher_psnr_db": psnr_db(teacher.decode(taught), crops),
        "encoder_nmse_db": float(own.mean()),
        "encoder_nmse_db_worst": float(own.max()),
        "latent_std": [float(value) for value in latents.std(dim=(0, 2, 3))],
        "spectrum_of_4": spectrum(student, student.encode(crops[:4, :, :32, :32])),
    }


def train(recipe: Recipe, out: Path, threads: int) -> None:
    torch.manual_seed(recipe.seed)
    torch.set_num_threads(threads)
    teacher = Teacher(recipe)
    model = build(recipe, teacher.channels).to(memory_format=torch.channels_last)
    average = copy.deepcopy(model).eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0, betas=(0.9, 0.99), weight_decay=1e-4)
    pictures = TrainingPictures(recipe.size, recipe.batch, recipe.seed)
    crops = held_out_crops(48)
    started = time.time()

    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, recipe.steps, recipe.peak_rate)
        target = next(pictures).to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            stacked = teacher.stacked(target)
        taught = teacher.standardised(stacked.float())
        with torch.autocast("cpu", torch.bfloat16):
            encoded, decoded = model.encoder(target), model.decoder(taught)
        encoder_loss = (encoded.float() - taught).square().mean()
        decoder_loss = reconstruction_loss(decoded.float(), target, recipe.l1_weight)
        optimizer.zero_grad(set_to_none=True)
        (encoder_loss + decoder_loss).backward()  # no parameter is in both
        for half in (model.encoder, model.decoder):
            nn.utils.clip_grad_norm_(half.parameters(), 1.0)
        optimizer.step()

        average_in(average, model, step, 0.995)
        if (step + 1) % 250 == 0 or step + 1 == recipe.steps:
            report = store(average, teacher, crops, out)
            report |= {"step": step + 1, "minutes": (time.time() - started) / 60}
            (out / "training.json").write_text(json.dumps(report, indent=2) + "\n")
            print(json.dumps(report), flush=True)


def store(model: AutoencoderTiny, teacher: Teacher, crops: Tensor, out: Path) -> dict[str, object]:
    """Save a float16 copy, and measure what it is once loaded in float32 again."""
    stored = copy.deepcopy(model).half().float()
    report = measure(stored, teacher, crops)
    stored.half().save_pretrained(out)
    for path in out.iterdir():
        path.chmod(0o644)
    return report


def main(arguments: list[str] | None = None) -> None:
    parser = command_line(__spec__.name, __doc__)
    parser.add_argument("--steps", type=int, help="fewer, to try the program")
    options = parser.parse_args(arguments)
    recipe = Recipe() if options.steps is None else Recipe(steps=options.steps)
    train(recipe, options.out, options.threads)


if __name__ == "__main__":
    main()
