"""Train the two embedded autoencoders whose halves are trained as one.

    python -m benchmarks.training.autoencoders kl           --out adapters/models/kl
    python -m benchmarks.training.autoencoders adversarial  --out adapters/models/adversarial

Both are diffusers `AutoencoderKL`s, seeded, under an hour on one CPU core each (bfloat16
autocast). The loss is 4 MSE (`kl` adds L1/2) on pixels plus the KL divergence to a standard
normal; `adversarial` adds, from step 2,500 of 4,000 on, a patch discriminator with a hinge loss
and the adaptive weight of Esser et al. (Taming Transformers, CVPR 2021, equation 7).

Three choices keep every latent channel alive and every cell identifiable: the squared error (the
L1 error of differences, common elsewhere, has a plateau where only mean colours are coded),
residual branches and posterior variances that start near zero, and a KL weight that makes the
huge local activations costly with which networks with GroupNorm transport global information.
"""

from __future__ import annotations

import copy
import json
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from benchmarks.shared.pictures import TrainingPictures, held_out_crops
from benchmarks.training.command import command_line
from benchmarks.training.rate_and_average import average_in, rate


@dataclass(frozen=True)
class Recipe:
    """Sizes, weights of the loss and lengths, by which the two autoencoders differ."""

    channels: tuple[int, ...]
    latent_channels: int
    attention: bool
    steps: int
    kl_weight: float
    l1_weight: float
    kl_warmup: int  # steps over which the weight grows to its value
    adversarial_from: int | None
    peak_rate: float = 1.5e-3
    batch: int = 16
    size: int = 64
    seed: int = 20241113


RECIPES = {
    "kl": Recipe((32, 64, 96), 4, False, 4000, 1e-3, 0.5, 0, None),
    "adversarial": Recipe((32, 64, 64, 96), 8, True, 4000, 5e-4, 0.0, 1500, 2500),
}


def build(recipe: Recipe) -> AutoencoderKL:
    depth = len(recipe.channels)
    model = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * depth,
        up_block_types=("UpDecoderBlock2D",) * depth,
        block_out_channels=recipe.channels,
        layers_per_block=1,
        latent_channels=recipe.latent_channels,
        norm_num_groups=4,
        sample_size=recipe.size,
        mid_block_add_attention=recipe.attention,
        force_upcast=False,
    )
    for name, parameter in model.named_parameters():
        if ".conv2." in name or ".to_out." in name:
            nn.init.zeros_(parameter)
    nn.init.constant_(model.quant_conv.bias[model.config.latent_channels :], -6.0)
    return model


class PatchDiscriminator(nn.Sequential):
    """A PatchGAN of three strided convolutions: pictures to a map of real/fake scores."""

    def __init__(self, width: int = 32) -> None:
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for _ in range(2):
            layers += [
                nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False),
                nn.GroupNorm(8, 2 * width),
                nn.LeakyReLU(0.2),
            ]
            width *= 2
        super().__init__(*layers, nn.Conv2d(width, 1, 3, 1, 1))


def reconstruction_loss(output: Tensor, target: Tensor, l1_weight: float) -> Tensor:
    error = output - target
    return 4 * error.square().mean() + l1_weight * error.abs().mean()


@torch.no_grad()
def measure(model: AutoencoderKL, crops: Tensor) -> dict[str, object]:
    """Held-out PSNR, scale of the latents, and how decoding reacts to each latent channel."""
    latent = model.encode(crops).latent_dist.mode()
    output = model.decode(latent).sample.clamp(-1, 1)
    psnr = 10 * torch.log10(4 / (output - crops).square().flatten(1).mean(1))
    scale = latent.std(dim=(0, 2, 3))
    again = model.encode(output).latent_dist.mode()
    consistency = (again - latent).flatten(1).norm(dim=1) / latent.flatten(1).norm(dim=1)
    reaction = []
    for channel in range(latent.shape[1]):
        moved = latent.clone()
        moved[:, channel] += 0.1 * scale[channel]
        change = model.decode(moved).sample - model.decode(latent).sample
        reaction.append(float(change.square().mean().sqrt() / 0.1))
    return {
        "psnr_db": float(psnr.mean()),
        "psnr_db_worst": float(psnr.min()),
        "latent_std": [float(value) for value in scale],
        "reaction_per_channel": reaction,
        "encoder_nmse_db": float((20 * consistency.log10()).mean()),
        "scaling_factor": float(1 / latent.std()),
    }


def train(name: str, out: Path, threads: int) -> None:
    recipe = RECIPES[name]
    torch.manual_seed(recipe.seed)
    torch.set_num_threads(threads)
    model = build(recipe).to(memory_format=torch.channels_last)
    average = copy.deepcopy(model).eval()
    discriminator = PatchDiscriminator()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0, betas=(0.9, 0.99), weight_decay=1e-4)
    judge = torch.optim.Adam(discriminator.parameters(), lr=4e-4, betas=(0.5, 0.9))
    # Every fourth batch holds larger pictures: GroupNorm's statistics depend on the size.
    small = TrainingPictures(recipe.size, recipe.batch, recipe.seed)
    large = TrainingPictures(2 * recipe.size, recipe.batch // 4, recipe.seed + 1, procedural=60)
    crops = held_out_crops(48)
    last_layer = model.decoder.conv_out.weight
    started = time.time()

    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, recipe.steps, recipe.peak_rate)
        target = next(large if step % 4 == 3 else small).to(memory_format=torch.channels_last)
        fooling = recipe.adversarial_from is not None and step >= recipe.adversarial_from
        with torch.autocast("cpu", torch.bfloat16):
            posterior = model.encode(target).latent_dist
            output = model.decode(posterior.sample()).sample
        output = output.float()
        reconstruction = reconstruction_loss(output, target, recipe.l1_weight)
        divergence = posterior.kl().float().mean() / posterior.mean[0].numel()
        warmup = min(1.0, (step + 1) / recipe.kl_warmup) if recipe.kl_warmup else 1.0
        loss = reconstruction + recipe.kl_weight * warmup * divergence
        if fooling:
            discriminator.requires_grad_(False)
            with torch.autocast("cpu", torch.bfloat16):
                deception = -discriminator(output).float().mean()
            (pull,) = torch.autograd.grad(reconstruction, last_layer, retain_graph=True)
            (push,) = torch.autograd.grad(deception, last_layer, retain_graph=True)
            weight = (pull.norm() / (push.norm() + 1e-4)).clamp(0, 1e4)
            loss = loss + 0.5 * weight * deception
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if fooling:
            discriminator.requires_grad_(True)
            with torch.autocast("cpu", torch.bfloat16):
                real, fake = discriminator(target).float(), discriminator(output.detach()).float()
            hinge = (1 - real).relu().mean() + (1 + fake).relu().mean()
            judge.zero_grad(set_to_none=True)
            hinge.backward()
            judge.step()

        average_in(average, model, step, 0.998)
        if (step + 1) % 250 == 0 or step + 1 == recipe.steps:
            report = store(average, crops, out)
            report |= {"step": step + 1, "minutes": (time.time() - started) / 60}
            (out / "training.json").write_text(json.dumps(report, indent=2) + "\n")
            print(json.dumps(report), flush=True)


def store(model: AutoencoderKL, crops: Tensor, out: Path) -> dict[str, object]:
    """Save a float16 copy, and measure what it is once loaded in float32 again."""
    stored = copy.deepcopy(model).half().float()
    report = measure(stored, crops)
    stored.register_to_config(scaling_factor=report["scaling_factor"])
    stored.half().save_pretrained(out)
    for path in out.iterdir():
        path.chmod(0o644)
    return report


def main(arguments: list[str] | None = None) -> None:
    options = command_line(__spec__.name, __doc__, RECIPES).parse_args(arguments)
    train(options.name, options.out, options.threads)


if __name__ == "__main__":
    main()
