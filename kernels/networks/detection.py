"""A map through the detection network: tiles, votes of cells, candidates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import conv3d

from kernels import fourier
from kernels.maps.cutting import box_of
from kernels.maps.grid import DensityGrid
from kernels.models.detections import NucleotideDetections, ProteinDetections
from kernels.models.neighbours import gathered
from kernels.networks.residue_detector import (
    CELL_VOXELS,
    TILE_STEP_VOXELS,
    VOXEL_ANGSTROM,
    CellPredictions,
    ResidueDetector,
    cell_centres,
    density_unit,
    normalised,
    split,
)
from kernels.networks.turns import turns

_LARGEST_TILE = 64
_MARGIN = 8
"""Voxels at the borders of a tile that are left to its neighbour."""
_LEAST_UNIT = 0.4
"""Of the map's unit of density: a tile of nothing but noise is not to be read as if it were a molecule."""
_LEAST_PROBABILITY = 0.05
_STRUCTURE_SIGMA_ANGSTROM = 2.7
"""Of the bell under which cells tell of structure together; best of 1.3, 2, 2.7 and 3.3 Å at 4 to 6 Å on simulated
patches of the clusters that calibrate the network: 73.4 % of residues right, 71.0 % each by itself."""
MERGED_ANGSTROM = 1.9
"""Half of the distance from one Cα to the next: cells that vote for places so near to each other mean the same one."""
MERGED_NUCLEOTIDES_ANGSTROM = 2.5


@dataclass(frozen=True, eq=False)
class MapDetections:
    """All that the network tells of a map."""

    protein: ProteinDetections
    nucleic: NucleotideDetections
    content: Tensor
    """(cell z, cell y, cell x, 3) probability that an atom of protein, nucleic acid or something else lies there."""
    structure: Tensor
    """(cell z, cell y, cell x, 3) probability of helix, strand and coil of the residues around, where there are any."""
    cell_angstrom: Tensor
    """(cell z, cell y, cell x, 3) float64 centres of the cells."""

    def structure_at(self, places_angstrom: Tensor) -> Tensor:
        """(n, 3) probability of helix, strand and coil at places (n, 3) in Å, that of the nearest cell."""
        shape = torch.tensor(self.structure.shape[:3], device=self.structure.device)
        first = self.cell_angstrom[0, 0, 0]
        step = (self.cell_angstrom[-1, -1, -1] - first) / (shape - 1).clamp_min(1)
        index = ((places_angstrom.to(first) - first) / step.clamp_min(1e-6)).round().long()
        z, y, x = index.clamp_min(0).minimum(shape - 1).unbind(-1)
        return self.structure[z, y, x]


@torch.inference_mode()
def detect(
    network: ResidueDetector,
    grid: DensityGrid,
    n_turns: int = 4,
    tile_batch: int = 4,
    is_wanted: Callable[[Tensor], Tensor] | None = None,
) -> MapDetections:
    """Candidates for residues in a map.

    Parameters
    ----------
    network
        In evaluation mode; the map is moved to where it lives.
    grid
        A sharpened map of the right hand; finer or coarser voxels are brought to 1 Å.
    n_turns
        The network is shown the map in so many orientations, up to 24, and what it says of them is averaged.
    is_wanted
        Places (..., 3) in Å -> (...) whether residues there are asked for; tiles of the map without any such place are
        left out.

    Memory: 0.4 GB for a batch of tiles, and 250 bytes for each Å³ of the map that holds something.
    """
    device = next(network.parameters()).device
    density, spacing = resampled(grid.voxels.to(device).float(), grid.voxel_size_angstrom)
    shape = tuple(density.shape)
    unit = density_unit(density)
    n_cells = tuple(-(-n // CELL_VOXELS) for n in shape)
    found: list[tuple[Tensor, Tensor]] = []
    content = torch.zeros(*n_cells, 3, device=device)
    structure = torch.zeros(*n_cells, 3, device=device)
    place = _Place(spacing.to(device), grid.origin_angstrom.to(device))
    tiles = list(_tiles(shape))
    if is_wanted is not None:
        tiles = [tile for tile in tiles if bool(is_wanted(place.of(_core(tile, shape, device))).any())]
    for first in range(0, len(tiles), tile_batch):
        batch = tiles[first : first + tile_batch]
        cubes = torch.stack([box_of(density, *zip(*tile)) for tile in batch])
        told_of_tiles = answers(network, _scaled(cubes, unit), n_turns)
        for tile, channels in zip(batch, told_of_tiles):
            centres, inner, target = _inner(tile, shape, device)
            channels = channels[inner]
            told = split(channels)
            content[target] = told.content.sigmoid()
            structure[target] = told.alpha.sigmoid() * told.secondary_structure.softmax(-1)
            useful = (torch.maximum(told.alpha, told.sugar).sigmoid() > _LEAST_PROBABILITY).squeeze(-1)
            found.append((centres[inner][useful], channels[useful]))
    if not found:
        raise ValueError("no place of the map is wanted; expected one at least")
    centres = torch.cat([c for c, _ in found])
    told = split(torch.cat([channels for _, channels in found]))
    return MapDetections(
        _protein(centres, told, place, network.calibration),
        _nucleic(centres, told, place, network.calibration),
        content,
        _shares(_blurred(structure)),
        place.of(cell_centres(tuple(n * CELL_VOXELS for n in n_cells), device=device)),
    )


def _blurred(of_cells: Tensor) -> Tensor:
    """(cell z, cell y, cell x, channel) under a bell: residues near each other tend to have the same structure."""
    reach = round(3 * _STRUCTURE_SIGMA_ANGSTROM / (CELL_VOXELS * VOXEL_ANGSTROM))
    at = torch.arange(-reach, reach + 1, device=of_cells.device) * (CELL_VOXELS * VOXEL_ANGSTROM)
    bell = torch.exp(-(at**2) / (2 * _STRUCTURE_SIGMA_ANGSTROM**2)).to(of_cells.dtype)
    channels = of_cells.permute(3, 0, 1, 2)[:, None]
    for shape in ((-1, 1, 1), (1, -1, 1), (1, 1, -1)):
        kernel = bell.reshape(shape)
        channels = conv3d(channels, kernel[None, None], padding=tuple(n // 2 for n in kernel.shape))
    return channels[:, 0].permute(1, 2, 3, 0)


def _shares(weights: Tensor) -> Tensor:
    return (weights + 1e-6) / (weights + 1e-6).sum(-1, keepdim=True)


def resampled(density: Tensor, voxel_size_angstrom: float) -> tuple[Tensor, Tensor]:
    """The map at voxels of 1 Å or very nearly so, by its transform.

    The map is padded with its edge's mean so that the new voxels come out within 0.3 % of 1 Å.

    Returns
    -------
    (z, y, x) density, and the (3,) float64 voxel size that it has, in Å.
    """
    factor = voxel_size_angstrom / VOXEL_ANGSTROM
    old, new = zip(*(_commensurate(n, factor) for n in density.shape))
    padded = density.new_full(old, float(_edge_mean(density)))
    z, y, x = density.shape
    padded[:z, :y, :x] = density
    if old != new:
        half = torch.fft.rfftn(padded)
        padded = torch.fft.irfftn(fourier.crop_transform(half, old, new), s=new) * (
            torch.tensor(new).prod() / torch.tensor(old).prod()
        )
    spacing = torch.tensor([voxel_size_angstrom * o / n for o, n in zip(old, new)], dtype=torch.float64)
    kept = [min(n, round(size * factor) + 1) for size, n in zip(density.shape, new)]
    return padded[: kept[0], : kept[1], : kept[2]].contiguous(), spacing


def _commensurate(n: int, factor: float) -> tuple[int, int]:
    """A length of at least n, and how many new voxels it makes, so that hardly anything is left over."""
    lengths = range(n, n + 25)
    best = min(lengths, key=lambda old: (round(abs(old * factor / max(1, round(old * factor)) - 1), 3), old))
    return best, max(1, round(best * factor))


def _edge_mean(density: Tensor) -> Tensor:
    faces = [density.select(axis, at).mean() for axis in range(3) for at in (0, -1)]
    return torch.stack(faces).mean()


def _scaled(cubes: Tensor, unit: Tensor) -> Tensor:
    """As `normalised`, but for cubes that hold nothing of the map's strength."""
    own = density_unit(cubes)
    return normalised(cubes) * (own / own.maximum(_LEAST_UNIT * unit))


def answers(network: ResidueDetector, cubes: Tensor, n_turns: int) -> Tensor:
    """What a network says of normalised cubes (tile, z, y, x): (tile, cell z, cell y, cell x, channel).

    The mean over some turns of the map; bfloat16 halves the time where the device has it.
    """
    total: Tensor | None = None
    for turn in turns()[:n_turns]:
        turned = turn.of_density(cubes)[:, None].contiguous(memory_format=torch.channels_last_3d)
        with torch.autocast(cubes.device.type, torch.bfloat16):
            channels = network(turned)
        upright = turn.back(channels.permute(0, 2, 3, 4, 1).float())
        total = upright if total is None else total + upright
    assert total is not None
    return total / n_turns


_Tile = tuple[tuple[int, int], ...]
"""Along each axis: first voxel, number of voxels."""


def _tiles(shape: tuple[int, ...]) -> Iterator[_Tile]:
    per_axis = []
    for n in shape:
        if n + 2 * _MARGIN <= _LARGEST_TILE:
            size = -(-(n + 2 * _MARGIN) // TILE_STEP_VOXELS) * TILE_STEP_VOXELS
            per_axis.append([(-_MARGIN, size)])
        else:
            core = _LARGEST_TILE - 2 * _MARGIN
            per_axis.append([(first - _MARGIN, _LARGEST_TILE) for first in range(0, n, core)])
    return ((a, b, c) for a in per_axis[0] for b in per_axis[1] for c in per_axis[2])


def _inner(
    tile: _Tile, shape: tuple[int, ...], device: torch.device
) -> tuple[Tensor, tuple[slice, ...], tuple[slice, ...]]:
    """Centres of a tile's cells in voxels of the map, which of them count, and where they stand in the map."""
    first = torch.tensor([f for f, _ in tile], device=device)
    centres = cell_centres(tuple(size for _, size in tile), device=device) + first
    inner, target = [], []
    for (start, size), n in zip(tile, shape):
        begin = _MARGIN // CELL_VOXELS
        end = min((size - _MARGIN) // CELL_VOXELS, begin + -(-(n - start - _MARGIN) // CELL_VOXELS))
        inner.append(slice(begin, end))
        target.append(slice((start + _MARGIN) // CELL_VOXELS, (start + _MARGIN) // CELL_VOXELS + end - begin))
    return centres, tuple(inner), tuple(target)


def _core(tile: _Tile, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """(cell, 3) centres, in voxels of the map, of the cells that a tile answers for."""
    centres, inner, _ = _inner(tile, shape, device)
    return centres[inner].reshape(-1, 3)


@dataclass(frozen=True)
class _Place:
    """From voxels of the resampled map to Å of its frame."""

    spacing: Tensor
    origin: Tensor

    def of(self, voxels: Tensor) -> Tensor:
        return voxels.double() * self.spacing + self.origin


def _protein(centres: Tensor, told: CellPredictions, place: _Place, calibration: Tensor) -> ProteinDetections:
    probability = told.alpha.squeeze(-1).sigmoid()
    backbone = told.backbone.reshape(-1, 4, 3)
    votes = merged(centres + backbone[:, 1], probability, MERGED_ANGSTROM)
    atoms = votes.mean(centres[:, None] + backbone)
    neighbours = votes.mean(centres[:, None] + told.neighbours.reshape(-1, 2, 3))
    alpha = atoms[:, 1]
    spacing = place.spacing.float()
    return ProteinDetections(
        place.of(alpha),
        calibrated(votes.best, calibration[0]),
        (atoms[:, [0, 2, 3]] - alpha[:, None]) * spacing,
        (neighbours[:, 0] - alpha) * spacing,
        (neighbours[:, 1] - alpha) * spacing,
        (calibration[2, 0] * votes.mean(told.amino_acid)).softmax(-1),
        (calibration[3, 0] * votes.mean(told.secondary_structure)).softmax(-1),
    )


def _nucleic(centres: Tensor, told: CellPredictions, place: _Place, calibration: Tensor) -> NucleotideDetections:
    probability = told.sugar.squeeze(-1).sigmoid()
    points = told.nucleotide.reshape(-1, 3, 3)
    votes = merged(centres + points[:, 0], probability, MERGED_NUCLEOTIDES_ANGSTROM)
    found = votes.mean(centres[:, None] + points)
    neighbours = votes.mean(centres[:, None] + told.nucleotide_neighbours.reshape(-1, 2, 3))
    sugar = found[:, 0]
    spacing = place.spacing.float()
    return NucleotideDetections(
        place.of(sugar),
        calibrated(votes.best, calibration[1]),
        (found[:, 1] - sugar) * spacing,
        (found[:, 2] - sugar) * spacing,
        (neighbours[:, 0] - sugar) * spacing,
        (neighbours[:, 1] - sugar) * spacing,
        (calibration[4, 0] * votes.mean(told.base)).softmax(-1),
    )


def calibrated(probability: Tensor, scale_and_offset: Tensor) -> Tensor:
    """What a probability of the network turned out to mean."""
    logit = torch.logit(probability.double(), eps=1e-6)
    return torch.sigmoid(scale_and_offset[0] * logit + scale_and_offset[1]).float()


@dataclass(frozen=True, eq=False)
class MergedVotes:
    """Votes gathered around the surest of them."""

    best: Tensor
    """(group,) highest probability, falling."""
    group: Tensor
    """(vote,) group of each vote, -1 for those too improbable to count."""
    weight: Tensor
    """(vote,) probability."""

    def mean(self, values: Tensor) -> Tensor:
        """(group, ...) mean of what the votes (vote, ...) say, weighted by their probability."""
        counted = self.group >= 0
        weight = self.weight[counted].reshape(-1, *[1] * (values.ndim - 1))
        total = values.new_zeros(len(self.best), *values.shape[1:])
        total.index_add_(0, self.group[counted], values[counted] * weight)
        mass = weight.new_zeros(len(self.best), *weight.shape[1:])
        mass.index_add_(0, self.group[counted], weight)
        return total / mass


def merged(positions: Tensor, probability: Tensor, radius: float) -> MergedVotes:
    """Votes (n, 3) gathered: the surest one takes those within ``radius``, then the surest of the rest, and so on.

    Memory: 100 bytes for each pair of votes within ``radius``.
    """
    order = torch.argsort(probability, descending=True)
    order = order[probability[order] > _LEAST_PROBABILITY]
    group = gathered(*_pairs(positions[order], radius), len(order))
    leaders, numbers = torch.unique(group, return_inverse=True)
    of_vote = torch.full((len(positions),), -1, dtype=torch.int64, device=positions.device)
    of_vote[order] = numbers
    return MergedVotes(probability[order][leaders], of_vote, probability)


def _pairs(positions: Tensor, radius: float, chunk: int = 1024) -> tuple[Tensor, Tensor]:
    """Pairs (i, j) with i < j of positions within ``radius``."""
    firsts, seconds = [], []
    for start in range(0, len(positions), chunk):
        near = torch.cdist(positions[start : start + chunk], positions[start:]) < radius
        i, j = torch.nonzero(near.triu(1), as_tuple=True)
        firsts.append(i + start)
        seconds.append(j + start)
    empty = torch.zeros(0, dtype=torch.int64, device=positions.device)
    return torch.cat([empty, *firsts]), torch.cat([empty, *seconds])
