"""Where bodies could lie in a map, each judged: the whole of a structure first, then its parts from there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kernels.maps.grid import DensityGrid
from kernels.models.docking import (
    Placements,
    correlations,
    different,
    fitted,
    fitting_field,
    mirrored_poses,
    searched,
)
from kernels.models.map_field import MapField
from kernels.models.mates import Mates
from kernels.models.placement_confidence import placement_probability
from kernels.models.placement_evidence import contour_of, placement_evidence
from kernels.models.residue_places import places_of_residues
from kernels.models.rigid_body import RigidBody
from kernels.models.superposition import rmsd
from tasks.docking.targets import Target

_N_FITTED, _N_HITS = 100, 40
_HOPELESS_OF_BEST = 0.6
"""Of the best correlation: below it no hit is looked at."""
_IN_VAIN = 3
"""Hits that are not believed, one after the other, after which no more are looked at."""
_UNLIKELY = 0.1
_N_STARTS = 6
"""Poses of the whole that its parts are fitted from, and more where more of them are believed."""
_SAME_ANGSTROM = 4.0


@dataclass(frozen=True, eq=False)
class Scene:
    """A map, with what all bodies need of it."""

    grid: DensityGrid
    mates: Mates | None
    """None without symmetry."""
    resolution_angstrom: float
    fitting: MapField = field(init=False)
    contour: float = field(init=False)
    _mirrored: dict[tuple[Target, int | None], Placements] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fitting", fitting_field(self.grid, self.resolution_angstrom))
        object.__setattr__(self, "contour", contour_of(self.fitting))

    def body(self, target: Target, part: int | None = None) -> RigidBody:
        """The whole of a target or one of its parts, where the map is."""
        return target.body(part).to(self.fitting.device)

    def mirrored(self, target: Target, part: int | None) -> Placements:
        """Where the mirror image of a body fits best."""
        asked = (target, part)
        if asked not in self._mirrored:
            self._mirrored[asked] = mirrored_poses(self.grid, self.fitting, self.body(target, part))
        return self._mirrored[asked]


@dataclass(frozen=True, eq=False)
class Hit:
    """A body where it could lie."""

    part: int | None
    """Of its target; None for the whole."""
    rotation: Tensor
    """(3, 3) float64, acting on (z, y, x)."""
    shift_angstrom: Tensor
    """(3,) a place r of the source comes to lie at ``rotation @ r + shift_angstrom``."""
    correlation: float
    contrast: float
    z_score: float
    over_mirrored: float
    share_inside: float
    probability: float
    part_correlations: tuple[float, ...]
    """Of each part that it places."""
    places: Tensor
    """(residue, 3) float64 where the residues come to lie."""
    is_from_symmetry: bool = False

    def at(self, places_angstrom: Tensor) -> Tensor:
        """Places (n, 3) of the source where this puts them."""
        return places_angstrom @ self.rotation.T + self.shift_angstrom

    @property
    def words(self) -> str:
        return (
            f"its best place has a probability of {self.probability:.2f} (correlation {self.correlation:.2f},"
            f" {self.contrast:+.2f} against the next best there, {self.over_mirrored:+.2f} against its mirror image)"
        )


def hits_of(scene: Scene, target: Target, least_confidence: float) -> list[Hit]:
    """Judged places of a target and of its parts, believed or not.

    The whole is searched for. Parts are fitted from where the whole lies, and searched for where that leaves one
    without a place that is believed.
    """
    whole, poses = _searched(scene, target, None)
    hits = judged(scene, target, None, poses, poses)
    if target.n_parts == 1:
        return hits
    believed = [hit for hit in hits if hit.probability >= least_confidence]
    starts = [_transform(whole, poses, i) for i in range(min(_N_STARTS, len(poses)))]
    starts += [(hit.rotation, hit.shift_angstrom) for hit in believed]
    found = list(hits)
    for part in range(target.n_parts):
        body = scene.body(target, part)
        near = different(fitted(scene.fitting, body, _from_transforms(body, starts)), body, len(starts))
        own = judged(scene, target, part, near, near)
        n_believed = sum(hit.probability >= least_confidence for hit in own)
        if n_believed == 0 or n_believed < len(believed):
            _, far = _searched(scene, target, part)
            every = different(Placements.joined([far, near]), body, _N_HITS)
            own = judged(scene, target, part, every, every)
        found += own
    return found


def judged(
    scene: Scene,
    target: Target,
    part: int | None,
    poses: Placements,
    others: Placements,
) -> list[Hit]:
    """Poses as hits, the best first, until several in a row are not believed; copies by symmetry count once."""
    body = scene.body(target, part)
    model = target.model if part is None else target.part_model(part)
    source = places_of_residues(model)
    bodies = [scene.body(target, p) for p in range(target.n_parts)] if part is None and target.n_parts > 1 else []
    mirrored = scene.mirrored(target, part)
    hits: list[Hit] = []
    in_vain = 0
    for i in range(len(poses)):
        if in_vain == _IN_VAIN or float(poses.correlation[i]) < _HOPELESS_OF_BEST * float(poses.correlation[0]):
            break
        rotation, shift = _transform(body, poses, i)
        places = source @ rotation.T + shift
        if any(_is_copy(places, hit.places, scene.mates) for hit in hits):
            continue
        pose = poses.take(torch.tensor([i]))
        found = placement_evidence(scene.fitting, scene.contour, body, pose, others, mirrored)
        probability = _one_of(target.n_bodies, float(placement_probability(found)[0]))
        correlation = float(found.correlation[0])
        each = [
            float(correlations(scene.fitting, b, rotation[None], (_start(b, rotation, shift))[None])[0]) for b in bodies
        ]
        hits.append(
            Hit(
                part, rotation, shift, correlation, float(found.contrast[0]), float(found.z_score[0]),
                float(found.over_mirrored[0]), float(found.share_inside[0]), probability,
                tuple(each) or (correlation,), places,
            )
        )  # fmt: skip
        in_vain = in_vain + 1 if probability < _UNLIKELY else 0
    return hits


def _one_of(n_bodies: int, probability: float) -> float:
    """Of a body that is one of several tried, each of which could fit by chance."""
    return probability / (probability + n_bodies * (1 - probability))


def from_transforms(
    scene: Scene, target: Target, part: int | None, starts: Sequence[tuple[Tensor, Tensor]]
) -> Placements:
    """A body fitted from some places on."""
    body = scene.body(target, part)
    return fitted(scene.fitting, body, _from_transforms(body, starts))


def _searched(scene: Scene, target: Target, part: int | None) -> tuple[RigidBody, Placements]:
    body = scene.body(target, part)
    return body, searched(scene.grid, scene.fitting, body, _N_FITTED, _N_HITS)


def _transform(body: RigidBody, poses: Placements, i: int) -> tuple[Tensor, Tensor]:
    """Rotation and shift about the origin, of a pose about the body's middle."""
    rotation = poses.rotation[i].double()
    return rotation, poses.shift_angstrom[i] + body.middle_angstrom - rotation @ body.middle_angstrom


def _start(body: RigidBody, rotation: Tensor, shift: Tensor) -> Tensor:
    """(3,) shift of a pose about the body's middle."""
    return rotation @ body.middle_angstrom + shift - body.middle_angstrom


def _from_transforms(body: RigidBody, starts: Sequence[tuple[Tensor, Tensor]]) -> Placements:
    shifts = torch.stack([_start(body, rotation, shift) for rotation, shift in starts])
    return Placements(torch.stack([rotation for rotation, _ in starts]), shifts, torch.zeros(len(starts)))


def _is_copy(places: Tensor, known: Tensor, mates: Mates | None) -> bool:
    """Whether a mate of the one is the other."""
    copies = places[None] if mates is None else mates.of(places)
    return any(rmsd(copy, known) < _SAME_ANGSTROM for copy in copies)
