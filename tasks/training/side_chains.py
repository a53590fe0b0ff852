"""Side chains of simulated patches for training: seen from where the detection network finds the backbone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from kernels import fourier
from kernels.maps.sharpening import guinier_fit
from kernels.models.residues import AMINO_ACIDS
from kernels.networks.detection import MERGED_ANGSTROM, answers, calibrated, merged
from kernels.networks.residue_detector import CELL_VOXELS, ResidueDetector, cell_centres, normalised, split
from kernels.networks.side_chain_reader import SIDE, SideChainReader, finer, side_chain_frames, surroundings
from kernels.networks.side_chain_reading import told_together
from kernels.rotations import from_rotation_vector
from kernels.scores import expected_calibration_error, matched_points
from kernels.specimen.map_simulation import Draw, SimulatedPatch
from tasks.training.calibration import most_likely
from tasks.training.patches import draw_of, drawn_patch
from tasks.training.scores import RESOLUTION_BINS
from tasks.training.structures import TrainingStructure, sampling_weights

_WORST_ANGSTROM = 5.0
"""Side chains are not seen beyond it."""
_SHARPENED_SHARE = 0.6
"""Of patches: most maps are sharpened until their spectrum is flat, a few less or more."""
_LEFT_B_ANGSTROM2 = (-20.0, 50.0)
_LEAST_B_ANGSTROM2, _MOST_B_ANGSTROM2 = -250.0, 100.0
_MOST_UNEVEN = 0.7
"""Standard deviation of the logarithm of amplitudes at a knot."""
_N_KNOTS, _NYQUIST_PER_ANGSTROM = 8, 0.5
_BORDER = 4
"""Voxels at the border of a patch whose residues are not read."""
_LEAST_CONFIDENCE = 0.3
_RADIUS_ANGSTROM = 2.0
_LEAST_PROBABILITY = 1e-9
_TILT_RAD, _SHIFT_ANGSTROM = 0.1, 0.2
"""Of the frames, beside the detection's own errors: no residue is seen twice from the same place."""


@dataclass(frozen=True, eq=False)
class SideChains:
    """Residues of one patch, or of several."""

    density: Tensor
    """(residue, z, y, x) of `surroundings`."""
    amino_acid: Tensor
    """(residue,) the truth, as an index into `residues.AMINO_ACIDS`."""
    detected: Tensor
    """(residue, 20) calibrated probabilities of the detection network."""
    resolution_angstrom: Tensor
    """(residue,) of the patch that it is from."""

    def to(self, device: torch.device) -> SideChains:
        """The same on a device."""
        return SideChains(*(value.to(device) for value in self.__dict__.values()))


def together(parts: Sequence[SideChains]) -> SideChains:
    """Those of several patches as one batch."""
    return SideChains(*(torch.cat(values) for values in zip(*(part.__dict__.values() for part in parts))))


class SimulatedSideChains(Dataset[SideChains]):
    """Residues of patches simulated on the fly; the same number always gives the same ones."""

    def __init__(
        self,
        structures: Sequence[TrainingStructure],
        detector: ResidueDetector,
        seed: int,
        n: int,
        size: int,
        is_moved: bool,
    ) -> None:
        """Nothing is simulated yet.

        Parameters
        ----------
        detector
            On the CPU and in evaluation mode: patches are simulated beside the training.
        is_moved
            Whether frames are tilted and shifted at random.
        """
        self._structures, self._detector = structures, detector
        self._cumulative = sampling_weights(structures, 0.0).cumsum(0)
        self._seed, self._n, self._size, self._is_moved = seed, n, size, is_moved

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, number: int) -> SideChains:
        """Residues of a patch; none of a patch that is too bad, or empty."""
        draw = draw_of(self._seed, number)
        patch = drawn_patch(self._structures, self._cumulative, self._size, draw)
        if patch.resolution_angstrom > _WORST_ANGSTROM:
            return _none()
        density = normalised(resharpened(patch, draw))
        backbone, detected, truth = self._found(density, patch)
        if not len(truth):
            return _none()
        frames, alpha = side_chain_frames(backbone), backbone[:, 1]
        if self._is_moved:
            frames = frames @ from_rotation_vector(_TILT_RAD * draw.normal(len(frames), 3))
            alpha = alpha + _SHIFT_ANGSTROM * draw.normal(len(alpha), 3)
        seen = surroundings(finer(density[None])[0], frames, alpha)
        resolution = torch.full((len(truth),), patch.resolution_angstrom)
        return SideChains(seen, truth, detected, resolution)

    @torch.inference_mode()
    def _found(self, density: Tensor, patch: SimulatedPatch) -> tuple[Tensor, Tensor, Tensor]:
        """N, Cα and C of the residues that the detection network finds, what it says of them, and what they are."""
        told = split(answers(self._detector, density[None], n_turns=1)[0])
        centres = cell_centres(tuple(CELL_VOXELS * n for n in told.alpha.shape[:3]))
        inner = ((centres > _BORDER) & (centres < self._size - _BORDER)).all(-1)
        atoms = (centres[..., None, :] + told.backbone.reshape(*centres.shape[:3], 4, 3))[inner]
        votes = merged(atoms[:, 1], told.alpha.squeeze(-1).sigmoid()[inner], MERGED_ANGSTROM)
        found, logits = votes.mean(atoms), votes.mean(told.amino_acid[inner])
        molecule = patch.molecule
        true = molecule.backbone_angstrom[:, 1]
        is_seen = (molecule.amino_acid >= 0) & patch.is_visible & true.isfinite().all(-1)
        is_seen &= ((true > 0) & (true < self._size)).all(-1)
        match = matched_points(found[:, 1], true[is_seen], _RADIUS_ANGSTROM)
        calibration = self._detector.calibration
        kept = (match >= 0) & (calibrated(votes.best, calibration[0]) > _LEAST_CONFIDENCE)
        detected = (calibration[2, 0] * logits[kept]).softmax(-1)
        return found[kept, :3], detected, molecule.amino_acid[is_seen][match[kept]]


def resharpened(patch: SimulatedPatch, draw: Draw) -> Tensor:
    """(z, y, x) density of a patch as other programs would have filtered it.

    Most of the time as if sharpened by its own Guinier plot, and then with a spectrum that is higher here and lower
    there than it ought to be.

    Source
    ------
    Rosenthal & Henderson 2003, J. Mol. Biol. 333:721: maps are sharpened until the plot is flat.
    """
    shape = tuple(patch.density.shape)
    frequency = fourier.frequency_length(shape)
    logarithm = _uneven(frequency, draw)
    is_sharpened, left = draw.happens(_SHARPENED_SHARE), draw.uniform(*_LEFT_B_ANGSTROM2)
    if is_sharpened:
        flat = torch.ones(shape[-1] // 2 + 1)
        fit = guinier_fit(patch.density, flat, 1.0, max(patch.resolution_angstrom, 2.1))
        b_factor = min(max(fit.b_factor_angstrom2 + left, _LEAST_B_ANGSTROM2), _MOST_B_ANGSTROM2)
        logarithm = logarithm - b_factor * frequency**2 / 4
    return torch.fft.irfftn(torch.fft.rfftn(patch.density) * logarithm.exp(), s=shape, dim=(0, 1, 2))


def _uneven(frequency: Tensor, draw: Draw) -> Tensor:
    """Logarithm of a gain along straight lines between random ones every 0.07 per Å."""
    heights = draw.uniform(0, _MOST_UNEVEN) * draw.normal(_N_KNOTS + 1)
    at = (frequency / _NYQUIST_PER_ANGSTROM * (_N_KNOTS - 1)).clamp(max=_N_KNOTS - 1e-3)
    below = at.floor().long()
    return torch.lerp(heights[below], heights[below + 1], at - below)


def _none() -> SideChains:
    nothing = torch.zeros(0)
    return SideChains(torch.zeros(0, SIDE, SIDE, SIDE), nothing.long(), torch.zeros(0, len(AMINO_ACIDS)), nothing)


@torch.inference_mode()
def logits_of(reader: SideChainReader, seen: SideChains, batch: int = 256) -> Tensor:
    """(residue, 20) what a reader, in evaluation mode, says of them."""
    place = next(reader.parameters()).device
    parts = []
    for density in seen.density.split(batch):
        with torch.autocast(place.type, torch.bfloat16):
            parts.append(reader(density.to(place)).float().cpu())
    return torch.cat(parts)


def joint_weights(reader: SideChainReader, seen: SideChains) -> Tensor:
    """(2,) for `SideChainReader.calibration`: the weights under which the truth is most likely."""
    own, other = logits_of(reader, seen).double(), seen.detected.double()

    def loss(weights: Tensor) -> Tensor:
        told = told_together(weights, own, other)
        return functional.nll_loss(told.clamp(min=_LEAST_PROBABILITY).log(), seen.amino_acid)

    return most_likely(loss).float()


def reading_scores(reader: SideChainReader, seen: SideChains) -> dict[str, dict[str, float]]:
    """By resolution, of the detection network, of the reader and of both together: the amino acid is the most probable
    one, or one of the three most probable ones; and the expected calibration error of both together."""
    own = logits_of(reader, seen)
    told = {
        "detected": seen.detected,
        "read": own.softmax(-1),
        "together": told_together(reader.calibration.cpu(), own, seen.detected),
    }
    scores = {}
    for low, high in RESOLUTION_BINS:
        inside = (seen.resolution_angstrom >= low) & (seen.resolution_angstrom < high)
        if not inside.any():
            continue
        row: dict[str, float] = {"n": int(inside.sum())}
        for name, probability in told.items():
            is_right = probability[inside].topk(3, dim=-1).indices == seen.amino_acid[inside, None]
            row[f"{name}_top1"] = float(is_right[:, 0].float().mean())
            row[f"{name}_top3"] = float(is_right.any(-1).float().mean())
        best = told["together"][inside].max(-1)
        row["calibration_error"] = expected_calibration_error(best.values, best.indices == seen.amino_acid[inside])
        scores[f"{low:.1f}-{high:.1f}"] = {name: round(value, 4) for name, value in row.items()}
    return scores
