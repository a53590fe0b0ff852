"""Maps as reconstructions show them, simulated from molecules: what detection networks are trained on.

Nothing of a map is the same twice: the molecule is turned, its B-factors differ from place to place, carboxylates fade,
the resolution differs between directions, noise rises as half-map FSCs fall, and the map is sharpened and masked as one
or another program would have done it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels import fourier
from kernels.rotations import random_rotations
from kernels.specimen.molecule import Molecule
from kernels.specimen.potential import deposit, scattering_factor, spline_response

_B_LEVELS_ANGSTROM2 = (0.0, 12.0, 30.0, 55.0, 90.0, 140.0, 210.0, 320.0, 500.0)
_SHARE_OF_B_IN_GOOD = 0.35
_SHARE_OF_NOISE = 0.03
_SHARE_CHARGED, _CHARGED = 0.6, (-0.25, 0.35)
"""Of maps in which carboxylates hardly scatter, and how much then: radiation takes them away, and at low frequencies
the charge of an oxygen scatters against its atom (Wang & Moore 2017, Protein Sci. 26:122)."""
_SHARE_WITH_CONFORMERS = 0.6
"""Of maps in which some side chains stand in several conformations."""
_FAR_ANGSTROM = 1e4
_PAD_ANGSTROM = 8
"""Around the patch: atoms outside of it reach in, and the transform is periodic."""


@dataclass(frozen=True, eq=False)
class SimulatedPatch:
    """A cube of a map of 1 Å voxels, and the molecule in its frame."""

    density: Tensor
    """(z, y, x), not normalised."""
    molecule: Molecule
    """Turned and moved, so that positions are voxels of the patch; atoms outside of it included."""
    is_visible: Tensor
    """(residue,) whether the residue was left in the map by its mask."""
    resolution_angstrom: float


class Draw:
    """Random numbers of one patch, from one generator."""

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator

    def uniform(self, low: float, high: float) -> float:
        """One number between two."""
        return low + (high - low) * float(torch.rand((), generator=self._generator))

    def happens(self, probability: float) -> bool:
        """True in this share of the cases."""
        return self.uniform(0, 1) < probability

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(shape, generator=self._generator)

    def rotation(self) -> Tensor:
        """(3, 3) any orientation as probable as any other."""
        return random_rotations(1, self._generator)[0].float()

    def index(self, n: int) -> int:
        """One of n."""
        return int(torch.randint(n, (), generator=self._generator))


def simulate_patch(molecule: Molecule, size: int, draw: Draw, share_of_good: float = 0.0) -> SimulatedPatch:
    """A cube of ``size`` voxels of 1 Å somewhere in the molecule.

    Parameters
    ----------
    share_of_good
        Of maps of 1.8 to 2.8 Å with small B-factors, beside all others: a network learns from them what to look for.

    Memory: about 100 (size + 16)³ bytes, and 1 kB an atom.
    """
    turned = _turned(molecule, size, draw)
    device = turned.atom_angstrom.device
    near = ((turned.atom_angstrom > -_PAD_ANGSTROM) & (turned.atom_angstrom < size + _PAD_ANGSTROM)).all(-1)
    atoms = torch.nonzero(near).squeeze(1)
    shape = (size + 2 * _PAD_ANGSTROM,) * 3
    frequency = fourier.frequency_length(shape, device=device)
    positions = turned.atom_angstrom[atoms] + _PAD_ANGSTROM
    is_good = draw.happens(share_of_good)
    resolution = draw.uniform(1.8, 2.8) if is_good else _resolution(draw)
    displaced = _displacements(turned, atoms, positions, draw)
    if is_good:
        displaced = (_SHARE_OF_B_IN_GOOD * displaced[0], displaced[1])
    signal = _potential(turned, atoms, positions, displaced, frequency, shape, draw)
    halves_agree = _agreement(frequency, shape, resolution, draw, device)
    power = _shell_mean(signal.abs() ** 2, shape)
    noise_to_signal = (1 - halves_agree) / (2 * halves_agree)
    noise = torch.fft.rfftn(draw.normal(*shape).to(device)) / math.sqrt(math.prod(shape))
    noise = noise * (power * noise_to_signal).sqrt()
    noise = _local(noise, shape, positions, draw)
    if draw.happens(_SHARE_OF_NOISE):  # a map in which there is nothing to be found, masked as if there were
        signal, turned = torch.zeros_like(signal), _far_away(turned)
    filtered = (signal + noise) * _filter(frequency, halves_agree, resolution, draw)
    density = torch.fft.irfftn(filtered, s=shape, dim=(0, 1, 2))
    density, mask = _masked(density, turned, atoms, positions, shape, draw)
    density = density + _rubbish(density, positions, shape, draw)
    inner = slice(_PAD_ANGSTROM, _PAD_ANGSTROM + size)
    is_visible = torch.ones(len(turned.chain), dtype=torch.bool, device=device)
    if mask is not None:
        is_visible = _is_in(mask, turned)
    return SimulatedPatch(density[inner, inner, inner].contiguous(), turned, is_visible, resolution)


def _turned(molecule: Molecule, size: int, draw: Draw) -> Molecule:
    """In any orientation, with some place between a random atom and the centre near the middle of the patch."""
    device = molecule.atom_angstrom.device
    rotation = draw.rotation().to(device)
    scale = draw.uniform(0.98, 1.02)  # pixel sizes are known no better
    anchor = molecule.atom_angstrom[draw.index(len(molecule.atom_angstrom))]
    anchor = torch.lerp(anchor, molecule.atom_angstrom.mean(0), draw.uniform(0, 0.5))
    middle = size / 2 + 0.12 * size * draw.normal(3).to(device)

    def place(positions: Tensor) -> Tensor:
        return scale * (positions - anchor) @ rotation.T + middle

    changed = {
        name: place(getattr(molecule, name)) for name in ("atom_angstrom", "backbone_angstrom", "nucleotide_angstrom")
    }
    return Molecule(**{**molecule.__dict__, **changed})


def _far_away(molecule: Molecule) -> Molecule:
    """Out of any patch."""
    names = ("atom_angstrom", "backbone_angstrom", "nucleotide_angstrom")
    return Molecule(**{**molecule.__dict__, **{name: getattr(molecule, name) + _FAR_ANGSTROM for name in names}})


def _resolution(draw: Draw) -> float:
    if draw.happens(0.12):
        return draw.uniform(4.5, 6.5)
    return draw.uniform(1.8, 3.2) if draw.happens(0.5) else draw.uniform(2.8, 4.6)


def _potential(
    molecule: Molecule,
    atoms: Tensor,
    positions: Tensor,
    displaced: tuple[Tensor, Tensor],
    frequency: Tensor,
    shape: tuple[int, ...],
    draw: Draw,
) -> Tensor:
    """Half-transform of what the map would show without noise and filters."""
    b_factor, occupancy = displaced
    levels = torch.tensor(_B_LEVELS_ANGSTROM2, device=positions.device)
    total = (b_factor + molecule.shape_b_angstrom2[atoms]).clamp(0, float(levels[-1]) - 1e-3)
    upper = torch.searchsorted(levels, total, right=True)
    fraction = (total - levels[upper - 1]) / (levels[upper] - levels[upper - 1])
    weight = molecule.amplitude[atoms] * occupancy
    signal = torch.zeros(frequency.shape, dtype=torch.complex64, device=positions.device)
    squared = frequency**2
    for level, b_level in enumerate(_B_LEVELS_ANGSTROM2):
        share = torch.where(upper - 1 == level, 1 - fraction, 0.0) + torch.where(upper == level, fraction, 0.0)
        used = torch.nonzero(share).squeeze(1)
        if len(used):
            grid = deposit(positions[used], (share * weight)[used], shape)
            signal += torch.fft.rfftn(grid) * torch.exp(-b_level * squared / 4)
    carbon = scattering_factor("C", frequency) / scattering_factor("C", torch.zeros(1, device=frequency.device))
    # solvent fills the gaps: low frequencies see the difference
    contrast = 1 - draw.uniform(0.2, 0.9) * torch.exp(-draw.uniform(150, 600) * squared)
    return signal * carbon * contrast / spline_response(shape, 1.0).to(frequency.device)


def _displacements(molecule: Molecule, atoms: Tensor, positions: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
    """B-factor in Å² and occupancy of each atom: of its residue, its place, and its reach from the backbone."""
    residue = molecule.residue[atoms]
    device = positions.device
    b_factor = torch.full((len(atoms),), draw.uniform(0, 45), device=device)
    b_factor = b_factor + (molecule.relative_b[atoms] - 0.5).clamp(min=0) * draw.uniform(0, 45)
    reach = molecule.reach[atoms]
    b_factor = b_factor + reach * draw.uniform(0, 12)
    extent = positions.amax(0) - positions.amin(0) if len(positions) else torch.ones(3, device=device)
    low = positions.amin(0) if len(positions) else torch.zeros(3, device=device)
    for _ in range(draw.index(4)):
        centre = low + extent * torch.rand(3, generator=draw._generator).to(device)
        width = draw.uniform(8, 22)
        b_factor = b_factor + draw.uniform(30, 220) * torch.exp(-(positions - centre).square().sum(-1) / (2 * width**2))
    n_residues = len(molecule.chain)
    wobble = (draw.uniform(0, 12) * draw.normal(n_residues).to(device)).abs()
    b_factor = b_factor + wobble[residue] * (1 + 0.5 * reach)
    occupancy = torch.ones(len(atoms), device=device)
    if draw.happens(_SHARE_WITH_CONFORMERS):
        occupancy = torch.where(reach > 1, _conformers(molecule, draw).to(device)[residue], occupancy)
    carboxylate = molecule.is_carboxylate[atoms]
    occupancy[carboxylate] = draw.uniform(*_CHARGED) if draw.happens(_SHARE_CHARGED) else draw.uniform(0.1, 1.0)
    b_factor[carboxylate] += draw.uniform(0, 60)
    if draw.happens(0.15):  # a subunit that is not always there
        chain = molecule.chain[residue]
        occupancy = torch.where(chain == chain[draw.index(max(1, len(chain)))], draw.uniform(0.4, 1), 1.0) * occupancy
    return b_factor, occupancy


def _conformers(molecule: Molecule, draw: Draw) -> Tensor:
    """(residue,) occupancy of the one conformation of its side chain that is shown; others are too wide to be seen."""
    n = len(molecule.chain)
    is_spread = torch.rand(n, generator=draw._generator) < draw.uniform(0, 0.5)
    return torch.where(is_spread, 0.2 + 0.8 * torch.rand(n, generator=draw._generator), 1.0)


def _agreement(
    frequency: Tensor, shape: tuple[int, ...], resolution: float, draw: Draw, device: torch.device
) -> Tensor:
    """Half-map FSC of each coefficient: 0.143 at the resolution, which may differ between directions."""
    width = draw.uniform(0.012, 0.05)
    cutoff = torch.full_like(frequency, 1 / resolution)
    if draw.happens(0.3):
        axis = torch.nn.functional.normalize(draw.normal(3), dim=0).to(device)
        vectors = fourier.frequencies(shape, device=device)
        cosine = (vectors @ axis) / frequency.clamp(min=1e-6)
        cutoff = cutoff * (1 + draw.uniform(-0.25, 0.12) * cosine**2)
    return torch.sigmoid((cutoff - math.log(6) * width - frequency) / width).clamp(0.004, 0.9998)


def _shell_mean(power: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Mean of each shell, at every coefficient."""
    index = fourier.shell_index(shape, device=power.device)
    n_shells = int(index.max()) + 1
    sums = fourier.shell_sums(power, index, n_shells)
    counts = fourier.shell_sums(torch.ones_like(power), index, n_shells)
    return (sums / counts.clamp(min=1))[index]


def _local(noise: Tensor, shape: tuple[int, ...], positions: Tensor, draw: Draw) -> Tensor:
    """Noise that is stronger where the molecule is, as misalignment makes it."""
    excess = draw.uniform(-0.2, 0.8)
    if not len(positions):
        return noise
    values = torch.fft.irfftn(noise, s=shape, dim=(0, 1, 2))
    occupied = _blurred(positions, shape, 5.0)
    return torch.fft.rfftn(values * (1 + excess * occupied / (occupied + 0.02)))


def _filter(frequency: Tensor, halves_agree: Tensor, resolution: float, draw: Draw) -> Tensor:
    """FSC weighting or none, a B-factor too much or too little, and an edge."""
    weight = torch.ones_like(frequency)
    if draw.happens(0.75):
        weight = (2 * halves_agree / (1 + halves_agree)).sqrt()
    weight = weight * torch.exp(-draw.uniform(-70, 70) * frequency**2 / 4)
    edge = 1 / (resolution * draw.uniform(0.8, 1.12))
    return weight * torch.sigmoid((edge - frequency) / draw.uniform(0.004, 0.02))


def _masked(
    density: Tensor,
    molecule: Molecule,
    atoms: Tensor,
    positions: Tensor,
    shape: tuple[int, ...],
    draw: Draw,
) -> tuple[Tensor, Tensor | None]:
    """A soft mask around everything, or around one chain as who cuts out a zone does, or none."""
    if draw.happens(0.4) or not len(positions):
        return density, None
    chosen = positions
    if draw.happens(0.35):
        chain = molecule.chain[molecule.residue[atoms]]
        chosen = positions[chain == chain[draw.index(len(chain))]]
    if draw.happens(0.4):  # cut out sharply at a distance from the atoms
        occupied = _blurred(chosen, shape, draw.uniform(1.2, 2.5))
        mask = (occupied > 0.003).float()
    else:
        occupied = _blurred(chosen, shape, draw.uniform(2.0, 5.0))
        mask = torch.sigmoid((occupied.clamp(min=1e-9).log() - math.log(0.004)) / draw.uniform(0.2, 0.8))
    return density * mask, mask


def _blurred(positions: Tensor, shape: tuple[int, ...], sigma: float) -> Tensor:
    """Atoms per Å³ in a Gaussian window; 0.05 inside of a protein."""
    grid = deposit(positions, torch.ones(len(positions), device=positions.device), shape)
    squared = fourier.frequency_length(shape, device=positions.device) ** 2
    return torch.fft.irfftn(torch.fft.rfftn(grid) * torch.exp(-2 * math.pi**2 * sigma**2 * squared), s=shape)


def _is_in(mask: Tensor, molecule: Molecule) -> Tensor:
    """(residue,) whether the mask holds the Cα or C4' of a residue."""
    at = torch.where(
        molecule.amino_acid[:, None] >= 0, molecule.backbone_angstrom[:, 1], molecule.nucleotide_angstrom[:, 0]
    )
    index = (at + _PAD_ANGSTROM).nan_to_num(nan=-1.0).round().long()
    last = torch.tensor(mask.shape, device=mask.device) - 1
    is_inside = ((index >= 0) & (index <= last)).all(-1)
    index = index.clamp(min=0).minimum(last)
    return is_inside & (mask[index[:, 0], index[:, 1], index[:, 2]] > 0.5)


def _rubbish(density: Tensor, positions: Tensor, shape: tuple[int, ...], draw: Draw) -> Tensor:
    """Dust and a detergent belt, where there is room for them."""
    extra = torch.zeros_like(density)
    strength = density.abs().amax()
    if not len(positions):
        return extra
    if draw.happens(0.15):
        places = torch.rand(12, 3, generator=draw._generator).to(positions.device) * shape[0]
        distance = torch.cdist(places, positions)
        free = places[distance.amin(1) > 5]
        if len(free):
            blobs = _blurred(free, shape, draw.uniform(1.0, 2.5))
            extra = extra + draw.uniform(0.1, 0.6) * strength * blobs / blobs.amax()
    if draw.happens(0.08):
        around = _blurred(positions, shape, 6.0)
        normal = draw.rotation()[0].to(positions.device)
        axes = [torch.arange(n, dtype=torch.float32, device=positions.device) for n in shape]
        height = sum(
            n * a.reshape([-1 if i == j else 1 for j in range(3)]) for i, (n, a) in enumerate(zip(normal, axes))
        )
        middle = positions.mean(0) @ normal
        slab = torch.sigmoid((draw.uniform(8, 16) - (height - middle).abs()) / 2)
        shell = slab * torch.exp(-(((around / 0.05).clamp(min=1e-6).log() + 2.5) ** 2))
        rough = torch.fft.rfftn(draw.normal(*shape).to(positions.device))
        squared = fourier.frequency_length(shape, device=positions.device) ** 2
        rough = torch.fft.irfftn(rough * torch.exp(-60 * squared), s=shape, dim=(0, 1, 2))
        extra = extra + draw.uniform(0.1, 0.4) * strength * shell * (0.6 + 0.4 * rough / rough.std())
    return extra
