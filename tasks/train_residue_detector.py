"""Train the detection network on maps simulated from structures."""

from __future__ import annotations

import copy
import json
import logging
import math
import time
import uuid
from pathlib import Path
from typing import Any

import torch
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader, Subset

from kernels.networks.detection_targets import WEIGHTS, losses
from kernels.networks.residue_detector import ResidueDetector, split
from tasks.records.session import StageParams
from tasks.training.calibration import calibration_error, calibration_of
from tasks.training.patches import SimulatedPatches, batch_of, moved
from tasks.training.scores import held_out_scores
from tasks.training.structures import read_structures
from tasks.workers.device import device

logger = logging.getLogger(__name__)

_SCORED_SEED, _CALIBRATED_SEED = 900_001, 900_002
_WARM_UP_STEPS = 200
_LONGEST_GRADIENT = 5.0
_STEPS_PER_LINE = 50


class TrainResidueDetectorParams(StageParams):
    """What the network is trained on, and for how long."""

    structures: list[str]
    """Folders of PDB and mmCIF files."""
    excluded: list[str] = Field(default_factory=list)
    """Structures whose relatives are not to be trained on: those of maps that the network is tested with."""
    start: str | None = None
    """Weights to begin with, from an earlier training."""
    n_steps: int = Field(default=20_000, ge=1)
    batch_size: int = Field(default=4, ge=1)
    patch_voxels: int = Field(default=48, ge=32, multiple_of=8)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    averaged_steps: float = Field(default=500.0, ge=1)
    """Weights are a running mean over about so many steps."""
    nucleic_share: float = Field(default=0.1, ge=0, le=1)
    """Of patches from structures with nucleic acids."""
    good_at_first: float = Field(default=0.7, ge=0, le=1)
    """Share of good maps in the beginning; it falls to none over six tenths of the steps."""
    n_loaders: int = Field(default=1, ge=0)
    """Processes that simulate while the network is trained."""
    seed: int = 20261
    checkpoint_seconds: float = Field(default=120.0, gt=0)
    score_seconds: float = Field(default=900.0, gt=0)
    n_scored_patches: int = Field(default=60, ge=1)
    longest_seconds: float | None = Field(default=None, gt=0)
    """Training stops here and goes on from its checkpoint when it is called again."""


@task(name="train_residue_detector", cache_policy=NO_CACHE)
def train_residue_detector(folder: str, params: TrainResidueDetectorParams) -> dict[str, Any]:
    """Train until ``n_steps`` are done, or go on where a checkpoint in the folder left off.

    The folder gets ``checkpoint.pt`` (everything that is needed to go on), ``residue_detector.safetensors`` (averaged
    weights, calibrated on half of the clusters that are held out) and ``training.jsonl`` (losses, and scores on the
    other half). The same parameters and seed
    give the same patches in the same order.

    Returns
    -------
    The last scores, by resolution.

    Raises
    ------
    ValueError
        Where there are too few structures to hold some out.
    """
    place = Path(folder)
    structures = read_structures([Path(s) for s in params.structures], [Path(e) for e in params.excluded])
    trained = [s for s in structures if not s.is_held_out]
    held_out = [s for s in structures if s.is_held_out]
    clusters = sorted({s.cluster for s in held_out})
    if not trained or len(clusters) < 2:
        raise ValueError(
            f"{', '.join(params.structures)}: found {len(structures)} structures, of which {len(held_out)} in"
            f" {len(clusters)} clusters to hold out, one cluster in ten; expected some to train on, and two clusters to"
            " hold out; add structures"
        )
    logger.info("trained on %d structures, %d are held out", len(trained), len(held_out))
    place.mkdir(parents=True, exist_ok=True)
    for_calibration = [s for s in held_out if s.cluster in clusters[::2]]
    for_scores = [s for s in held_out if s.cluster not in clusters[::2]]
    calibrating, scored = (
        SimulatedPatches(part, seed, params.n_scored_patches, params.patch_voxels, 0.15)
        for part, seed in ((for_calibration, _CALIBRATED_SEED), (for_scores, _SCORED_SEED))
    )
    training = _Training(place, params)
    n_patches = params.n_steps * params.batch_size
    patches = SimulatedPatches(
        trained, params.seed, n_patches, params.patch_voxels, params.nucleic_share, params.good_at_first
    )
    left = Subset(patches, range(training.step * params.batch_size, n_patches))
    loader = DataLoader(
        left,
        params.batch_size,
        collate_fn=batch_of,
        num_workers=params.n_loaders,
        worker_init_fn=_one_thread,
        prefetch_factor=4 if params.n_loaders else None,
    )
    started = saved_at = scored_at = time.monotonic()
    for density, targets in loader:
        training.learn(density, targets)
        now = time.monotonic()
        is_over = params.longest_seconds is not None and now - started > params.longest_seconds
        if now - saved_at > params.checkpoint_seconds or is_over:
            training.save()
            saved_at = now
        if now - scored_at > params.score_seconds:
            training.tell({"scores": held_out_scores(training.averaged, scored)})
            scored_at = time.monotonic()
        if is_over:
            break
    training.averaged.calibration.copy_(calibration_of(training.averaged, calibrating))
    training.save()
    scores = held_out_scores(training.averaged, scored)
    training.tell({"scores": scores, "calibration_error": calibration_error(training.averaged, scored)})
    return scores


def _one_thread(_worker: int) -> None:
    torch.set_num_threads(1)


class _Training:
    """The network, its optimiser, and what they were told so far."""

    def __init__(self, place: Path, params: TrainResidueDetectorParams) -> None:
        torch.manual_seed(params.seed)
        self._place, self._params, self._device = place, params, device()
        self._network = ResidueDetector().to(self._device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        if params.start:
            self._network.load_state_dict(load_file(params.start, device=str(self._device)))
        self.averaged = copy.deepcopy(self._network).eval()
        self._optimizer = torch.optim.AdamW(
            self._network.parameters(), params.learning_rate, weight_decay=params.weight_decay
        )
        self.step = 0
        self._sums: dict[str, float] = {}
        self._spent = 0.0
        if (place / "checkpoint.pt").exists():
            kept = torch.load(place / "checkpoint.pt", map_location=self._device)
            self._network.load_state_dict(kept["network"])
            self.averaged.load_state_dict(kept["averaged"])
            self._optimizer.load_state_dict(kept["optimizer"])
            self.step, self._spent = kept["step"], kept["cpu_seconds"]
            logger.info("goes on at step %d", self.step)

    def learn(self, density: torch.Tensor, targets: Any) -> None:
        """One step on one batch."""
        began = time.process_time()
        for group in self._optimizer.param_groups:
            group["lr"] = self._params.learning_rate * self._pace()
        self._network.train()
        density = density.to(self._device).contiguous(memory_format=torch.channels_last_3d)
        with torch.autocast(self._device.type, torch.bfloat16):
            channels = self._network(density)
        parts = losses(split(channels.permute(0, 2, 3, 4, 1).float()), moved(targets, self._device))
        total = sum((WEIGHTS[name] * part for name, part in parts.items()), torch.zeros((), device=self._device))
        self._optimizer.zero_grad(set_to_none=True)
        total.backward()
        length = torch.nn.utils.clip_grad_norm_(self._network.parameters(), _LONGEST_GRADIENT)
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
        for mean, value in zip(self.averaged.state_dict().values(), self._network.state_dict().values()):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - kept)
            else:
                mean.copy_(value)

    def save(self) -> None:
        """Checkpoint and weights, each under its name when it is whole."""
        state = {
            "network": self._network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "step": self.step,
            "cpu_seconds": self._spent,
        }
        partial = self._place / f".{uuid.uuid4().hex}.partial"
        torch.save(state, partial)
        partial.replace(self._place / "checkpoint.pt")
        weights = {
            name: (value.half() if value.is_floating_point() and value.ndim > 2 else value).contiguous()
            for name, value in self.averaged.state_dict().items()
        }
        save_file(weights, partial)
        partial.replace(self._place / "residue_detector.safetensors")

    def tell(self, what: dict[str, Any]) -> None:
        """A line for the record."""
        line = {"step": self.step, "cpu_seconds": round(self._spent), **what}
        with open(self._place / "training.jsonl", "a") as file:
            file.write(json.dumps(line) + "\n")
        logger.info("%s", line)
