"""Maps from back-projected sums: Friedel completion, point-group symmetry, Wiener filter, interpolation envelope."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from kernels import fourier
from kernels.maps.projection import Accumulator, interpolation_envelope, map_of_cube
from kernels.rotations import symmetry_group


def reconstruct(
    accumulator: Accumulator,
    symmetry: str = "C1",
    signal_to_noise: Tensor | float = 1e3,
    box: int | None = None,
) -> Tensor:
    """(z, y, x) map of a point group from raw sums: `complete`, `symmetrise`, `wiener_map`."""
    return wiener_map(symmetrise(complete(accumulator), symmetry), signal_to_noise, box)


def wiener_map(sums: Accumulator, signal_to_noise: Tensor | float = 1e3, box: int | None = None) -> Tensor:
    """Wiener estimate of the map: data / (weight + mean weight of the shell / signal-to-noise ratio).

    Parameters
    ----------
    sums
        Completed sums of one half, or of all particles.
    signal_to_noise
        Spectral signal-to-noise ratio of the reconstruction, (shell,) with shells of one coefficient of an image as
        `fsc.signal_to_noise` gives it, or one number: a large one gives the unfiltered map.
    box
        Edge of the map over the same field of view; default that of the images.

    Returns
    -------
    (z, y, x) map, scaled such that its projections are the images that were inserted with CTF and weight one.

    Source
    ------
    Scheres 2012, J. Mol. Biol. 415:406, eq. 3.
    """
    r, padding = sums.radius, sums.padding
    n_shells = r // padding + 2
    shell = _cube_shell(r, device=sums.weight.device) / padding
    index = shell.round().long().clamp(max=n_shells - 1)
    counts = fourier.shell_sums(torch.ones_like(sums.weight), index, n_shells)
    mean_weight = fourier.shell_sums(sums.weight, index, n_shells) / counts.clamp(min=1)
    ratio = torch.as_tensor(signal_to_noise, device=sums.weight.device, dtype=sums.weight.dtype)
    if ratio.ndim:
        ratio = torch.nn.functional.pad(ratio, (0, max(0, n_shells - len(ratio))))[:n_shells]
    denominator = sums.weight + (mean_weight / ratio.clamp(min=1e-6)).expand(n_shells)[index]
    is_measured = (shell <= sums.max_radius_px) & (denominator > 0)
    gain = torch.where(is_measured, 1 / denominator.clamp(min=1e-30), torch.zeros_like(denominator))
    size = sums.box if box is None else box
    padded = padding * size
    cube = torch.complex(sums.data[0] * gain, sums.data[1] * gain)
    inner = map_of_cube(cube, padded, size)
    return inner / interpolation_envelope(size, padding, device=inner.device) * (size / sums.box) ** 3


def complete(accumulator: Accumulator) -> Accumulator:
    """Sums whose plane x = 0 also holds the Friedel mates that fell on its other half."""
    data, weight = accumulator.data.clone(), accumulator.weight.clone()
    mirror = accumulator.data[..., 0].flip(-2, -1)
    data[0, ..., 0] += mirror[0]
    data[1, ..., 0] -= mirror[1]
    weight[..., 0] += accumulator.weight[..., 0].flip(-2, -1)
    return Accumulator(data, weight, accumulator.box, accumulator.padding)


def symmetrise(accumulator: Accumulator, symmetry: str) -> Accumulator:
    """Completed sums, added over the operations of a point group.

    Operations that only permute and reverse axes (all of O, a part of most others) cost a copy; they are applied
    first, and only one operation per coset of them is interpolated.
    """
    chain, others = _operations(symmetry)
    channels = []
    for channel, parity in ((accumulator.data[0], 1), (accumulator.data[1], -1), (accumulator.weight, 1)):
        for transversal in chain:
            channel = torch.stack([channel, *(_permuted(channel, g, parity) for g in transversal)]).sum(0)
        channels.append(channel)
    if others:
        sums = torch.stack(channels)
        channels = list((sums + sum(_rotated(sums, operation) for operation in others)).unbind(0))
    return Accumulator(torch.stack(channels[:2]), channels[2], accumulator.box, accumulator.padding)


def symmetrise_memory_bytes(box: int, symmetry: str) -> int:
    """What `symmetrise` to Nyquist takes more for operations that have to be interpolated."""
    return 150 * box**3 + 130_000_000 if _operations(symmetry)[1] else 0


def symmetrise_map(density_map: Tensor, symmetry: str) -> Tensor:
    """(z, y, x) map averaged over the operations of a point group about element n // 2, by linear interpolation.

    Meant for masks and smooth maps; interpolation dampens the highest frequencies.
    """
    group = symmetry_group(symmetry)
    n = density_map.shape[-1]
    axis = torch.arange(n, dtype=torch.float32, device=density_map.device) - n // 2
    position = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
    total = density_map.clone()
    for operation in group[1:]:
        rotated = position @ operation.to(position)
        grid = (2 * (rotated + n // 2) / (n - 1) - 1).flip(-1)
        total += torch.nn.functional.grid_sample(
            density_map[None, None], grid[None].to(density_map), align_corners=True
        )[0, 0]
    return total / len(group)


@lru_cache(maxsize=32)
def _operations(symmetry: str) -> tuple[list[list[Tensor]], list[Tensor]]:
    """The chain of `_subgroup_chain` for the operations that permute axes, and one operation per coset of these."""
    group = symmetry_group(symmetry)
    permutations = group[((group.abs() < 1e-6) | ((group.abs() - 1).abs() < 1e-6)).all(-1).all(-1)]
    return _subgroup_chain(permutations), _coset_representatives(group, permutations)


def _permuted(channel: Tensor, operation: Tensor, parity: int) -> Tensor:
    """(z, y, x) channel S'(k) = S(g^-1 k) for a signed permutation g, where S(-k) = parity · S(k)."""
    r = channel.shape[-1] - 1
    full = torch.cat([parity * channel[..., 1:].flip(-3, -2, -1), channel], dim=-1)
    source = operation.T.round().long()  # coordinates in the source are g^T k
    along = source.abs().argmax(-1)  # axis i of the source runs along axis along[i] of k
    order = [int((along == axis).nonzero()) for axis in range(3)]
    reversed_axes = [axis for axis, i in enumerate(order) if source[i, axis] < 0]
    return full.permute(*order).flip(reversed_axes)[..., r:]


def _rotated(sums: Tensor, operation: Tensor) -> Tensor:
    """(3, z, y, x) sums S'(k) = S(g^-1 k) by linear interpolation, a few planes at a time."""
    r = sums.shape[-1] - 1
    axis = torch.arange(-r, r + 1, dtype=torch.float32, device=sums.device)
    rotation = operation.to(sums)
    out = torch.empty_like(sums)
    n_planes = max(1, 2_000_000 // ((2 * r + 1) * (r + 1)))
    for start in range(0, 2 * r + 1, n_planes):
        planes = axis[start : start + n_planes]
        position = torch.stack(torch.meshgrid(planes, axis, axis[r:], indexing="ij"), dim=-1) @ rotation
        is_mate = position[..., 2] < 0
        position = torch.where(is_mate[..., None], -position, position) / r
        grid = torch.cat([2 * position[..., 2:] - 1, position[..., 1:2], position[..., :1]], dim=-1)
        values = torch.nn.functional.grid_sample(sums[None], grid[None], align_corners=True)[0]
        values[1] = torch.where(is_mate, -values[1], values[1])
        out[:, start : start + n_planes] = values
    return out


def _subgroup_chain(group: Tensor) -> list[list[Tensor]]:
    """Transversals of a chain of subgroups from the identity up to ``group``.

    Applied one after the other, with the identity each, they sum over the whole group; O takes 5 operations so.
    """
    chain: list[list[Tensor]] = []
    subgroup = group[:1]
    while len(subgroup) < len(group):
        larger = [_generated(torch.cat([subgroup, g[None]])) for g in group if not _contains(subgroup, g)]
        smallest = min(larger, key=len)
        chain.append(_coset_representatives(smallest, subgroup))
        subgroup = smallest
    return chain


def _generated(operations: Tensor) -> Tensor:
    """The group that some operations of a finite group generate, identity first."""
    found = list(operations)
    for a in found:  # grows while it is walked
        for b in operations:
            if not _contains(torch.stack(found), a @ b):
                found.append(a @ b)
    return torch.stack(found)


def _contains(operations: Tensor, operation: Tensor) -> bool:
    return bool(((operations - operation).abs().amax((-2, -1)) < 1e-6).any())


def _coset_representatives(group: Tensor, subgroup: Tensor) -> list[Tensor]:
    """One operation g of each left coset g H other than H itself."""
    found: list[Tensor] = []
    covered = subgroup
    for operation in group:
        if not _contains(covered, operation):
            found.append(operation)
            covered = torch.cat([covered, operation @ subgroup])
    return found


def _cube_shell(radius: int, *, device: torch.device | str) -> Tensor:
    """(2 r + 1, 2 r + 1, r + 1) distance from the origin in padded coefficients."""
    axis = torch.arange(-radius, radius + 1, dtype=torch.float32, device=device)
    squared = axis**2
    return (squared[:, None, None] + squared[:, None] + squared[radius:]).sqrt()
