"""The course of a training: steps at a rate that falls, checkpoints to go on from, averaged weights, a record."""

from __future__ import annotations

import copy
import json
import logging
import math
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from tasks.records.session import StageParams
from tasks.training.structures import TrainingStructure, read_structures
from tasks.workers.device import device

logger = logging.getLogger(__name__)

_WARM_UP_STEPS = 200
_LONGEST_GRADIENT = 5.0
_STEPS_PER_LINE = 50

Network = TypeVar("Network", bound=nn.Module)
Batch = TypeVar("Batch")


class TrainingParams(StageParams):
    """What a network is trained on, and for how long."""

    structures: list[str]
    """Folders of PDB and mmCIF files."""
    excluded: list[str] = Field(default_factory=list)
    """Structures whose relatives are not to be trained on: those of maps that the network is tested with."""
    start: str | None = None
    """Weights to begin with, from an earlier training."""
    n_steps: int = Field(default=20_000, ge=1)
    batch_size: int = Field(default=4, ge=1)
    """Patches of maps in a step."""
    patch_voxels: int = Field(default=48, ge=32, multiple_of=8)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    averaged_steps: float = Field(default=500.0, ge=1)
    """Weights are a running mean over about so many steps."""
    n_loaders: int = Field(default=1, ge=0)
    """Processes that simulate while the network is trained."""
    seed: int = 20261
    checkpoint_seconds: float = Field(default=120.0, gt=0)
    score_seconds: float = Field(default=900.0, gt=0)
    n_scored_patches: int = Field(default=60, ge=1)
    longest_seconds: float | None = Field(default=None, gt=0)
    """Training stops here and goes on from its checkpoint when it is called again."""

    @property
    def n_patches(self) -> int:
        """That all steps take."""
        return self.n_steps * self.batch_size


class SplitStructures:
    """Structures to train on, to calibrate with and to score with; no cluster of relatives is in two of them."""

    def __init__(self, params: TrainingParams) -> None:
        """Read them.

        Raises
        ------
        ValueError
            Where there are too few to hold some out.
        """
        found = read_structures([Path(s) for s in params.structures], [Path(e) for e in params.excluded])
        self.trained = [s for s in found if not s.is_held_out]
        held_out = [s for s in found if s.is_held_out]
        clusters = sorted({s.cluster for s in held_out})
        if not self.trained or len(clusters) < 2:
            raise ValueError(
                f"{', '.join(params.structures)}: found {len(found)} structures, of which {len(held_out)} in"
                f" {len(clusters)} clusters to hold out, one cluster in ten; expected some to train on, and two"
                " clusters to hold out; add structures"
            )
        logger.info("trained on %d structures, %d are held out", len(self.trained), len(held_out))
        self.for_calibration: list[TrainingStructure] = [s for s in held_out if s.cluster in clusters[::2]]
        self.for_scores: list[TrainingStructure] = [s for s in held_out if s.cluster not in clusters[::2]]


class Course(Generic[Network]):
    """A network, its optimiser, and what they were told so far."""

    def __init__(self, place: Path, name: str, params: TrainingParams, network: Network) -> None:
        """Go on from the checkpoint in a folder, where there is one.

        Parameters
        ----------
        name
            Of the network's files: ``.checkpoint.pt``, ``.safetensors`` and ``.jsonl``.
        """
        place.mkdir(parents=True, exist_ok=True)
        self._place, self._name, self._params, self.device = place, name, params, device()
        self.network = network.to(self.device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        if params.start:
            self.network.load_state_dict(load_file(params.start, device=str(self.device)))
        self.averaged = copy.deepcopy(self.network).eval()
        self._optimizer = torch.optim.AdamW(
            self.network.parameters(), params.learning_rate, weight_decay=params.weight_decay
        )
        self.step = 0
        self._sums: dict[str, float] = {}
        self._spent = 0.0
        self._checkpoint = place / f"{name}.checkpoint.pt"
        if self._checkpoint.exists():
            kept = torch.load(self._checkpoint, map_location=self.device)
            self.network.load_state_dict(kept["network"])
            self.averaged.load_state_dict(kept["averaged"])
            self._optimizer.load_state_dict(kept["optimizer"])
            self.step, self._spent = kept["step"], kept["cpu_seconds"]
            logger.info("goes on at step %d", self.step)

    def loader(self, patches: Dataset[Any], collate: Callable[[list[Any]], Batch]) -> Iterable[Batch]:
        """Batches of patches, numbered as their data set is, from the step on that is next."""
        loader: DataLoader[Any] = DataLoader(
            Subset(patches, range(self.step * self._params.batch_size, self._params.n_patches)),
            self._params.batch_size,
            collate_fn=collate,
            num_workers=self._params.n_loaders,
            worker_init_fn=_one_thread,
            prefetch_factor=4 if self._params.n_loaders else None,
        )
        return loader

    def run(
        self,
        batches: Iterable[Batch],
        losses: Callable[[Network, Batch], dict[str, Tensor]],
        weights: Mapping[str, float],
        scores: Callable[[Network], dict[str, Any]],
    ) -> None:
        """A step a batch, with checkpoints and scores now and then, until they or the time are over."""
        started = saved_at = scored_at = time.monotonic()
        for batch in batches:
            self._learn(lambda: losses(self.network, batch), weights)  # noqa: B023  # called at once
            now = time.monotonic()
            is_over = self._params.longest_seconds is not None and now - started > self._params.longest_seconds
            if now - saved_at > self._params.checkpoint_seconds or is_over:
                self.save()
                saved_at = now
            if now - scored_at > self._params.score_seconds:
                self.tell({"scores": scores(self.averaged)})
                scored_at = time.monotonic()
            if is_over:
                break

    def _learn(self, losses: Callable[[], dict[str, Tensor]], weights: Mapping[str, float]) -> None:
        began = time.process_time()
        for group in self._optimizer.param_groups:
            group["lr"] = self._params.learning_rate * self._pace()
        self.network.train()
        parts = losses()
        total = sum((weights[name] * part for name, part in parts.items()), torch.zeros((), device=self.device))
        self._optimizer.zero_grad(set_to_none=True)
        total.backward()
        length = torch.nn.utils.clip_grad_norm_(self.network.parameters(), _LONGEST_GRADIENT)
        if torch.isfinite(length):
            self._optimizer.step()
        self.step += 1
        self._average()
        self._spent += time.process_time() - began
        for name, part in [*parts.items(), ("total", total)]:
            self._sums[name] = self._sums.get(name, 0.0) + float(part.detach())
        if self.step % _STEPS_PER_LINE == 0:
            self.tell({name: round(value / _STEPS_PER_LINE, 4) for name, value in self._sums.items()})
            self._sums = {}

    def _pace(self) -> float:
        """Share of the learning rate: it rises at first, and falls as a cosine to a hundredth."""
        done = self.step / self._params.n_steps
        falling = 0.01 + 0.99 * (1 + math.cos(math.pi * min(1.0, done))) / 2
        return min(1.0, (self.step + 1) / _WARM_UP_STEPS) * falling

    @torch.no_grad()
    def _average(self) -> None:
        kept = min(1 - 1 / self._params.averaged_steps, self.step / (self.step + 10))
        for mean, value in zip(self.averaged.state_dict().values(), self.network.state_dict().values()):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - kept)
            else:
                mean.copy_(value)

    def save(self) -> None:
        """Checkpoint and weights, each under its name when it is whole."""
        state = {
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "step": self.step,
            "cpu_seconds": self._spent,
        }
        partial = self._place / f".{uuid.uuid4().hex}.partial"
        torch.save(state, partial)
        partial.replace(self._checkpoint)
        weights = {
            name: (value.half() if value.is_floating_point() and value.ndim > 1 else value).contiguous()
            for name, value in self.averaged.state_dict().items()
            if name != "calibration"
        }
        weights["calibration"] = self.averaged.state_dict()["calibration"]
        save_file(weights, partial)
        partial.replace(self._place / f"{self._name}.safetensors")

    def tell(self, what: dict[str, Any]) -> None:
        """A line for the record."""
        line = {"step": self.step, "cpu_seconds": round(self._spent), **what}
        with open(self._place / f"{self._name}.jsonl", "a") as file:
            file.write(json.dumps(line) + "\n")
        logger.info("%s", line)


def _one_thread(_worker: int) -> None:
    """For processes that load: the network has the cores."""
    torch.set_num_threads(1)
