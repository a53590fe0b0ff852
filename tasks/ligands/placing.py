"""Everything beside the chains of a model, what explains most first: ligands, ions, waters, and the rest."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from kernels.maps.grid import DensityGrid
from kernels.models.atomic_model import AtomicModel
from kernels.models.mates import Mates
from tasks.formats.structure import chain_name
from tasks.ligands.fitting import BLOB_SIGMA, fit_ligands, pieces
from tasks.ligands.params import PlaceLigandsParams
from tasks.ligands.requested import RequestedLigand
from tasks.ligands.scene import Scene, scene
from tasks.ligands.solvent import leftover_peaks, likely_ions, place_ions, place_waters
from tasks.records.placement import Placement, UnexplainedDensity

logger = logging.getLogger(__name__)

_LEAST_VOLUME_ANGSTROM3 = 20.0
_LEAST_PEAK_SIGMA = 6.0
_MOST_LISTED = 20
_SAME_ANGSTROM = 4.0


@dataclass(frozen=True, eq=False)
class PlacedModel:
    """A model with what was placed, which comes last in it."""

    model: AtomicModel
    placement: Placement


def placed(
    model: AtomicModel,
    grid: DensityGrid,
    halves: tuple[DensityGrid, DensityGrid] | None,
    resolution_angstrom: float,
    requested: Sequence[RequestedLigand],
    params: PlaceLigandsParams,
    mates: Mates | None = None,
) -> PlacedModel:
    """Ligands, ions and waters of a model, where its map supports them. Memory: about 400 bytes a voxel of its box."""
    seen = scene(model, grid, halves, resolution_angstrom, mates)
    names = _free_chains(model)
    done = fit_ligands(seen, requested, names[0], params.least_probability, params.most_copies)
    ions = place_ions(done.scene, params.ions, names[0], len(done.placed) + 1)
    rows = [*done.placed, *ions.placed]
    last = ions.scene
    words = _no_waters(params, resolution_angstrom)
    if not words:
        found = place_waters(last, names[1])
        rows += found.placed
        last = found.scene
        words = f"{len(found.placed)} waters, looked for at {resolution_angstrom:.2f} Å"
    left = _unexplained(last)
    logger.info(
        "place_ligands: %d ligands, %d ions, %d waters placed; %d pieces of density are not explained",
        len(done.placed), len(ions.placed), len(rows) - len(done.placed) - len(ions.placed), len(left),
    )  # fmt: skip
    placement = Placement(
        resolution_angstrom=resolution_angstrom, placed=tuple(rows), unexplained=tuple(left), refused=done.refused,
        water_words=words,
    )  # fmt: skip
    return PlacedModel(last.model, placement)


def _no_waters(params: PlaceLigandsParams, resolution_angstrom: float) -> str:
    if not params.has_waters:
        return "waters were not asked for"
    if resolution_angstrom > params.worst_water_angstrom:
        return (
            f"no waters: the resolution of {resolution_angstrom:.2f} Å is worse than the"
            f" {params.worst_water_angstrom:g} Å at which maps show them"
        )
    return ""


def _free_chains(model: AtomicModel) -> list[str]:
    """Two names that no chain of the model has: for ligands and ions, and for waters."""
    taken = {residue.chain for residue in model.residues}
    free: list[str] = []
    index = 0
    while len(free) < 2:
        name = chain_name(index)
        if name not in taken:
            free.append(name)
        index += 1
    return free


def _unexplained(scene: Scene) -> list[UnexplainedDensity]:
    """Large pieces and high peaks that are left, the largest first."""
    found = pieces(scene)
    large = torch.nonzero(found.volume_angstrom3 >= _LEAST_VOLUME_ANGSTROM3).squeeze(1)
    large = large[scene.own(found.peak_angstrom[large])][:_MOST_LISTED]
    listed = [
        _row(scene, found.peak_angstrom[k], float(found.peak[k]), float(found.volume_angstrom3[k]), "")
        for k in large.tolist()
    ]
    peaks = leftover_peaks(scene, _LEAST_PEAK_SIGMA, _MOST_LISTED)
    ions = likely_ions(scene, peaks.place_angstrom)
    for place, height, ion in zip(peaks.place_angstrom, peaks.height.tolist(), ions):
        apart = [torch.tensor(row.place_angstrom, dtype=torch.float64) - place for row in listed]
        if any(float(d.norm()) < _SAME_ANGSTROM for d in apart):
            continue
        words = f"surroundings as of {ion}; allow it with --ions" if ion else "unassigned peak"
        listed.append(_row(scene, place, height, 0.0, words))
    return listed[:_MOST_LISTED]


def _row(scene: Scene, place: torch.Tensor, sigma: float, volume: float, words: str) -> UnexplainedDensity:
    neighbour, distance = scene.neighbour(place[None])
    z, y, x = place.tolist()
    return UnexplainedDensity(
        place_angstrom=(z, y, x), peak_sigma=round(sigma, 2), volume_angstrom3=round(volume, 1), neighbour=neighbour,
        distance_angstrom=round(distance, 2),
        words=words or f"{volume:.0f} Å³ above {BLOB_SIGMA:g} standard deviations; name what it may be with --ligand",
    )  # fmt: skip
