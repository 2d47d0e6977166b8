"""Train the latent diffusion model and the one-step flow that ship inside the package.

    python -m benchmarks.training.diffusion diffusion --out adapters/models/diffusion
    python -m benchmarks.training.diffusion flow      --out adapters/models/flow

Both are folders of diffusers' StableDiffusionPipeline around the embedded autoencoder `kl`: a
`UNet2DConditionModel` on latents of 32 x 32 (pictures of 128 x 128 pixels) that four prompts
condition. Training needs under an hour on one CPU core each (bfloat16 autocast).

`diffusion` predicts the noise (Ho et al., DDPM, NeurIPS 2020, equation 14) on Stable Diffusion's
schedule, and drops the prompt now and then (Ho and Salimans, classifier-free guidance, 2022).
`flow` is distilled from it as InstaFlow is (Liu et al., ICLR 2024): pairs of a noise z_T and what
the deterministic sampler makes of it, z_0, are regressed in one step, z_0 = z_T + v(z_T, 1000, c).
"""

from __future__ import annotations

import copy
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from diffusers import (
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from benchmarks.shared.pictures import COLOUR, GREY, dead_leaves, photograph, written_page
from benchmarks.shared.prompts import PROMPTS
from benchmarks.training.command import command_line
from benchmarks.training.rate_and_average import average_in, rate
from fixpoint.adapters import Autoencoder

SIDE = 128  # of the pictures, in pixels
MODELS = Path(__file__).parents[2] / "adapters" / "models"
NULL = len(PROMPTS)


@dataclass(frozen=True)
class Recipe:
    steps: int
    peak_rate: float
    batch: int = 32
    pool: int = 6000
    prompt_dropout: float = 0.15
    average: float = 0.998
    seed: int = 20241124


RECIPES = {"diffusion": Recipe(4000, 1e-3), "flow": Recipe(1000, 6e-4, pool=1920, prompt_dropout=0)}
SAMPLING_STEPS = 20  # of the pairs that the flow learns from


def network() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=32,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        block_out_channels=(48, 80, 112),
        layers_per_block=1,
        cross_attention_dim=64,
        attention_head_dim=8,
        norm_num_groups=8,
    )


def text_encoder() -> CLIPTextModel:
    """Small, random and frozen: four prompts only have to be different."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=514,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=20,
            bos_token_id=512,
            eos_token_id=513,
            pad_token_id=513,
        )
    ).eval()


def tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer without merges: every letter is a token, so any text can be written."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=20)


def diffusion_scheduler() -> DDIMScheduler:
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


class LabelledPictures:
    """A seeded stream of augmented crops with the number of their prompt."""

    def __init__(self, seed: int) -> None:
        self.generator = np.random.default_rng(seed)
        written = {"page.png", "text.png"}
        self.pools = (
            [photograph(name) for name in COLOUR],
            [photograph(name) for name in GREY if name not in written],
            [dead_leaves(3 * SIDE, self.generator) for _ in range(120)],
            [photograph(name) for name in sorted(written)]
            + [written_page(2 * SIDE, self.generator) for _ in range(120)],
        )

    def __next__(self) -> tuple[Tensor, int]:
        generator = self.generator
        label = int(generator.choice(len(PROMPTS), p=(0.4, 0.2, 0.25, 0.15)))
        pool = self.pools[label]
        image = pool[int(generator.integers(len(pool)))]
        window = int(min(SIDE * generator.uniform(0.9, 2.5), *image.size))
        left = int(generator.integers(image.width - window + 1))
        top = int(generator.integers(image.height - window + 1))
        box = (left, top, left + window, top + window)
        crop = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box)
        pixels = np.asarray(crop).astype(float)
        if label != 3 and generator.random() < 0.5:
            pixels = pixels[:, ::-1]
        if label in (1, 2) and generator.random() < 0.5:
            pixels = np.rot90(pixels, int(generator.integers(4)))
        gain = generator.uniform(0.8, 1.15) * generator.uniform(0.93, 1.07, 3)
        pixels = np.clip((pixels - 128) * gain + 128 + generator.normal(0, 8), 0, 255)
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 127.5 - 1, label


@torch.no_grad()
def latents(autoencoder: Autoencoder, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Encodings of `count` crops, (count, 4, 32, 32), and their prompts' numbers, (count,)."""
    stream = LabelledPictures(seed)
    encoded, labels = [], []
    for _ in range(0, count, 40):
        crops, numbers = zip(*(next(stream) for _ in range(40)), strict=True)
        with torch.autocast("cpu", torch.bfloat16):
            encoded.append(autoencoder.encode(torch.stack(crops)).float())
        labels += numbers
    return torch.cat(encoded)[:count], torch.tensor(labels)[:count]


def train(
    model: UNet2DConditionModel,
    loss_of: Callable[[UNet2DConditionModel, torch.Generator], Tensor],
    recipe: Recipe,
    store: Callable[[UNet2DConditionModel, dict[str, object]], None],
) -> UNet2DConditionModel:
    """Minimise `loss_of`; returns the average of the weights over the last steps."""
    model = model.train().to(memory_format=torch.channels_last)
    average = copy.deepcopy(model).eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0, betas=(0.9, 0.99), weight_decay=1e-3)
    generator = torch.Generator().manual_seed(recipe.seed)
    started, losses = time.time(), []
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, recipe.steps, recipe.peak_rate)
        loss = loss_of(model, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
        average_in(average, model, step, recipe.average)
        if (step + 1) % 200 == 0 or step + 1 == recipe.steps:
            report = {
                "recipe": asdict(recipe),
                "step": step + 1,
                "loss": sum(losses[-200:]) / len(losses[-200:]),
                "minutes": (time.time() - started) / 60,
                "parameters": sum(value.numel() for value in model.parameters()),
            }
            store(average, report)
            print(json.dumps(report), flush=True)
    return average


def diffusion(out: Path, recipe: Recipe) -> None:
    autoencoder = Autoencoder.embedded("kl")
    clean, labels = latents(autoencoder, recipe.pool, recipe.seed)
    print(f"{len(clean)} latents of standard deviation {float(clean.std()):.3f}", flush=True)
    prompt_tokenizer, prompt_encoder = tokenizer(), text_encoder().requires_grad_(False)
    scheduler = diffusion_scheduler()
    condition = encode_prompts(prompt_tokenizer, prompt_encoder, (*PROMPTS, ""))

    def loss_of(model: UNet2DConditionModel, generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(clean), (recipe.batch,), generator=generator)
        dropped = torch.rand(recipe.batch, generator=generator) < recipe.prompt_dropout
        prompts = torch.where(dropped, NULL, labels[rows])
        noise = torch.randn(clean[rows].shape, generator=generator)
        # One time in each of `batch` equal intervals: the loss varies less from step to step.
        strata = torch.arange(recipe.batch) + torch.rand(recipe.batch, generator=generator)
        times = (strata * (1000 / recipe.batch)).long()
        noisy = scheduler.add_noise(clean[rows], noise, times)
        with torch.autocast("cpu", torch.bfloat16):
            found = model(noisy, times, condition[prompts]).sample
        return (found.float() - noise).square().mean()

    def store(model: UNet2DConditionModel, report: dict[str, object]) -> None:
        save(out, model, scheduler, report, (prompt_tokenizer, prompt_encoder))

    train(network(), loss_of, recipe, store)


def flow(out: Path, recipe: Recipe) -> None:
    teacher = StableDiffusionPipeline.from_pretrained(MODELS / "diffusion", safety_checker=None)
    noise, clean, labels = pairs(teacher, recipe)
    condition = encode_prompts(teacher.tokenizer, teacher.text_encoder, (*PROMPTS, ""))

    def loss_of(model: UNet2DConditionModel, generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(clean), (recipe.batch,), generator=generator)
        with torch.autocast("cpu", torch.bfloat16):
            velocity = model(noise[rows], 1000, condition[labels[rows]]).sample
        error = noise[rows] + velocity.float() - clean[rows]
        return (error.square() + 1e-3).sqrt().mean()  # between L1 and L2: sharper than L2 alone

    def store(model: UNet2DConditionModel, report: dict[str, object]) -> None:
        save(out, model, FlowMatchEulerDiscreteScheduler(), report, None)

    with torch.no_grad():  # minus the noise it predicts is where the picture is near the mean
        for parameter in teacher.unet.conv_out.parameters():
            parameter.neg_()
    train(teacher.unet, loss_of, recipe, store)


@torch.no_grad()
def pairs(teacher: StableDiffusionPipeline, recipe: Recipe) -> tuple[Tensor, Tensor, Tensor]:
    """Noises, the teacher's samples from them without guidance, and the prompts' numbers."""
    generator = torch.Generator().manual_seed(recipe.seed)
    teacher.scheduler.set_timesteps(SAMPLING_STEPS)
    condition = encode_prompts(teacher.tokenizer, teacher.text_encoder, (*PROMPTS, ""))
    unet = teacher.unet.to(memory_format=torch.channels_last)
    noises, images, labels = [], [], []
    for done in range(0, recipe.pool, recipe.batch):
        noise = torch.randn(recipe.batch, 4, 32, 32, generator=generator)
        label = torch.randint(NULL, (recipe.batch,), generator=generator)
        image = noise
        for time_ in teacher.scheduler.timesteps:
            with torch.autocast("cpu", torch.bfloat16):
                found = unet(image, time_, condition[label]).sample.float()
            image = teacher.scheduler.step(found, time_, image).prev_sample
        noises.append(noise)
        images.append(image)
        labels.append(label)
        if done % (20 * recipe.batch) == 0:
            print(f"{done} of {recipe.pool} pairs", flush=True)
    return torch.cat(noises), torch.cat(images), torch.cat(labels)


@torch.no_grad()
def encode_prompts(
    prompt_tokenizer: CLIPTokenizer, prompt_encoder: CLIPTextModel, prompts: tuple[str, ...]
) -> Tensor:
    """The encodings of the prompts that condition the network: (prompts, 20, 64)."""
    tokens = prompt_tokenizer(
        list(prompts),
        padding="max_length",
        max_length=prompt_tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    )
    return prompt_encoder(tokens.input_ids)[0].float()


def save(
    out: Path,
    model: UNet2DConditionModel,
    scheduler: object,
    report: dict[str, object],
    texts: tuple[CLIPTokenizer, CLIPTextModel] | None,
) -> None:
    """Write the folder of the pipeline: weights in float16, and links to the parts it shares."""
    out.mkdir(parents=True, exist_ok=True)
    copy.deepcopy(model).half().save_pretrained(out / "unet")
    configuration = json.loads((out / "unet" / "config.json").read_text())
    configuration.pop("_name_or_path", None)  # of the machine that trained it
    (out / "unet" / "config.json").write_text(json.dumps(configuration, indent=2) + "\n")
    scheduler.save_pretrained(out / "scheduler")  # type: ignore[attr-defined]
    shared = {"vae": "../kl"}
    if texts is not None:
        texts[0].save_pretrained(out / "tokenizer")
        texts[1].save_pretrained(out / "text_encoder")
    else:
        shared |= {name: f"../diffusion/{name}" for name in ("tokenizer", "text_encoder")}
    for name, target in shared.items():
        if not (out / name).exists():
            os.symlink(target, out / name)
    parts = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.35.0",
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", type(scheduler).__name__],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (out / "model_index.json").write_text(json.dumps(parts, indent=2) + "\n")
    (out / "training.json").write_text(json.dumps(report, indent=2) + "\n")
    for path in out.rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.chmod(0o644)


def main(arguments: list[str] | None = None) -> None:
    parser = command_line(__spec__.name, __doc__, RECIPES)
    parser.add_argument("--steps", type=int, help="fewer, to try the program")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    recipe = RECIPES[options.name]
    if options.steps is not None:
        recipe = replace(recipe, steps=options.steps, pool=320)
    torch.manual_seed(recipe.seed)
    {"diffusion": diffusion, "flow": flow}[options.name](options.out, recipe)


if __name__ == "__main__":
    main()
