"""Train the detection network on maps simulated from structures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field
from torch import Tensor

from kernels.networks.detection_targets import WEIGHTS, CellTargets, losses
from kernels.networks.residue_detector import ResidueDetector, split
from tasks.training.calibration import calibration_error, calibration_of
from tasks.training.course import Course, SplitStructures, TrainingParams
from tasks.training.patches import SimulatedPatches, batch_of, moved
from tasks.training.scores import held_out_scores

_SCORED_SEED, _CALIBRATED_SEED = 900_001, 900_002


class TrainResidueDetectorParams(TrainingParams):
    """What the detection network is trained on, and for how long."""

    nucleic_share: float = Field(default=0.1, ge=0, le=1)
    """Of patches from structures with nucleic acids."""
    good_at_first: float = Field(default=0.7, ge=0, le=1)
    """Share of good maps in the beginning; it falls to none over six tenths of the steps."""


@task(name="train_residue_detector", cache_policy=NO_CACHE)
def train_residue_detector(folder: str, params: TrainResidueDetectorParams) -> dict[str, Any]:
    """Train until ``n_steps`` are done, or go on where a checkpoint in the folder left off.

    The folder gets ``residue_detector.checkpoint.pt`` (everything that is needed to go on),
    ``residue_detector.safetensors`` (averaged weights, calibrated on half of the clusters that are held out) and
    ``residue_detector.jsonl`` (losses, and scores on the other half). The same parameters and seed give the same
    patches in the same order.

    Returns
    -------
    The last scores, by resolution.

    Raises
    ------
    ValueError
        Where there are too few structures to hold some out.
    """
    structures = SplitStructures(params)
    calibrating, scored = (
        SimulatedPatches(part, seed, params.n_scored_patches, params.patch_voxels, 0.15)
        for part, seed in ((structures.for_calibration, _CALIBRATED_SEED), (structures.for_scores, _SCORED_SEED))
    )
    torch.manual_seed(params.seed)
    course = Course(Path(folder), "residue_detector", params, ResidueDetector())
    patches = SimulatedPatches(
        structures.trained,
        params.seed,
        params.n_patches,
        params.patch_voxels,
        params.nucleic_share,
        params.good_at_first,
    )
    course.run(course.loader(patches, batch_of), _losses, WEIGHTS, lambda network: held_out_scores(network, scored))
    course.averaged.calibration.copy_(calibration_of(course.averaged, calibrating))
    course.save()
    scores = held_out_scores(course.averaged, scored)
    course.tell({"scores": scores, "calibration_error": calibration_error(course.averaged, scored)})
    return scores


def _losses(network: ResidueDetector, batch: tuple[Tensor, CellTargets]) -> dict[str, Tensor]:
    density, targets = batch
    place = next(network.parameters()).device
    density = density.to(place).contiguous(memory_format=torch.channels_last_3d)
    with torch.autocast(place.type, torch.bfloat16):
        channels = network(density)
    return losses(split(channels.permute(0, 2, 3, 4, 1).float()), moved(targets, place))
