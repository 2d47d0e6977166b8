"""Train a learned inverse on what a pair of encoder and decoder makes itself.

No gradient goes through D or E. The examples are a pool of latents that are known: every step draws
a batch of them, and adds some, by a pass more of the averaged network or with another crop. So an
evaluation of the pair, the dear part, serves many steps. A full pool loses its oldest.

The loss of a row is ||z + N(...) - z*||^2 / ||E(x) - z*||^2.
"""

from __future__ import annotations

import copy
import math
import os
import platform
import time
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm import tqdm

from fixpoint.adapters.autoencoders.calibration import (
    Calibrated,
    Pair,
    PairCalibration,
    apply_map,
)
from fixpoint.adapters.autoencoders.digest import digest_of_model
from fixpoint.adapters.autoencoders.inverse.crops import Crops, seeded
from fixpoint.adapters.autoencoders.inverse.known import SEEN_BY, Known, at_latent, made_of
from fixpoint.adapters.autoencoders.inverse.learned_inverse import (
    InverseCard,
    LearnedInverse,
    corrections,
)
from fixpoint.adapters.autoencoders.inverse.network import (
    PASSES,
    WIDTH,
    InverseNetwork,
    NetworkSizes,
)
from fixpoint.adapters.autoencoders.inverse.passes import Corrects, guarded_passes
from fixpoint.checkpoints.tree_file import read_notes, read_tree, write_tree
from fixpoint.version import __version__

FIRST, FULL = 8, 48
"""Batches that the pool of known latents holds at first, and at most."""

ADDED = 4
"""One example is added for so many in a batch, in every step."""

WARM_UP, HALVED_AT = 100, 3000
"""Steps in which the learning rate rises, and after which it has fallen to a half."""

LONGEST_GRADIENT = 1.0
GOES_ON = 0.5
"""Chance that an example is added by one more pass, not by a new crop."""

HELD_OUT = 24
"""Crops that are measured, of pictures that were not trained on."""

AT_ONCE = 8

DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class Recipe:
    """How an inverse is trained.

    Attributes:
        steps: of the optimizer; a training that is done goes on where they grow.
        batch: examples of a step.
        width: of the network, see `NetworkSizes`.
        rate: the largest learning rate; see `_rate`.
        seed: of everything that is drawn.
        save_every: steps from one checkpoint, with its measurement, to the next.
        dtype: of the network's arithmetic in training: "float32", or "bfloat16", which is faster
            on processors that have it.
    """

    steps: int = 2000
    batch: int = 32
    width: int = WIDTH
    rate: float = 1e-3
    seed: int = 0
    save_every: int = 250
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "width", "save_every"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number above 0, got {value!r}")
        if not (math.isfinite(self.rate) and self.rate > 0):
            raise ValueError(f"rate must be above 0, got {self.rate}")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}")


_MAY_CHANGE = ("steps", "save_every")
"""Of a recipe, from one call to the next."""


@dataclass
class _State:
    """What a training holds; all of it goes into a checkpoint.

    Attributes:
        done: steps that were made.
        network, average: the weights, and their exponential average, which is what is kept.
        optimizer: of the network.
        pool: the examples.
        seconds: that were spent.
    """

    done: int
    network: InverseNetwork
    average: InverseNetwork
    optimizer: torch.optim.Optimizer
    pool: Known
    seconds: float


class Training:
    """A training, from its start or from its last checkpoint.

    Args:
        autoencoder: the pair.
        crops: to train on.
        held_out: the crops that are measured, (count, 3, side, side) on [-1, 1].
        calibration: of the pair.
        recipe: how.
        out: of the weights; the card is written beside it as `.json`, the checkpoint as
            `.checkpoint`.

    Raises:
        ValueError: the checkpoint is of another pair, of other pictures or of another recipe.
    """

    def __init__(
        self,
        autoencoder: Calibrated,
        crops: Crops,
        held_out: Float[Tensor, "count 3 side side"],
        calibration: PairCalibration,
        recipe: Recipe,
        out: Path,
    ) -> None:
        self.autoencoder, self.crops, self.recipe, self.out = autoencoder, crops, recipe, out
        self.pair: Pair = autoencoder.encode, autoencoder.decode
        self.device = autoencoder.device
        self.calibration = calibration
        self.sizes = NetworkSizes(autoencoder.channels, autoencoder.factor, recipe.width)
        self.checkpoint = out.with_suffix(".checkpoint")
        self.digest = digest_of_model(autoencoder)
        fixed = {name: each for name, each in asdict(recipe).items() if name not in _MAY_CHANGE}
        self.notes = {"recipe": str(fixed), "pair": self.digest, "pictures": crops.digest}
        self.held_out = held_out
        saved = self._saved() if self.checkpoint.exists() else None
        self.state = self._begun() if saved is None else saved

    def run(self, progress: bool) -> LearnedInverse:
        """Go on to the last step. An interruption leaves the files of the last checkpoint."""
        state, steps = self.state, self.recipe.steps
        inverse = self._inverse() if state.done >= steps else None
        with tqdm(total=steps, initial=state.done, disable=not progress, desc="inverse") as bar:
            while state.done < steps:
                started = time.perf_counter()
                loss = self._step()
                state.done += 1
                state.seconds += time.perf_counter() - started
                bar.update()
                bar.set_postfix_str(f"loss {loss:.3f}{_held_out(inverse)}")
                if state.done % self.recipe.save_every == 0 or state.done == steps:
                    inverse = self._save()
        assert inverse is not None
        return inverse

    def _step(self) -> float:
        state, recipe = self.state, self.recipe
        draws = seeded(recipe.seed, state.done)
        size = len(state.pool.number)
        rows = torch.randint(size, (recipe.batch,), generator=draws).to(self.device)
        batch = state.pool.select(rows)
        for group in state.optimizer.param_groups:
            group["lr"] = _rate(state.done, recipe)
        with (
            torch.autocast(self.device.type, torch.bfloat16, enabled=recipe.dtype == "bfloat16"),
            torch.enable_grad(),
        ):
            correction = _corrected(state.network, batch)
            left = (batch.z + correction.float() - batch.truth).square().flatten(1).sum(1)
            first = (batch.start - batch.truth).square().flatten(1).sum(1)
            loss = (left / first.clamp(min=1e-12)).mean()
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(state.network.parameters(), LONGEST_GRADIENT)
        state.optimizer.step()
        _average_in(state.average, state.network, state.done)
        self._add(draws)
        return float(loss.detach())

    @torch.no_grad()
    def _add(self, draws: torch.Generator) -> None:
        """Some examples go on by a pass, others begin with a new crop."""
        state, batch = self.state, self.recipe.batch
        size, count = len(state.pool.number), max(1, batch // ADDED)
        first = state.done * count
        old = state.pool.select(torch.randint(size, (count,), generator=draws).to(self.device))
        go_on = torch.rand(count, generator=draws) < GOES_ON
        go_on &= old.number.cpu() + 1 < PASSES
        numbers = FIRST * batch + first + (~go_on).nonzero()[:, 0]
        parts = []
        if len(numbers):
            parts.append(made_of(self.pair, self.crops.batch(numbers.tolist()).to(self.device)))
        if len(numbers) < count:
            known = old.select(go_on.nonzero()[:, 0].to(self.device))
            z = known.z + _corrected(state.average, known)
            parts.append(at_latent(self.pair, known, z, known.number + 1))
        added = parts[0].joined(*parts[1:])
        if size + count <= FULL * batch:
            state.pool = state.pool.joined(added)
        else:
            rows = torch.arange(first, first + count) % size
            state.pool.overwrite(rows.to(self.device), added)

    def _begun(self) -> _State:
        started = time.perf_counter()
        recipe = self.recipe
        parts = [
            made_of(self.pair, self.crops.batch(numbers).to(self.device))
            for numbers in torch.arange(FIRST * recipe.batch).split(AT_ONCE)
        ]
        pool = parts[0].joined(*parts[1:])
        with torch.random.fork_rng([]):
            torch.manual_seed(recipe.seed)
            network = InverseNetwork(self.sizes)
        network.to(self.device)
        network.fit_scales(
            pool.truth, pool.start, pool.residual, pool.seen - pool.image, self.calibration.maps
        )
        average = copy.deepcopy(network).requires_grad_(False)
        seconds = time.perf_counter() - started
        return _State(0, network, average, _optimizer(network, recipe), pool, seconds)

    def _save(self) -> LearnedInverse:
        """Measure, and write the weights with their card, then the checkpoint."""
        started = time.perf_counter()
        inverse = self._inverse()
        state = self.state
        state.seconds += time.perf_counter() - started
        inverse.save(self.out)
        tree = {
            "done": state.done,
            "seconds": state.seconds,
            "network": dict(state.network.state_dict()),
            "average": dict(state.average.state_dict()),
            "optimizer": state.optimizer.state_dict()["state"],
            "pool": state.pool,
        }
        write_tree(self.checkpoint, tree, self.notes, self.device)
        return inverse

    def _saved(self) -> _State:
        notes = read_notes(self.checkpoint)
        for name, value in self.notes.items():
            if notes.get(name) != value:
                raise ValueError(
                    f"{self.checkpoint} is of another training, with another {name}: give another "
                    "file to write to, or delete it"
                )
        tree: dict[str, Any] = read_tree(self.checkpoint, self.device)
        network = InverseNetwork(self.sizes).to(self.device)
        network.load_state_dict(tree["network"])
        average = copy.deepcopy(network).requires_grad_(False)
        average.load_state_dict(tree["average"])
        optimizer = _optimizer(network, self.recipe)
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": tree["optimizer"], "param_groups": groups})
        return _State(tree["done"], network, average, optimizer, tree["pool"], tree["seconds"])

    @torch.no_grad()
    def _inverse(self) -> LearnedInverse:
        """The averaged network as it is, measured."""
        state = self.state
        network = copy.deepcopy(state.average).eval().requires_grad_(False)
        measured: list[Tensor] = []
        for known in self._known:
            measured.append(self._measured(network, known))
        nmse = torch.cat(measured, 1)
        means = nmse.mean(1).tolist()
        best = nmse[1 + means[1:].index(min(means[1:]))]
        card = InverseCard(
            pair=self.autoencoder.name,
            digest=self.digest,
            pictures=len(self.crops.pictures),
            held_out=len(self.held_out),
            side=self.crops.side,
            batch=self.recipe.batch,
            steps=self.recipe.steps,
            steps_done=state.done,
            seconds=state.seconds,
            machine=_machine(self.device),
            encoder_db=means[0],
            calibrated_db=self._calibrated_db,
            passes_db=tuple(means[1:]),
            worst_db=(float(nmse[0].max()), float(best.max())),
            worse=int((best > nmse[0] + 1e-6).sum()),
        )
        return LearnedInverse(network, card)

    @cached_property
    def _known(self) -> list[Known]:
        """The latents of the held-out crops, in parts."""
        parts = self.held_out.to(self.device).split(AT_ONCE)
        return [made_of(self.pair, photographs) for photographs in parts]

    @cached_property
    @torch.no_grad()
    def _calibrated_db(self) -> float:
        """Their mean NMSE after the calibrated steps, of which each row keeps those that bring D(z)
        nearer, as of the passes."""
        maps = self.calibration.maps

        def mapped(*inputs: Any) -> Tensor:
            return -apply_map(maps[inputs[-1]], inputs[-2])

        return float(
            torch.cat([self._nmse(mapped, each, len(maps))[-1] for each in self._known]).mean()
        )

    def _measured(self, network: InverseNetwork, known: Known) -> Float[Tensor, "passes batch"]:
        """NMSE in dB of E(x), and after every pass."""

        def correction(*inputs: Any) -> Tensor:
            return corrections(network, *inputs)

        return self._nmse(correction, known, PASSES)

    def _nmse(self, correction: Corrects, known: Known, passes: int) -> Tensor:
        found = guarded_passes(
            correction, self.pair, known.image, known.start, SEEN_BY.observe, passes
        )
        return torch.stack([_nmse_db(z, known.truth) for z in found])


def _corrected(network: InverseNetwork, known: Known) -> Tensor:
    return network(known.image, known.seen, known.z, known.start, known.residual, known.number)


def _optimizer(network: InverseNetwork, recipe: Recipe) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        network.parameters(), lr=recipe.rate, betas=(0.9, 0.98), weight_decay=0.05
    )


def _rate(step: int, recipe: Recipe) -> float:
    """It rises linearly, then falls like 1 / sqrt(step), whatever the number of steps to come."""
    return recipe.rate * min(1.0, (step + 1) / WARM_UP) / math.sqrt(1 + 3 * step / HALVED_AT)


@torch.no_grad()
def _average_in(average: nn.Module, network: nn.Module, step: int) -> None:
    """The average over about the last tenth of the steps (Karras et al., CVPR 2024)."""
    for kept, current in zip(average.parameters(), network.parameters(), strict=True):
        kept.lerp_(current, 1 - (step + 1) / (step + 10))


def _nmse_db(z: Tensor, truth: Tensor) -> Float[Tensor, " batch"]:
    ratios = [
        (one - other).double().square().sum() / other.double().square().sum()
        for one, other in zip(z, truth, strict=True)
    ]
    return 10 * torch.stack(ratios).log10()


def _held_out(inverse: LearnedInverse | None) -> str:
    if inverse is None:
        return ""
    card = inverse.card
    return f", held out {card.encoder_db:.2f} -> {min(card.passes_db):.2f} dB"


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        where = torch.cuda.get_device_name(device)
    else:
        processor = platform.processor() or platform.machine()
        threads = torch.get_num_threads()
        where = f"{threads} thread{'s' * (threads > 1)} of {os.cpu_count()} CPU cores ({processor})"
    return f"fixpoint {__version__}, torch {torch.__version__}, {where}"
