"""Rotations, samplings of orientations and point-group symmetry.

A rotation matrix acts on column vectors in the order of the axes, (z, y, x), and takes map coordinates to image
coordinates: a point r of the map lies at ``R r`` in the frame of the image, whose (y, x) part is where the
particle shows it, plus ``shift_angstrom``.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache

import torch
from torch import Tensor


def euler_to_matrix(rot_rad: Tensor, tilt_rad: Tensor, psi_rad: Tensor) -> Tensor:
    """(..., 3, 3) rotation, in (z, y, x) order, of the intrinsic ZYZ Euler angles of RELION and cryoSPARC.

    Source
    ------
    Heymann et al. 2005, eq. 4: R = Rz(psi) Ry(tilt) Rz(rot) with rotations of the frame.
    """
    ca, sa = torch.cos(rot_rad), torch.sin(rot_rad)
    cb, sb = torch.cos(tilt_rad), torch.sin(tilt_rad)
    cg, sg = torch.cos(psi_rad), torch.sin(psi_rad)
    x_row = torch.stack([cg * cb * ca - sg * sa, cg * cb * sa + sg * ca, -cg * sb], dim=-1)
    y_row = torch.stack([-sg * cb * ca - cg * sa, -sg * cb * sa + cg * ca, sg * sb], dim=-1)
    z_row = torch.stack([sb * ca, sb * sa, cb], dim=-1)
    return torch.stack([z_row, y_row, x_row], dim=-2).flip(-1)


def matrix_to_euler(rotation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """ZYZ Euler angles (rot, tilt, psi) in radians of (..., 3, 3) rotations; undoes `euler_to_matrix`."""
    r = rotation.flip(-1).flip(-2)
    tilt = torch.atan2(torch.hypot(r[..., 2, 0], r[..., 2, 1]), r[..., 2, 2])
    is_pole = torch.sin(tilt).abs() < 1e-6
    rot = torch.atan2(r[..., 2, 1], r[..., 2, 0])
    psi = torch.atan2(r[..., 1, 2], -r[..., 0, 2])
    at_pole = torch.atan2(r[..., 0, 1], r[..., 1, 1])
    zero = torch.zeros_like(rot)
    return torch.where(is_pole, zero, rot), tilt, torch.where(is_pole, at_pole, psi)


def from_rotation_vector(vector_rad: Tensor) -> Tensor:
    """(..., 3, 3) rotation about ``vector_rad`` (..., 3), in (z, y, x) order, by its length (Rodrigues)."""
    angle = vector_rad.norm(dim=-1)[..., None, None]
    z, y, x = vector_rad.unbind(-1)
    zero = torch.zeros_like(x)
    # cross-product matrix of (x, y, z) written for (z, y, x) order
    cross = torch.stack(
        [
            torch.stack([zero, x, -y], dim=-1),
            torch.stack([-x, zero, z], dim=-1),
            torch.stack([y, -z, zero], dim=-1),
        ],
        dim=-2,
    )
    sinc = torch.sinc(angle / math.pi)
    cosc = 0.5 * torch.sinc(angle / (2 * math.pi)) ** 2
    identity = torch.eye(3, dtype=vector_rad.dtype, device=vector_rad.device)
    return identity + sinc * cross + cosc * (cross @ cross)


def to_rotation_vector(rotation: Tensor) -> Tensor:
    """(..., 3) axis times angle, in (z, y, x) order, of rotations (..., 3, 3) by less than half a turn."""
    odd = (rotation - rotation.mT) / 2
    along = torch.stack([odd[..., 1, 2], odd[..., 2, 0], odd[..., 0, 1]], dim=-1)
    sine = along.norm(dim=-1, keepdim=True)
    cosine = (rotation.diagonal(dim1=-2, dim2=-1).sum(-1, keepdim=True) - 1) / 2
    angle = torch.atan2(sine, cosine)
    return along / torch.sinc(angle / math.pi).clamp(min=1e-6)


def from_quaternion(quaternion: Tensor) -> Tensor:
    """(..., 3, 3) rotation of quaternions (..., 4) = (w, z, y, x), normalised on the way."""
    w, z, y, x = (quaternion / quaternion.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = [
        torch.stack([1 - 2 * (x * x + y * y), 2 * (y * z + w * x), 2 * (x * z - w * y)], dim=-1),
        torch.stack([2 * (y * z - w * x), 1 - 2 * (x * x + z * z), 2 * (x * y + w * z)], dim=-1),
        torch.stack([2 * (x * z + w * y), 2 * (x * y - w * z), 1 - 2 * (y * y + z * z)], dim=-1),
    ]
    return torch.stack(rows, dim=-2)


def random_rotations(n: int, generator: torch.Generator) -> Tensor:
    """(n, 3, 3) rotations, uniform over all orientations."""
    return from_quaternion(torch.randn(n, 4, generator=generator, dtype=torch.float64)).float()


def rotation_grid(spacing_rad: float, symmetry: str = "C1") -> Tensor:
    """(n, 3, 3) rotations that cover the asymmetric unit of ``symmetry`` about ``spacing_rad`` apart.

    A super-Fibonacci spiral over all orientations, of which those nearest to the identity among their symmetry
    mates are kept.

    Source
    ------
    Alexa, Super-Fibonacci Spirals, CVPR 2022.
    """
    n = max(1, round(8 * math.pi**2 / spacing_rad**3))
    step = torch.arange(n, dtype=torch.float64) + 0.5
    phi, psi = math.sqrt(2.0), 1.533751168755204288118041
    radius, other = torch.sqrt(step / n), torch.sqrt(1 - step / n)
    alpha, beta = 2 * math.pi * step / phi, 2 * math.pi * step / psi
    quaternions = torch.stack(
        [
            radius * torch.sin(alpha),
            radius * torch.cos(alpha),
            other * torch.sin(beta),
            other * torch.cos(beta),
        ],
        dim=-1,
    )
    rotations = from_quaternion(quaternions)
    return rotations[is_in_asymmetric_unit(rotations, symmetry)].float()


def is_in_asymmetric_unit(rotation: Tensor, symmetry: str) -> Tensor:
    """(...) whether no symmetry mate ``R S`` of (..., 3, 3) rotations is nearer to the identity."""
    group = symmetry_group(symmetry).to(rotation)
    trace = torch.einsum("...ij,sji->...s", rotation, group)  # of R S; the mates themselves would be nine times this
    return trace[..., 0] >= trace.amax(-1) - 1e-9


def to_asymmetric_unit(rotation: Tensor, symmetry: str) -> Tensor:
    """(..., 3, 3) the symmetry mate of each rotation that is nearest to the identity."""
    group = symmetry_group(symmetry).to(rotation)
    mates = torch.einsum("...ij,sjk->...sik", rotation, group)
    best = mates.diagonal(dim1=-2, dim2=-1).sum(-1).argmax(-1)
    return torch.gather(mates, -3, best[..., None, None, None].expand(*best.shape, 1, 3, 3)).squeeze(-3)


def angular_distance_rad(a: Tensor, b: Tensor, symmetry: str = "C1") -> Tensor:
    """(...) smallest angle between rotations (..., 3, 3) over all symmetry mates."""
    group = symmetry_group(symmetry).to(a)
    trace = torch.einsum("...ij,sjk,...ik->...s", a, group, b)
    return torch.arccos(((trace.amax(-1) - 1) / 2).clamp(-1, 1))


def is_subgroup(part: str, whole: str) -> bool:
    """Whether every operation of the point group ``part`` is one of ``whole``, in their settings."""
    operations, known = symmetry_group(part), symmetry_group(whole)
    distance = (operations[:, None] - known[None]).abs().amax((-2, -1))
    return bool((distance.amin(1) < 1e-6).all())


@lru_cache(maxsize=32)
def symmetry_group(symmetry: str) -> Tensor:
    """(n, 3, 3) float64 rotations of a point group, identity first: Cn, Dn, T, O or I.

    Axes follow RELION: the highest axis (for T a 3-fold, for O a 4-fold, for I a 2-fold, the setting I2) along z.

    Source
    ------
    Heymann et al. 2005, table 3; RELION's ``--sym`` settings.
    """
    name = symmetry.strip().upper()
    match = re.fullmatch(r"([CD])([1-9]\d?)|T|O|I2?", name)
    if match is None:
        raise ValueError(f"symmetry {symmetry!r} is unknown; expected Cn or Dn with n from 1 to 99, T, O or I")
    golden = (1 + math.sqrt(5)) / 2
    if name[0] in "CD":
        generators = [_about((0, 0, 1), int(match.group(2)))]
        if name[0] == "D":
            generators.append(_about((1, 0, 0), 2))
    elif name == "T":
        generators = [_about((0, 0, 1), 3), _about((0, math.sqrt(2 / 3), math.sqrt(1 / 3)), 2)]
    elif name == "O":
        generators = [_about((0, 0, 1), 4), _about((1, 1, 1), 3)]
    else:
        generators = [_about((0, 0, 1), 2), _about((0, 1, golden**2), 3), _about((1, 0, golden), 5)]
    return _closure(generators)


def _about(axis_xyz: tuple[float, float, float], fold: int) -> Tensor:
    """Rotation by 1/fold of a turn about an axis given as x, y, z."""
    axis = torch.tensor(axis_xyz, dtype=torch.float64).flip(0)
    return from_rotation_vector(axis / axis.norm() * (2 * math.pi / fold))


def _closure(generators: list[Tensor]) -> Tensor:
    group = [torch.eye(3, dtype=torch.float64)]
    frontier = list(group)
    while frontier:
        found: list[Tensor] = []
        for element in frontier:
            for generator in generators:
                product = generator @ element
                if all((product - known).abs().max() > 1e-6 for known in group):
                    group.append(product)
                    found.append(product)
        frontier = found
        if len(group) > 240:
            raise ValueError("the generators do not close to a point group")
    return torch.stack(group)
