"""Structures into a map: all copies and chains at once, and a record of what lies where and what does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kernels.models.atomic_model import AtomicModel, joined
from kernels.models.mates import Mates
from kernels.models.placement_overlap import overlaps
from tasks.docking.chains import MOST_OVERLAP, PlacedCopy, conflicts, possible_copies
from tasks.docking.choice import chosen
from tasks.docking.hits import Hit, Scene, hits_of
from tasks.docking.symmetry import completed, confirmed
from tasks.docking.targets import Target
from tasks.formats.structure import chain_name
from tasks.records.docking import Docking, FoundSymmetry, NotPlaced, PlacedBody, Vector

_PERCENT = 100.0
_RESIDUE_ANGSTROM3 = 135.0
"""Volume of a residue in a protein (Tsai et al. 1999, J. Mol. Biol. 290:253)."""
_TAKEN_ANGSTROM = 6.0
_TOO_LARGE = 1.5
"""Longest extent of a structure over the diagonal of its map."""


class NothingPlacedError(ValueError):
    """A map in which nothing that was offered is believed to lie."""


@dataclass(frozen=True, eq=False)
class DockedModel:
    """What was placed. Each row of the record is a rigid body, and says which residues it moves."""

    model: AtomicModel
    """B-factors are 100 times the probability that a residue's body lies right."""
    body: Tensor
    """(residue,) int64, its row of ``record.placed``: what a flexible fit bends, and where it may be cut."""
    record: Docking


@dataclass(frozen=True, eq=False)
class _Copy:
    target: int
    hits: tuple[int, ...]
    operation: int
    """Of the map's symmetry, that brings it beside the first one."""


def dock(scene: Scene, targets: Sequence[Target], map_name: str, least_confidence: float) -> DockedModel:
    """Place structures in a map.

    Raises
    ------
    ValueError
        For a structure that is larger than the map.
    NothingPlacedError
        With the reason for each structure.
    """
    for target in targets:
        _check_size(scene, target)
    hits: list[Hit] = []
    target_of: list[int] = []
    for number, target in enumerate(targets):
        own = hits_of(scene, target, least_confidence)
        hits += own
        target_of += [number] * len(own)
    overlap = overlaps([hit.places for hit in hits], scene.mates)
    possible: list[tuple[int, PlacedCopy]] = []
    for number, target in enumerate(targets):
        mine = [i for i, owner in enumerate(target_of) if owner == number]
        found = possible_copies(target, [hits[i] for i in mine], overlap[mine][:, mine], least_confidence)
        possible += [(number, PlacedCopy(tuple(mine[i] for i in one.hits), one.score)) for one in found]
    taken = chosen(
        torch.tensor([one.score for _, one in possible], dtype=torch.float64),
        conflicts([one for _, one in possible], overlap),
        torch.tensor([number for number, _ in possible], dtype=torch.int64),
        torch.tensor([torch.inf if t.n_copies is None else t.n_copies for t in targets], dtype=torch.float64),
    )
    order = sorted(taken.tolist(), key=lambda i: (possible[i][0], -possible[i][1].score))
    copies = _beside(scene.mates, [(possible[i][0], possible[i][1].hits) for i in order], hits)
    symmetry: list[FoundSymmetry] = []
    if scene.mates is None:  # else the map's own symmetry is known
        copies, symmetry = _with_symmetry(scene, targets, hits, target_of, copies, least_confidence)
        overlap = overlaps([hit.places for hit in hits])
    not_placed = _lacking(scene, targets, hits, target_of, copies, overlap, least_confidence)
    if not copies:
        raise NothingPlacedError("; ".join(f"{one.source}: {one.reason}" for one in not_placed))
    return _written(scene, targets, hits, copies, not_placed, symmetry, overlap, map_name)


def _with_symmetry(
    scene: Scene,
    targets: Sequence[Target],
    hits: list[Hit],
    target_of: list[int],
    copies: Sequence[_Copy],
    least: float,
) -> tuple[list[_Copy], list[FoundSymmetry]]:
    """With the copies that the symmetry of those of one target asks for; their hits are added to the others."""
    every: list[_Copy] = []
    symmetry: list[FoundSymmetry] = []
    for number, target in enumerate(targets):
        own = [copy for copy in copies if copy.target == number]
        told = [tuple(hits[i] for i in copy.hits) for copy in own]
        others = [hits[i] for i, owner in enumerate(target_of) if owner == number and hits[i].probability < least]
        for hit in confirmed(target, told, others):
            own.append(_Copy(number, (len(hits),), 0))
            told.append((hit,))
            hits.append(hit)
            target_of.append(number)
        found = completed(scene, target, told, least)
        every += own
        for added in found.copies[len(own) :]:
            every.append(_Copy(number, tuple(range(len(hits), len(hits) + len(added))), 0))
            hits += added
            target_of += [number] * len(added)
        if found.symmetry is not None:
            symmetry.append(found.symmetry)
    return every, symmetry


def _check_size(scene: Scene, target: Target) -> None:
    extent = 2 * target.body().reach_angstrom
    diagonal = float(scene.grid.size_angstrom.norm())
    if extent > _TOO_LARGE * diagonal:
        raise ValueError(
            f"{target.name} is {extent:.0f} Å long and the map {diagonal:.0f} Å from corner to corner, so they cannot"
            " be joined; look at the map's voxel size, or give a part of the structure"
        )


def _beside(mates: Mates | None, copies: Sequence[tuple[int, tuple[int, ...]]], hits: Sequence[Hit]) -> list[_Copy]:
    """In a symmetric map each copy by the operation that brings it nearest to the first one."""
    if mates is None or not copies:
        return [_Copy(number, own, 0) for number, own in copies]
    middles = [torch.cat([hits[i].places for i in own]).mean(0) for _, own in copies]
    nearest = [int((mates.of(middle) - middles[0]).norm(dim=-1).argmin()) for middle in middles]
    return [_Copy(number, own, operation) for (number, own), operation in zip(copies, nearest)]


def _lacking(
    scene: Scene,
    targets: Sequence[Target],
    hits: Sequence[Hit],
    target_of: Sequence[int],
    copies: Sequence[_Copy],
    overlap: Tensor,
    least: float,
) -> list[NotPlaced]:
    """What was asked for and is not there, with the reason."""
    found = []
    for number, target in enumerate(targets):
        own = [copy for copy in copies if copy.target == number]
        mine = [i for i, owner in enumerate(target_of) if owner == number]
        wanted = target.n_copies if target.n_copies is not None else 1
        if len(own) < wanted:
            asked = None if target.n_copies is None else wanted - len(own)
            left = _residues_left(scene, copies, hits)
            reason = _why(hits, mine, least, overlap, left, target)
            found.append(NotPlaced(source=target.name, part="whole", n_copies=asked,
                                   n_residues=target.model.n_residues, reason=reason))  # fmt: skip
        for part in range(target.n_parts if target.n_parts > 1 else 0):
            n = sum(all(hits[i].part not in (None, part) for i in copy.hits) for copy in own)
            if n:
                of_part = [i for i in mine if hits[i].part == part]
                reason = _why(hits, of_part, least, overlap, _residues_left(scene, copies, hits), target)
                found.append(NotPlaced(source=target.name, part=f"part {part + 1} of {target.n_parts}", n_copies=n,
                                       n_residues=len(target.rows(part)), reason=reason))  # fmt: skip
    return found


def _why(hits: Sequence[Hit], mine: Sequence[int], least: float, overlap: Tensor, n_left: float, target: Target) -> str:
    best = max(mine, key=lambda i: hits[i].probability, default=None)
    if best is None:
        return "no place was found for it"
    believed = [i for i in mine if hits[i].probability >= least]
    if not believed:
        return f"{hits[best].words}, less than the {least:.2f} that is asked for"
    if all(float(overlap[i, i]) > MOST_OVERLAP for i in believed):
        return "where it fits it runs into its own copies by the symmetry of the map"
    if n_left < 0.5 * target.model.n_residues:
        return (
            f"the map has no density left for it: what is above its contour and not yet explained holds"
            f" {n_left:.0f} residues, one copy has {target.model.n_residues}; ask for fewer copies"
        )
    return "every place where it fits is taken by what explains more of the density"


def _residues_left(scene: Scene, copies: Sequence[_Copy], hits: Sequence[Hit]) -> float:
    """Residues that fit into the density above the contour that no placed body reaches."""
    fitting = scene.fitting
    strong = torch.nonzero(fitting.blurred.voxels > scene.contour)
    places = fitting.grid.to_angstrom(strong).cpu()
    if len(places) == 0:
        return 0.0
    taken = [hits[i].places for copy in copies for i in copy.hits]
    if taken:
        everywhere = torch.cat(taken)
        known = everywhere if scene.mates is None else scene.mates.of(everywhere).reshape(-1, 3)
        nearest = torch.cat([torch.cdist(some, known).amin(1) for some in places.split(2048)])
        places = places[nearest > _TAKEN_ANGSTROM]
    volume = len(places) * fitting.voxel**3 / (1 if scene.mates is None else len(scene.mates))
    return volume / _RESIDUE_ANGSTROM3


def _written(
    scene: Scene,
    targets: Sequence[Target],
    hits: Sequence[Hit],
    copies: Sequence[_Copy],
    not_placed: Sequence[NotPlaced],
    symmetry: Sequence[FoundSymmetry],
    overlap: Tensor,
    map_name: str,
) -> DockedModel:
    placed_hits = [i for copy in copies for i in copy.hits]
    rows: list[PlacedBody] = []
    models: list[AtomicModel] = []
    body: list[Tensor] = []
    n_chains = 0
    counted: dict[int, int] = {}
    for copy in copies:
        target = targets[copy.target]
        counted[copy.target] = counted.get(copy.target, 0) + 1
        source_chains = list(dict.fromkeys(r.chain for r in target.model.residues))
        names = {chain: chain_name(n_chains + i) for i, chain in enumerate(source_chains)}
        n_chains += len(source_chains)
        place = target.model.coordinates_angstrom.clone()
        b_factor = target.model.b_factor_angstrom2.clone()
        own_body = torch.full((target.model.n_residues,), -1, dtype=torch.int64)
        for i in copy.hits:
            hit = hits[i]
            rotation, shift = _by_operation(scene.mates, copy.operation, hit)
            of_hit = torch.ones_like(own_body, dtype=torch.bool) if hit.part is None else target.part == hit.part
            atoms = of_hit[target.model.residue]
            place[atoms] = place[atoms] @ rotation.T + shift
            b_factor[atoms] = _PERCENT * hit.probability
            own_body[of_hit] = len(rows)
            numbers = torch.nonzero(of_hit).squeeze(1).tolist()
            residues = [replace(target.model.residues[k], chain=names[target.model.residues[k].chain]) for k in numbers]
            others = [k for k in placed_hits if k != i]
            rows.append(
                PlacedBody(
                    source=target.name,
                    copy_number=counted[copy.target],
                    part="whole" if hit.part is None else f"part {hit.part + 1} of {target.n_parts}",
                    chains=tuple(dict.fromkeys(r.chain for r in residues)),
                    first=str(residues[0]),
                    last=str(residues[-1]),
                    n_residues=len(residues),
                    rotation=_rows(rotation),
                    shift_angstrom=_vector(shift),
                    correlation=round(hit.correlation, 4),
                    contrast=round(hit.contrast, 4),
                    z_score=round(hit.z_score, 2),
                    over_mirrored=round(hit.over_mirrored, 4),
                    share_inside=round(hit.share_inside, 3),
                    probability=round(hit.probability, 4),
                    overlap=round(float(overlap[i, others].max()) if others else 0.0, 4),
                    is_from_symmetry=hit.is_from_symmetry,
                )
            )
        renamed = replace(
            target.model,
            residues=tuple(replace(r, chain=names[r.chain]) for r in target.model.residues),
            coordinates_angstrom=place,
            b_factor_angstrom2=b_factor,
        )
        kept = own_body >= 0
        models.append(renamed.take_residues(kept))
        body.append(own_body[kept])
    record = Docking(
        map=map_name,
        resolution_angstrom=scene.resolution_angstrom,
        placed=tuple(rows),
        not_placed=tuple(not_placed),
        symmetry=tuple(symmetry),
        n_untrusted=sum(target.n_untrusted for target in targets),
    )
    return DockedModel(joined(models), torch.cat(body), record)


def _by_operation(mates: Mates | None, operation: int, hit: Hit) -> tuple[Tensor, Tensor]:
    """Rotation and shift of a hit that an operation of the map's symmetry moves."""
    if mates is None or operation == 0:
        return hit.rotation, hit.shift_angstrom
    turn, centre = mates.rotation[operation], mates.centre_angstrom
    return turn @ hit.rotation, turn @ (hit.shift_angstrom - centre) + centre


def _rows(rotation: Tensor) -> tuple[Vector, Vector, Vector]:
    first, second, third = (_vector(row) for row in rotation)
    return first, second, third


def _vector(values: Tensor) -> Vector:
    z, y, x = values.tolist()
    return z, y, x
