"""Figures of an inversion, of an edit and of the demonstration."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from fixpoint.adapters.pictures.pictures import to_pil
from fixpoint.checkpoints.whole_file import write_whole
from fixpoint.solution import Solution
from fixpoint.status import Status

COLOURS = ("#6b7280", "#d97706", "#2563eb", "#16a34a", "#9333ea", "#dc2626")


class Inverted(Protocol):
    """What the figure of an inversion needs; `fixpoint.adapters.Inversion` has it."""

    @property
    def picture(self) -> Tensor: ...
    @property
    def reconstruction(self) -> Tensor: ...
    @property
    def psnr_db(self) -> Tensor: ...
    @property
    def solution(self) -> Solution | None: ...
    @property
    def status(self) -> tuple[Status, ...]: ...


def inversion_figure(path: Path, inversion: Inverted, row: int, title: str) -> None:
    """Draw picture, reconstruction, error map and convergence of one row, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 3.8), layout="constrained", dpi=110)
    axes = figure.subplots(1, 4, width_ratios=(1, 1, 1.12, 1.35))
    _show(axes[0], inversion.picture[row], "picture")
    psnr = float(inversion.psnr_db[row])
    _show(axes[1], inversion.reconstruction[row], f"D(latent): {psnr:.1f} dB PSNR")
    error = (inversion.reconstruction[row] - inversion.picture[row]).abs().amax(0) * 127.5
    drawn = axes[2].imshow(
        error.cpu().numpy(), cmap="magma", vmin=0, vmax=max(1.0, float(error.max()))
    )
    axes[2].set_title("largest error of a pixel (8-bit levels)", fontsize=10)
    axes[2].set_axis_off()
    figure.colorbar(drawn, ax=axes[2], fraction=0.046)
    curve = axes[3]
    if inversion.solution is None:
        curve.text(0.5, 0.5, "no solver ran", ha="center", va="center")
        curve.set_axis_off()
    else:
        history = inversion.solution.history
        _curve(curve, history.residual_norm[:, row], "residual  ||T z||", COLOURS[2])
        if "misfit" in history.measured:
            levels = history.measured["misfit"][:, row] * 127.5
            _curve(curve, levels, "pixel misfit (rms, 8-bit levels)", COLOURS[1])
        curve.set_title(inversion.status[row].name, fontsize=10)
        curve.set_xlabel("evaluations of E(D(z))")
        curve.legend(fontsize=8, frameon=False)
    figure.suptitle(title, fontsize=11, parse_math=False)
    _save(figure, path)


def edit_figure(path: Path, before: Tensor, mask: Tensor, after: Tensor, title: str) -> None:
    """Draw a picture, what of it is drawn anew, the result and the difference, as a PNG.

    Args:
        path: of the PNG.
        before, after: (3, height, width) on [-1, 1].
        mask: (height, width), true where the picture is drawn anew.
        title: of the whole figure.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3.8), layout="constrained", dpi=110)
    axes = figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.12))
    before, mask, after = before.cpu(), mask.cpu(), after.cpu()
    _show(axes[0], before, "before")
    _show(axes[1], torch.where(mask, before, before * 0.25 - 0.75), "mask: what is drawn anew")
    _show(axes[2], after, "after")
    change = (after - before).abs().amax(0) * 127.5
    drawn = axes[3].imshow(change.numpy(), cmap="magma", vmin=0, vmax=max(1.0, float(change.max())))
    axes[3].set_title("change of a pixel (8-bit levels)", fontsize=10)
    axes[3].set_axis_off()
    figure.colorbar(drawn, ax=axes[3], fraction=0.046)
    figure.suptitle(title, fontsize=11, parse_math=False)
    _save(figure, path)


def demo_figure(
    path: Path,
    picture: Tensor,
    errors: Mapping[str, Tensor],
    curves: Mapping[str, Sequence[float]],
    table: Sequence[Mapping[str, Any]],
    title: str,
) -> None:
    """Draw the picture, a map of each method's latent error, and NMSE against evaluations.

    Args:
        path: of the PNG.
        picture: (3, height, width) on [-1, 1].
        errors: by method, `|z - z*|` relative to the scale of z*: (rows, columns).
        curves: by method, NMSE in dB after 1, 2, ... evaluations.
        table: for each method, "name", "nmse_db", "evaluations", "seconds" and "peak_bytes".
        title: of the whole figure.
    """
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 6.8), layout="constrained", dpi=110)
    grid = figure.add_gridspec(2, 1, height_ratios=(1, 1.25))
    upper = grid[0].subgridspec(1, len(errors) + 1, width_ratios=[1] * len(errors) + [1.0])
    _show(figure.add_subplot(upper[0]), picture, "x = D(z*), 8 bits")
    norm = LogNorm(1e-4, 1)
    axes = []
    for index, (name, error) in enumerate(errors.items()):
        axis = figure.add_subplot(upper[index + 1])
        drawn = axis.imshow(error.clamp(1e-4, 1).numpy(), cmap="magma", norm=norm)
        axis.set_title(f"{name}\n{_decibels(table[index]['nmse_db'])} dB", fontsize=10)
        axis.set_axis_off()
        axes.append(axis)
    figure.colorbar(drawn, ax=axes, fraction=0.03, label="|z - z*| / std z*")
    lower = grid[1].subgridspec(1, 2, width_ratios=(1.3, 1))
    curve = figure.add_subplot(lower[0])
    for index, (name, values) in enumerate(curves.items()):
        steps = range(1, len(values) + 1)
        marker = "o" if len(values) <= 2 else None
        curve.plot(steps, values, color=COLOURS[index], label=name, lw=2, marker=marker)
    curve.set_xscale("log")
    curve.set_xlabel("evaluations (of E(D(z)), or gradient steps)")
    curve.set_ylabel("NMSE of the latent (dB), lower is better")
    curve.grid(alpha=0.25)
    curve.legend(fontsize=9, frameon=False)
    sheet = figure.add_subplot(lower[1])
    sheet.set_axis_off()
    cells = [
        [
            row["name"],
            _decibels(row["nmse_db"]),
            str(row["evaluations"]),
            f"{row['seconds']:.2f}",
            "-" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 2**20:.0f}",
        ]
        for row in table
    ]
    heads = ["method", "NMSE dB", "eval.", "seconds", "peak MiB"]
    drawn_table = sheet.table(
        cells, colLabels=heads, loc="center", colWidths=[0.34, 0.17, 0.13, 0.16, 0.18]
    )
    for row in range(1, len(cells) + 1):
        drawn_table[row, 0].set_text_props(ha="left")
    drawn_table.auto_set_font_size(False)
    drawn_table.set_fontsize(9.5)
    drawn_table.scale(1, 1.9)
    figure.suptitle(title, fontsize=12, parse_math=False)
    _save(figure, path)


def strip_figure(path: Path, pictures: Mapping[str, Tensor], title: str) -> None:
    """Draw pictures (3, height, width) on [-1, 1] beside each other, each under its name."""
    from matplotlib.figure import Figure

    height, width = next(iter(pictures.values())).shape[-2:]
    side = 4.2
    size = (side * len(pictures), side * height / width + 0.55)
    figure = Figure(figsize=size, layout="constrained", dpi=110)
    for axis, (name, picture) in zip(
        figure.subplots(1, len(pictures), squeeze=False)[0], pictures.items(), strict=True
    ):
        _show(axis, picture, name)
        axis.title.set_fontsize(13)
    figure.suptitle(title, fontsize=12, parse_math=False)
    _save(figure, path)


def _decibels(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _save(figure: Any, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a file name in another script
        write_whole(path, lambda temporary: figure.savefig(temporary))


def _show(axis: Any, picture: Tensor, title: str) -> None:
    axis.imshow(to_pil(picture.clamp(-1, 1)), interpolation="nearest")
    axis.set_title(title, fontsize=10)
    axis.set_axis_off()


def _curve(axis: Any, values: Tensor, label: str, colour: str) -> None:
    values = values.cpu()[~torch.isnan(values.cpu())]
    positive = torch.where(values > 0, values, torch.nan)
    axis.semilogy(range(1, len(values) + 1), positive.numpy(), label=label, color=colour, lw=2)
    axis.grid(alpha=0.25)
