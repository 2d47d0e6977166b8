"""A learned inverse: the trained network with its card, as a file that belongs to one pair."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint.adapters.autoencoders.digest import WeighedPair, digest_of_model
from fixpoint.adapters.autoencoders.inverse.network import InverseNetwork, NetworkSizes
from fixpoint.adapters.reports.latent_files import check_file, write_json
from fixpoint.checkpoints.whole_file import write_whole

FORMAT = "fixpoint inverse 1"


@dataclass(frozen=True)
class InverseCard:
    """What a learned inverse is, and how far it goes on pictures that it was not trained on.

    NMSE is that of latents z* = E(photograph), from Q(D(z*)) in 8 bits, in dB.

    Attributes:
        pair: the name of the autoencoder.
        digest: of its weights and dtype.
        pictures: that it was trained on.
        held_out: crops of other pictures, that it was measured on.
        side: of the crops, in pixels.
        batch, steps: of the training; `steps_done` of them are done.
        seconds: that they took, with all measurements.
        machine: that they ran on, last.
        encoder_db: mean NMSE of E(x).
        calibrated_db: after the calibrated steps of `Autoencoder.calibrate`.
        passes_db: after 1, 2, ... passes, of which each row keeps those that bring D(z) nearer to
            the picture.
        worst_db: the largest NMSE of a crop: of the encoder's, and after the best number of passes.
        worse: crops whose latent is worse after them than the encoder's.
    """

    pair: str
    digest: str
    pictures: int
    held_out: int
    side: int
    batch: int
    steps: int
    steps_done: int
    seconds: float
    machine: str
    encoder_db: float
    calibrated_db: float
    passes_db: tuple[float, ...]
    worst_db: tuple[float, float]
    worse: int

    @property
    def passes(self) -> int:
        """How many passes are best: `invert` makes no more."""
        return 1 + self.passes_db.index(min(self.passes_db))

    @property
    def gain_db(self) -> float:
        """How much lower the mean NMSE is after them than the encoder's."""
        return self.encoder_db - min(self.passes_db)


@dataclass(frozen=True)
class LearnedInverse:
    """A network that corrects latents, trained for one pair of encoder and decoder.

    Attributes:
        network: see `InverseNetwork`; float32, without gradients.
        card: what it is, and how far it goes.
    """

    network: InverseNetwork
    card: InverseCard

    @torch.no_grad()
    def correction(
        self,
        image: Float[Tensor, "batch 3 height width"],
        seen: Float[Tensor, "batch 3 height width"],
        z: Float[Tensor, "batch channels rows columns"],
        start: Float[Tensor, "batch channels rows columns"],
        residual: Float[Tensor, "batch channels rows columns"],
        number: int,
    ) -> Float[Tensor, "batch channels rows columns"]:
        """What is to be added to z; row by row, so that none depends on its neighbours.

        Args:
            image, seen, z, start, residual: x, Q(D(z)), the latent, E(x), T z.
            number: of the pass, from 0.
        """
        return corrections(self.network, image, seen, z, start, residual, number)

    def to(self, device: torch.device) -> LearnedInverse:
        """The same on a device; the network is moved."""
        return LearnedInverse(self.network.to(device), self.card)

    def check(self, autoencoder: WeighedPair) -> None:
        """Refuse another pair than the one that it was trained for.

        Raises:
            ValueError: the weights or the dtype are others.
        """
        if self.card.digest != digest_of_model(autoencoder):
            raise ValueError(
                f"this inverse was learned for other weights ({self.card.pair}) than those of "
                f"{autoencoder!r}: train one for them with train_inverse"
            )

    def save(self, path: str | Path) -> None:
        """Write the weights as a safetensors file and the card beside it as JSON, each whole or
        not at all. The file of the weights holds the card, too."""
        from safetensors.torch import save_file

        path = Path(path)
        check_file(path)
        tensors = {
            name: each.contiguous().cpu() for name, each in self.network.state_dict().items()
        }
        notes = {
            "format": FORMAT,
            "sizes": json.dumps(asdict(self.network.sizes)),
            "card": json.dumps(asdict(self.card)),
        }
        write_whole(path, lambda temporary: save_file(tensors, temporary, notes))
        write_json(path.with_suffix(".json"), asdict(self.card))

    @classmethod
    def load(cls, path: str | Path) -> LearnedInverse:
        """Read a file of `save`, onto the CPU.

        Raises:
            ValueError: it is no such file.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(path), "pt") as file:
                notes = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if notes.get("format") != FORMAT:
                raise ValueError(f"its format is not {FORMAT!r}")
            network = InverseNetwork(NetworkSizes(**json.loads(notes["sizes"])))
            network.load_state_dict(tensors)
            card = _card(json.loads(notes["card"]))
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{path} holds no learned inverse: {reason}") from error
        return cls(network.eval().requires_grad_(False), card)

    def __repr__(self) -> str:
        card = self.card
        return (
            f"LearnedInverse({card.pair}, {card.steps_done} of {card.steps} steps, encoder "
            f"{card.encoder_db:.1f} dB, {card.passes} passes {min(card.passes_db):.1f} dB)"
        )


def corrections(
    network: Callable[..., Tensor],
    image: Tensor,
    seen: Tensor,
    z: Tensor,
    start: Tensor,
    residual: Tensor,
    number: int,
) -> Tensor:
    """Row by row, in float32."""
    parts = [
        network(*(each.float() for each in row), [number])
        for row in zip(*(each.split(1) for each in (image, seen, z, start, residual)), strict=True)
    ]
    return torch.cat(parts).to(z) if parts else torch.zeros_like(z)


def _card(content: dict[str, Any]) -> InverseCard:
    names = {each.name for each in fields(InverseCard)}
    if set(content) != names:
        raise ValueError(f"its card has other entries: {', '.join(sorted(set(content) ^ names))}")
    for name in ("passes_db", "worst_db"):
        content[name] = tuple(content[name])
    return InverseCard(**content)


_IN_USE: WeakKeyDictionary[Any, LearnedInverse] = WeakKeyDictionary()


def inverse_of(autoencoder: Any) -> LearnedInverse | None:
    """What `use_inverse` was given for this autoencoder."""
    return _IN_USE.get(autoencoder)


def use_inverse(autoencoder: Any, inverse: LearnedInverse | None) -> None:
    """Let `invert` use it on this autoencoder, or none any more."""
    if inverse is None:
        _IN_USE.pop(autoencoder, None)
    else:
        inverse.check(autoencoder)
        _IN_USE[autoencoder] = inverse.to(autoencoder.device)
