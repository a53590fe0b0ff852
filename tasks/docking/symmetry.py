"""The symmetry that placed copies have, and copies that it asks for and the search has not found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from kernels.models.placement_overlap import overlaps
from kernels.models.placement_symmetry import PlacedSymmetry, symmetry_of
from kernels.models.residue_places import places_of_residues
from kernels.models.screws import Motion
from tasks.docking.chains import MOST_OVERLAP
from tasks.docking.hits import Hit, Scene, from_transforms, judged
from tasks.docking.targets import Target
from tasks.records.docking import FoundSymmetry

_AS_GOOD, _FEWEST_AGREEING = 0.9, 3
"""Correlation over that of the best copy, and copies that obey one symmetry, for hits to confirm each other."""


@dataclass(frozen=True, eq=False)
class Completed:
    """Copies of one target with those that its symmetry added."""

    copies: list[tuple[Hit, ...]]
    symmetry: FoundSymmetry | None


def completed(scene: Scene, target: Target, copies: Sequence[tuple[Hit, ...]], least_confidence: float) -> Completed:
    """Name the symmetry of copies, and place what it asks for where the density believes it.

    A copy that is lacking is fitted from where the others put it, and judged like any other hit.
    """
    found = _symmetry(target, copies)
    if found is None:
        return Completed(list(copies), None)
    every = list(copies)
    room = math.inf if target.n_copies is None else target.n_copies - len(copies)
    taken = [hit.places for copy in every for hit in copy]
    for operation in found.missing.tolist():
        if len(every) - len(copies) >= room:
            break
        motion = found.operations.take(operation)
        added = _copy(scene, target, [_moved(motion, hit) for hit in copies[found.first]], least_confidence)
        if added and _is_free([hit.places for hit in added], taken):
            every.append(added)
            taken += [hit.places for hit in added]
    again = found if len(every) == len(copies) else _symmetry(target, every) or found
    return Completed(every, _told(target, again, len(every) - len(copies)))


def confirmed(target: Target, copies: Sequence[tuple[Hit, ...]], others: Sequence[Hit]) -> list[Hit]:
    """Hits that are not believed by themselves but stand where the symmetry of three and more puts a copy.

    They have to fit about as well as the best of the copies, at least one of which is believed, and to stand free.
    """
    if not copies or (target.n_copies is not None and len(copies) >= target.n_copies):
        return []
    best = max(hit.correlation for copy in copies for hit in copy)
    known = [hit for copy in copies for hit in copy]
    found: list[Hit] = []
    for hit in sorted(others, key=lambda one: -one.correlation):
        if hit.part is None and hit.correlation >= _AS_GOOD * best:
            share = overlaps([hit.places, *(one.places for one in known + found)])
            if float(share[0].max()) <= MOST_OVERLAP:
                found.append(hit)
    every = [*copies, *((hit,) for hit in found)]
    symmetry = _symmetry(target, every)
    if symmetry is None or symmetry.n_copies < _FEWEST_AGREEING:
        return []
    agrees = symmetry.operation_of >= 0
    if not bool(agrees[: len(copies)].any()):
        return []
    room = len(found) if target.n_copies is None else target.n_copies - len(copies)
    chosen = [hit for hit, is_there in zip(found, agrees[len(copies) :].tolist()) if is_there]
    return [replace(hit, is_from_symmetry=True) for hit in chosen[:room]]


def _symmetry(target: Target, copies: Sequence[tuple[Hit, ...]]) -> PlacedSymmetry | None:
    """By the whole of each copy, or by the part that all of them have."""
    leading = [next((hit for hit in copy if hit.part in (None, 0)), None) for copy in copies]
    known = [hit for hit in leading if hit is not None]
    if len(known) < len(copies) or len(known) < 2:
        return None
    motions = Motion(torch.stack([h.rotation for h in known]), torch.stack([h.shift_angstrom for h in known]))
    places = places_of_residues(target.model if target.n_parts == 1 else target.part_model(0))
    return symmetry_of(motions, places)


def _moved(motion: Motion, hit: Hit) -> tuple[int | None, torch.Tensor, torch.Tensor]:
    there = motion.after(Motion(hit.rotation, hit.shift_angstrom))
    return hit.part, there.rotation, there.shift_angstrom


def _copy(
    scene: Scene,
    target: Target,
    starts: Sequence[tuple[int | None, torch.Tensor, torch.Tensor]],
    least_confidence: float,
) -> tuple[Hit, ...]:
    found: list[Hit] = []
    for part, rotation, shift in starts:
        poses = from_transforms(scene, target, part, [(rotation, shift)])
        hits = judged(scene, target, part, poses, poses)
        if not hits or hits[0].probability < least_confidence:
            return ()
        found.append(replace(hits[0], is_from_symmetry=True))
    return tuple(found)


def _is_free(own: list[torch.Tensor], taken: list[torch.Tensor]) -> bool:
    share = overlaps([torch.cat(own), *taken])
    return float(share[0].max()) <= MOST_OVERLAP


def _told(target: Target, found: PlacedSymmetry, n_completed: int) -> FoundSymmetry:
    z, y, x = found.screw.axis.tolist()
    at_z, at_y, at_x = found.screw.centre_angstrom.tolist()
    is_helix = found.name == "helical"
    return FoundSymmetry(
        source=target.name,
        name=found.name,
        axis=(z, y, x),
        centre_angstrom=(at_z, at_y, at_x),
        rise_angstrom=found.screw.rise_angstrom if is_helix else None,
        twist_deg=math.degrees(found.screw.angle_rad) if is_helix else None,
        n_copies=found.n_copies,
        error_angstrom=found.error_angstrom,
        n_completed=n_completed,
    )
