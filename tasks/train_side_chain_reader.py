"""Train the network that reads side chains, on maps simulated from structures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from prefect import task
from prefect.cache_policies import NO_CACHE
from torch import Tensor
from torch.nn import functional

from kernels.networks.side_chain_reader import SideChainReader
from tasks.building.detector import detector
from tasks.training.course import Course, SplitStructures, TrainingParams
from tasks.training.side_chains import SideChains, SimulatedSideChains, joint_weights, reading_scores, together

_SCORED_SEED, _CALIBRATED_SEED = 900_003, 900_004
_SMOOTHING = 0.02
_FEWEST_RESIDUES = 16
"""In a step: its batch normalisation needs some."""


class TrainSideChainReaderParams(TrainingParams):
    """What the reader of side chains is trained on, and for how long."""

    n_steps: int = 6_000
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    averaged_steps: float = 200.0
    detector: str | None = None
    """Weights of the detection network, which finds the residues; None for those that come with the project."""


@task(name="train_side_chain_reader", cache_policy=NO_CACHE)
def train_side_chain_reader(folder: str, params: TrainSideChainReaderParams) -> dict[str, Any]:
    """Train until ``n_steps`` are done, or go on where a checkpoint in the folder left off.

    The folder gets ``side_chain_reader.checkpoint.pt``, ``side_chain_reader.safetensors`` (averaged weights; how much
    each of the two networks counts is fitted on half of the clusters that are held out) and
    ``side_chain_reader.jsonl`` (losses, and scores on the other half).

    Returns
    -------
    The last scores, by resolution.

    Raises
    ------
    ValueError
        Where there are too few structures to hold some out.
    """
    structures = SplitStructures(params)
    finder = detector(params.detector).to("cpu")
    torch.manual_seed(params.seed)
    course = Course(Path(folder), "side_chain_reader", params, SideChainReader())
    side_chains = SimulatedSideChains(
        structures.trained, finder, params.seed, params.n_patches, params.patch_voxels, is_moved=True
    )
    calibrating, scored = (
        together([simulated[i] for i in range(len(simulated))])
        for simulated in (
            SimulatedSideChains(part, finder, seed, params.n_scored_patches, params.patch_voxels, is_moved=False)
            for part, seed in ((structures.for_calibration, _CALIBRATED_SEED), (structures.for_scores, _SCORED_SEED))
        )
    )
    batches = course.loader(side_chains, together)
    course.run(batches, _losses, {"amino_acid": 1.0}, lambda network: reading_scores(network, scored))
    course.averaged.calibration.copy_(joint_weights(course.averaged, calibrating))
    course.save()
    scores = reading_scores(course.averaged, scored)
    course.tell({"scores": scores})
    return scores


def _losses(network: SideChainReader, batch: SideChains) -> dict[str, Tensor]:
    place = next(network.parameters()).device
    if len(batch.amino_acid) < _FEWEST_RESIDUES:
        return {"amino_acid": torch.zeros((), device=place, requires_grad=True)}
    seen = batch.to(place)
    with torch.autocast(place.type, torch.bfloat16):
        logits = network(seen.density)
    return {"amino_acid": functional.cross_entropy(logits.float(), seen.amino_acid, label_smoothing=_SMOOTHING)}
