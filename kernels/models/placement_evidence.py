"""What speaks for a placement: how well it fits, and how much better than anything else at its place.

Any protein fits somewhere, the better the coarser the map. What the fit of a wrong one comes to is told by the mirror
image of the structure, which no map shows: a right structure fits better than it, a wrong one as well as it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.models.docking import Placements, alternatives, placed_points
from kernels.models.map_field import MapField, contour_level
from kernels.models.rigid_body import RigidBody

_N_ALTERNATIVES = 24
_OTHER_ANGSTROM = 6.0
"""RMSD from which a pose is another one; nearer ones lie on the flank of the same peak."""
_SAME_SHAPE_ANGSTROM = 1.5
"""From each residue to the nearest of the other pose: less, and both show the same density, as a dimer turned about
its own axis does."""
_NEARBY_OF_RADIUS = 1.0
"""How far apart the middles of poses are that explain the same density, in radii of gyration."""

FEATURES = (
    "correlation", "contrast", "z-score", "share inside", "residues", "resolution", "correlation, by resolution",
    "over its mirror image there", "over its mirror image anywhere",
)  # fmt: skip
_USUAL_RESOLUTION_ANGSTROM = 6.0


@dataclass(frozen=True, eq=False)
class PlacementEvidence:
    """Of each pose (pose,) float64."""

    correlation: Tensor
    """With the map inside of the body's mask."""
    contrast: Tensor
    """By how much it exceeds the best other pose at its place."""
    z_score: Tensor
    """The same in standard deviations of the correlations of all other poses at its place, from their mean."""
    share_inside: Tensor
    """Of the residues, above the contour of the map."""
    over_mirrored_there: Tensor
    """By how much the correlation exceeds that of the mirror image of the body at the same place."""
    over_mirrored: Tensor
    """The same, anywhere in the map."""
    n_residues: int
    resolution_angstrom: float

    def features(self) -> Tensor:
        """(pose, feature) in the order of `FEATURES`."""
        correlation = torch.atanh(self.correlation.clamp(-0.95, 0.98))
        blur = torch.full_like(correlation, self.resolution_angstrom - _USUAL_RESOLUTION_ANGSTROM)
        size = torch.full_like(correlation, self.n_residues).log()
        return torch.stack(
            [
                correlation,
                self.contrast.clamp(-0.1, 0.5),
                self.z_score.clamp(-2, 15),
                self.share_inside,
                size,
                blur,
                correlation * blur,
                self.over_mirrored_there.clamp(-0.2, 0.5),
                self.over_mirrored.clamp(-0.2, 0.5),
            ],
            dim=1,
        )


def placement_evidence(
    field: MapField, contour: float, body: RigidBody, poses: Placements, others: Placements, mirrored: Placements
) -> PlacementEvidence:
    """What speaks for poses, against those that the body takes from 24 other orientations at the same place.

    Parameters
    ----------
    contour
        Of `field.blurred`, see `contour_of`.
    others
        Poses of the same body that were found elsewhere or by the way: those at the same place are compared with, too.
    mirrored
        Poses of its mirror image, found all over the map.
    """
    contrast, z_score, over_mirrored_there = [], [], []
    image = body.mirrored()
    for row in range(len(poses)):
        pose = poses.take(torch.tensor([row]))
        rivals = Placements.joined([alternatives(field, body, pose, _N_ALTERNATIVES, row), _near(pose, others, body)])
        seen = rivals.correlation[is_other(pose, rivals, body)]
        own = float(pose.correlation[0])
        contrast.append(own - float(seen.max()) if len(seen) else own)
        z_score.append((own - float(seen.mean())) / max(float(seen.std()), 1e-3) if len(seen) > 2 else 0.0)
        images = Placements.joined(
            [alternatives(field, image, pose, _N_ALTERNATIVES, row), _near(pose, mirrored, body)]
        )
        over_mirrored_there.append(own - float(images.correlation.max()))
    return PlacementEvidence(
        poses.correlation.double(),
        torch.tensor(contrast, dtype=torch.float64),
        torch.tensor(z_score, dtype=torch.float64),
        share_inside(field, contour, body, poses),
        torch.tensor(over_mirrored_there, dtype=torch.float64),
        poses.correlation.double() - float(mirrored.correlation.max()),
        len(body.places),
        field.resolution,
    )


def _near(pose: Placements, others: Placements, body: RigidBody) -> Placements:
    """Those of others that lie where the one pose does."""
    apart = (others.shift_angstrom - pose.shift_angstrom).norm(dim=-1)
    return others.take(apart < _NEARBY_OF_RADIUS * body.radius_angstrom)


def is_other(pose: Placements, rivals: Placements, body: RigidBody) -> Tensor:
    """(rival,) whether it shows another density than the one pose."""
    own, theirs = placed_points(pose, body)[0], placed_points(rivals, body)
    far = (theirs - own).square().sum(-1).mean(-1).sqrt() > _OTHER_ANGSTROM
    nearest = torch.cdist(theirs, own.expand(len(theirs), *own.shape)).amin(-1)
    return far & (nearest.square().mean(-1).sqrt() > _SAME_SHAPE_ANGSTROM)


def contour_of(field: MapField) -> float:
    """Density that parts molecule from solvent, in `field.blurred`."""
    return contour_level(field.blurred.voxels)


def share_inside(field: MapField, contour: float, body: RigidBody, poses: Placements) -> Tensor:
    """(pose,) of the residues, where the map is above a contour."""
    points = placed_points(poses, body)
    return (field.blurred.values_at(points.to(field.device)) > contour).double().mean(-1).cpu()
