"""Calibrate what the detection network says of C4' on nucleic acids that it was not trained on.

    python -m tasks.training.nucleotide_calibration WEIGHTS FOLDER...

The clusters that calibrate a training hold few nucleic acids or none, so that nobody tells what its confidence in a C4'
means. Every structure below the folders is shown in simulated maps of 2.5 to 4 Å; a candidate is right where a C4' lies
within 3 Å, one-to-one. Scale and offset are written into the file of the weights. The structures must be no relatives
of those that were trained on.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from kernels.models.atomic_model import AtomicModel
from kernels.networks.detection import detect
from kernels.networks.residue_detector import ResidueDetector
from kernels.scores import expected_calibration_error, matched_points
from tasks.building.detector import detector
from tasks.formats.structure import read_structure
from tasks.training.calibration import fitted_pair
from tasks.validation.simulated_map import simulate_map

RESOLUTIONS_ANGSTROM = (2.5, 3.0, 3.5, 4.0)
RADIUS_ANGSTROM = 3.0
LEAST_PROBABILITY = 0.03
"""Of candidates that count; below it nobody looks."""
_SUGAR_ROW = 1
"""Of `ResidueDetector.calibration`."""


def sugar_evidence(
    network: ResidueDetector, truth: AtomicModel, resolution_angstrom: float, seed: int
) -> tuple[Tensor, Tensor]:
    """(candidate,) probabilities as the network says them, and whether a C4' is there."""
    kept = network.calibration.clone()
    network.calibration[_SUGAR_ROW] = torch.tensor([1.0, 0.0], device=kept.device)
    try:
        grid = simulate_map(truth, resolution_angstrom, torch.Generator().manual_seed(seed))
        seen = detect(network, grid).nucleic.surest(LEAST_PROBABILITY).on_cpu()
    finally:
        network.calibration.copy_(kept)
    sugar = truth.positions("C4'")[truth.base >= 0, 0]
    return seen.confidence, matched_points(seen.sugar_angstrom.double(), sugar, RADIUS_ANGSTROM) >= 0


def main(weights: str, folders: Sequence[str]) -> None:
    """Detect, fit, say what came of it and write it."""
    torch.set_num_threads(1)
    network = detector(weights)
    paths = sorted(path for folder in folders for path in Path(folder).iterdir() if path.is_file())
    told, right = [], []
    for number, path in enumerate(paths):
        truth = read_structure(path)
        for turn, resolution in enumerate(RESOLUTIONS_ANGSTROM):
            probability, is_right = sugar_evidence(network, truth, resolution, 10 * number + turn)
            error = expected_calibration_error(probability, is_right)
            print(f"{path.name}, {resolution:g} Å: {len(is_right)} candidates, error {error:.3f} before", flush=True)
            told.append(probability)
            right.append(is_right)
    logit, is_right = torch.logit(torch.cat(told).double(), eps=1e-6), torch.cat(right)
    scale, offset = fitted_pair(logit, is_right).tolist()
    after = expected_calibration_error(torch.sigmoid(scale * logit + offset), is_right)
    print(f"scale {scale:.3f}, offset {offset:.3f}; calibration error {after:.3f} after, on the same")
    state = load_file(weights)
    state["calibration"][_SUGAR_ROW] = torch.tensor([scale, offset])
    partial = Path(weights).with_suffix(".partial")
    save_file(state, partial)
    partial.replace(weights)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
