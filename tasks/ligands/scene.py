"""A model in its map, ready for what stands beside it: unexplained density, its evidence, what is in the way."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import conv3d

from kernels.fourier import fast_size
from kernels.maps.cutting import cut_around
from kernels.maps.grid import DensityGrid
from kernels.models.atomic_model import AtomicModel, joined
from kernels.models.map_fit import model_density, near_atoms, soft_mask
from kernels.models.mates import Mates, copies
from kernels.models.unexplained import AtomEvidence, Unexplained, atom_evidence, half_of, unexplained

_MARGIN_ANGSTROM = 12.0
_INSIDE_ANGSTROM = 1.7
"""Density nearer to an atom is the atom's."""
_FAR_ANGSTROM = 8.0
"""Density further from every atom has nothing to do with the model."""
_LOCAL_ANGSTROM = 12.0
_CLIPPED_SIGMA = 3.0
_PLACES_AT_ONCE = 512


@dataclass(frozen=True, eq=False)
class Scene:
    """What is known before anything is placed, or between two placements."""

    model: AtomicModel
    """As far as it has been made."""
    whole: AtomicModel
    """With all its mates that reach into the box."""
    mates: Mates | None
    left: Unexplained
    halves: tuple[Unexplained, ...]
    evidence: AtomEvidence
    sigma: DensityGrid
    """Of a lone atom's density at each voxel; where noise is stronger than on average, in that noise."""
    half_sigma: tuple[DensityGrid, ...]
    b_factor_angstrom2: float
    resolution_angstrom: float

    @property
    def allowed(self) -> Tensor:
        """(z, y, x) beside the atoms, but not far from them."""
        grid = self.left.grid
        return near_atoms(grid, self.whole, _FAR_ANGSTROM) & ~near_atoms(grid, self.whole, _INSIDE_ANGSTROM)

    def own(self, places: Tensor) -> Tensor:
        """(place,) whether a place (place, 3) belongs to the model rather than to one of its mates."""
        if self.mates is None or len(self.mates) == 1 or not len(places):
            return torch.ones(len(places), dtype=torch.bool)
        place = self.whole.coordinates_angstrom
        nearest = [torch.cdist(some, place).argmin(1) for some in places.double().split(_PLACES_AT_ONCE)]
        return torch.cat(nearest) < len(self.model)

    def neighbour(self, places: Tensor) -> tuple[str, float]:
        """Residue whose atom is nearest to any of some places (n, 3), and how far that is."""
        apart = torch.cdist(places.double(), self.model.coordinates_angstrom).amin(0)
        at = int(apart.argmin())
        return str(self.model.residues[int(self.model.residue[at])]), float(apart[at])


def scene(
    model: AtomicModel,
    grid: DensityGrid,
    halves: tuple[DensityGrid, DensityGrid] | None,
    resolution_angstrom: float,
    mates: Mates | None = None,
) -> Scene:
    """The map around a model, or the mean of its halves where there are any, less the model.

    Memory: about 250 bytes a voxel of the box around the model.
    """
    place = model.coordinates_angstrom
    maps = [grid] if halves is None else [halves[0].with_voxels((halves[0].voxels + halves[1].voxels) / 2), *halves]
    boxes = [_even(cut_around(one, place, _MARGIN_ANGSTROM)) for one in maps]
    whole = _in_box(model, boxes[0], mates)
    shown = _shown(boxes[0])
    density = model_density(whole, boxes[0])
    density = density.with_voxels(density.voxels * shown)
    near = soft_mask(boxes[0], whole) * shown
    left = unexplained(boxes[0], density, near, grid.resolution_shown(resolution_angstrom))
    parts = tuple(half_of(left, half, density, near) for half in boxes[1:])
    is_polymer = ((model.amino_acid >= 0) | (model.base >= 0))[model.residue]
    b_factor = float(model.b_factor_angstrom2[is_polymer if is_polymer.any() else slice(None)].median())
    return _seen(model, whole, mates, left, parts, b_factor, resolution_angstrom)


def _shown(grid: DensityGrid) -> Tensor:
    """(z, y, x) 0 where a mask has left nothing of the map, which tells nothing of what is there; 1 elsewhere."""
    return (grid.voxels != 0).float()


def with_added(before: Scene, added: AtomicModel) -> Scene:
    """The scene when something, on the same map, is explained as well; it becomes part of the model."""
    copied = _in_box(added, before.left.grid, before.mates)
    density = model_density(copied, before.left.grid)
    n = len(before.model)
    model = joined([before.model, added])
    rest = before.whole.take(torch.arange(len(before.whole)) >= n)
    others = copied.take(torch.arange(len(copied)) >= len(added)) if len(copied) > len(added) else None
    whole = joined([model, *([rest] if len(rest) else []), *([others] if others is not None else [])])
    left = before.left.without(density)
    halves = tuple(half.without(density) for half in before.halves)
    return _seen(model, whole, before.mates, left, halves, before.b_factor_angstrom2, before.resolution_angstrom)


def _seen(
    model: AtomicModel,
    whole: AtomicModel,
    mates: Mates | None,
    left: Unexplained,
    halves: tuple[Unexplained, ...],
    b_factor: float,
    resolution: float,
) -> Scene:
    evidence = atom_evidence(left, b_factor)
    half_sigma = tuple(_levelled(atom_evidence(half, b_factor).sigma()) for half in halves)
    return Scene(
        model, whole, mates, left, halves, evidence, _levelled(evidence.sigma()), half_sigma, b_factor, resolution
    )


def _even(grid: DensityGrid) -> DensityGrid:
    """A map padded with zeros at its ends, to sides that transform quickly."""
    missing = [fast_size(n) - n for n in grid.voxels.shape]
    padded = torch.nn.functional.pad(grid.voxels.float(), [p for n in reversed(missing) for p in (0, n)])
    return replace(grid, voxels=padded)


def _in_box(model: AtomicModel, box: DensityGrid, mates: Mates | None) -> AtomicModel:
    """A model, first, with the residues of its mates that have atoms in a box."""
    if mates is None or len(mates) == 1:
        return model
    parts = [model]
    size = torch.tensor(box.voxels.shape)
    for copy in copies(model, mates)[1:]:
        position = box.to_voxels(copy.coordinates_angstrom)
        inside = ((position > -1) & (position < size)).all(1)
        if inside.any():
            chosen = torch.zeros(model.n_residues, dtype=torch.bool)
            chosen[copy.residue[inside]] = True
            parts.append(copy.take_residues(chosen))
    return joined(parts)


def _levelled(sigma: DensityGrid) -> DensityGrid:
    """Heights over the root mean square around, where that is above one; what stands out far does not count for it."""
    reach = max(1, round(_LOCAL_ANGSTROM / sigma.voxel_size_angstrom))
    squares = sigma.voxels.clamp(-_CLIPPED_SIGMA, _CLIPPED_SIGMA).square()[None, None]
    count = torch.ones_like(squares)
    kernel = torch.ones(2 * reach + 1)
    for axis in range(3):
        shape = [1, 1, 1, 1, 1]
        shape[2 + axis] = len(kernel)
        padding = [0, 0, 0]
        padding[axis] = reach
        squares = conv3d(squares, kernel.reshape(shape), padding=padding)
        count = conv3d(count, kernel.reshape(shape), padding=padding)
    return sigma.with_voxels(sigma.voxels / (squares / count)[0, 0].sqrt().clamp(min=1))
