"""The pictures that the embedded autoencoders are trained and measured on.

Photographs come with scikit-image and scikit-learn; procedural pictures (dead leaves, text,
power-law noise) are drawn from a seed. `HELD_OUT` is never trained on.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from fixpoint.adapters import as_pictures

HELD_OUT = ("chelsea.png", "coffee.png", "china.jpg")
COLOUR = (
    "astronaut.png",
    "color.png",
    "flower.jpg",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "retina.jpg",
    "rocket.jpg",
)
GREY = (
    "brick.png",
    "camera.png",
    "cell.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "moon.png",
    "page.png",
    "text.png",
)


def photograph(name: str) -> Image.Image:
    """One bundled picture by file name, as RGB."""
    import skimage
    import sklearn

    folders = (
        Path(skimage.__file__).parent / "data",
        Path(sklearn.__file__).parent / "datasets" / "images",
    )
    for folder in folders:
        if (folder / name).is_file():
            return Image.open(folder / name).convert("RGB")
    raise FileNotFoundError(f"{name} comes neither with scikit-image nor with scikit-learn")


def held_out_crops(count: int, size: int = 64, seed: int = 0) -> Tensor:
    """`count` crops, spread evenly over the held-out photographs: (count, 3, size, size).

    Each photograph is halved first, as pictures of this kind are usually seen at screen size;
    positions are drawn without looking at the content.
    """
    generator = np.random.default_rng(seed)
    crops = []
    for index in range(count):
        image = photograph(HELD_OUT[index % len(HELD_OUT)])
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
        left = int(generator.integers(image.width - size + 1))
        top = int(generator.integers(image.height - size + 1))
        crops.append(as_pictures(image.crop((left, top, left + size, top + size))).values)
    return torch.cat(crops)


def dead_leaves(size: int, generator: np.random.Generator) -> Image.Image:
    """Overlapping discs and boxes with power-law sizes: the statistics of occlusion."""
    scale = 3
    side = size * scale
    image = Image.new("RGB", (side, side))
    draw = ImageDraw.Draw(image)
    base = generator.integers(0, 256, 3)
    spread = generator.uniform(20, 128)
    smallest = generator.uniform(2, 6)
    for _ in range(int(generator.integers(150, 900))):
        radius = scale * min(smallest / generator.uniform(0.02, 1.0) ** 0.7, size / 3)
        x, y = generator.uniform(0, side, 2)
        colour = np.clip(base + generator.normal(0, spread, 3), 0, 255).astype(int)
        if generator.random() < 0.6:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=tuple(colour))
        else:
            angle = generator.uniform(0, 2 * np.pi)
            ratio = generator.uniform(0.1, 1)
            corners = np.array([[-1, -ratio], [1, -ratio], [1, ratio], [-1, ratio]]) * radius
            rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            points = corners @ rotation.T + (x, y)
            draw.polygon([tuple(point) for point in points], fill=tuple(colour))
    pixels = np.asarray(image.resize((size, size), Image.Resampling.BOX)).astype(float)
    if generator.random() < 0.5:
        pixels += generator.uniform(5, 40) * power_law_noise(size, generator)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def power_law_noise(size: int, generator: np.random.Generator) -> np.ndarray:
    """Unit-variance noise with spectrum 1/f^a, a in [0.8, 2]: (size, size, 3)."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = 1 / size
    filters = frequency ** -generator.uniform(0.8, 2)
    mixing = generator.normal(size=(3, 3)) * 0.5 + np.eye(3)
    white = np.fft.rfft2(generator.normal(size=(3, size, size)), axes=(1, 2))
    noise = np.fft.irfft2(white * filters, s=(size, size), axes=(1, 2))
    noise = np.einsum("ij,jhw->hwi", mixing, noise)
    return noise / noise.std()


def written_page(size: int, generator: np.random.Generator) -> Image.Image:
    """Lines of random characters in several sizes and colours."""
    paper, ink = generator.integers(0, 256, 3), generator.integers(0, 256, 3)
    image = Image.new("RGB", (size, size), tuple(int(value) for value in paper))
    draw = ImageDraw.Draw(image)
    letters = list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,;:-+=()")
    y = 0
    while y < size:
        height = int(generator.integers(9, 34))
        words = "".join(generator.choice(letters, 60))
        colour = ink if generator.random() < 0.7 else generator.integers(0, 256, 3)
        font = ImageFont.load_default(height)
        draw.text((-int(generator.integers(20)), y), words, tuple(int(v) for v in colour), font)
        y += int(height * generator.uniform(1.0, 1.8))
    return image


class TrainingPictures:
    """An endless, seeded stream of batches of augmented crops: (batch, 3, size, size)."""

    def __init__(self, size: int, batch: int, seed: int, procedural: int = 160) -> None:
        self.size, self.batch = size, batch
        self.generator = np.random.default_rng(seed)
        side = 4 * size
        self.photographs = [photograph(name) for name in COLOUR]
        self.textures = [photograph(name) for name in GREY]
        self.leaves = [dead_leaves(side, self.generator) for _ in range(procedural)]
        self.pages = [written_page(side, self.generator) for _ in range(procedural // 4)]

    def crop(self) -> np.ndarray:
        """One augmented crop on [0, 255]: (size, size, 3)."""
        generator, size = self.generator, self.size
        kind = generator.random()
        if kind < 0.05:
            pixels = generator.integers(0, 256, 3) + generator.uniform(10, 80) * power_law_noise(
                size, generator
            )
        else:
            pool = (
                self.photographs
                if kind < 0.5
                else self.textures
                if kind < 0.65
                else self.leaves
                if kind < 0.92
                else self.pages
            )
            image = pool[int(generator.integers(len(pool)))]
            # The window is between 1 and 3 sides large: the same content at several resolutions.
            window = int(size * min(generator.uniform(0.8, 3), min(image.size) / size))
            left = int(generator.integers(image.width - window + 1))
            top = int(generator.integers(image.height - window + 1))
            box = (left, top, left + window, top + window)
            pixels = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box)).astype(
                float
            )
        return self.augment(pixels)

    def augment(self, pixels: np.ndarray) -> np.ndarray:
        """Flips, quarter turns, channel permutations, contrast, brightness and tint."""
        generator = self.generator
        pixels = np.rot90(pixels, int(generator.integers(4)))
        if generator.random() < 0.5:
            pixels = pixels[:, ::-1]
        if generator.random() < 0.3:
            pixels = pixels[:, :, generator.permutation(3)]
        if generator.random() < 0.5:
            gain = generator.uniform(0.6, 1.3) * generator.uniform(0.85, 1.15, 3)
            pixels = (pixels - 128) * gain + 128 + generator.normal(0, 20)
        if generator.random() < 0.1:
            pixels = np.repeat(pixels.mean(2, keepdims=True), 3, 2)
        return np.clip(pixels, 0, 255)

    def __next__(self) -> Tensor:
        crops = np.stack([self.crop() for _ in range(self.batch)])
        return torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 127.5 - 1
