"""A molecule as networks see it: what scatters, and where its residues are."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from kernels.models.atomic_model import AtomicModel
from kernels.models.residues import PROTEIN_BACKBONE
from kernels.models.secondary_structure import secondary_structure
from kernels.specimen.potential import PENG_COEFFICIENTS, RIDING_B_ANGSTROM2, scattering_factor

PROTEIN, NUCLEIC, OTHER = range(3)

_REACH = {letter: step for step, letter in enumerate("ABGDEZH")}
_RING = {"N1", "C2", "N3", "C4", "C5", "C6"}
_CARBOXYLATES = {"ASP": ("OD1", "OD2"), "GLU": ("OE1", "OE2")}
_SHAPE_FREQUENCY_PER_ANGSTROM = 0.3
"""Where the fall of a scattering factor is compared with that of carbon."""


@dataclass(frozen=True, eq=False)
class Molecule:
    """Atoms without hydrogens, which ride on their carriers, and residues; positions (z, y, x) in Å."""

    atom_angstrom: Tensor
    """(atom, 3)"""
    amplitude: Tensor
    """(atom,) scattering at zero angle, in units of carbon's."""
    shape_b_angstrom2: Tensor
    """(atom,) B-factor by which the scattering factor falls faster than carbon's."""
    relative_b: Tensor
    """(atom,) B-factor of the file in units of its median; 1 where the file tells none."""
    reach: Tensor
    """(atom,) bonds from the Cα of a side chain's atom, 0 for other atoms."""
    is_carboxylate: Tensor
    """(atom,)"""
    kind: Tensor
    """(atom,) PROTEIN, NUCLEIC or OTHER."""
    residue: Tensor
    """(atom,) index of the residue."""
    chain: Tensor
    """(residue,) number of the chain."""
    backbone_angstrom: Tensor
    """(residue, 4, 3) N, CA, C and O of amino acids; NaN where there is none."""
    nucleotide_angstrom: Tensor
    """(residue, 3, 3) C4', P and the centre of the base's six-membered ring; NaN where there is none."""
    next_residue: Tensor
    """(residue,) index of the residue that a bond leads on to, -1 for none."""
    previous_residue: Tensor
    """(residue,)"""
    amino_acid: Tensor
    """(residue,) index into `residues.AMINO_ACIDS`, -1 for other residues."""
    base: Tensor
    """(residue,) index into `residues.BASES`, -1 for other residues."""
    secondary_structure: Tensor
    """(residue,) index into `residues.SECONDARY_STRUCTURES`; only of amino acids with a whole backbone, else -1."""

    def to(self, device: torch.device | str) -> Molecule:
        """The same on a device."""
        return Molecule(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


def molecule_of(model: AtomicModel) -> Molecule:
    """What a model is to a network; water and hydrogens leave."""
    residue_names = [model.residues[i].name for i in model.residue.tolist()]
    stays = [e not in ("H", "D") and name != "HOH" for e, name in zip(model.elements, residue_names)]
    model = model.take(torch.tensor(stays, dtype=torch.bool))
    backbone = model.positions(*PROTEIN_BACKBONE).float()
    ring = model.positions(*sorted(_RING)).float().mean(1, keepdim=True)
    nucleotide = torch.cat([model.positions("C4'", "P").float(), ring], dim=1)
    nucleotide[model.base < 0] = torch.nan
    backbone[model.amino_acid < 0] = torch.nan
    linked = model.is_linked()
    index = torch.arange(model.n_residues)
    following = torch.where(linked, index + 1, -1)
    before = torch.full_like(following, -1)
    before[1:] = torch.where(linked[:-1], index[:-1], -1)
    structure = secondary_structure(backbone, linked)
    structure[backbone.isnan().any(-1).any(-1)] = -1
    chains = {name: i for i, name in enumerate(dict.fromkeys(r.chain for r in model.residues))}
    amplitude, shape_b = _scattering(model)
    b_factor = model.b_factor_angstrom2
    median = float(b_factor.median()) if len(b_factor) else 0.0
    relative = (b_factor / median).clamp(0.3, 4.0) if median > 1 else torch.ones_like(b_factor)
    kind = torch.full((model.n_residues,), OTHER)
    kind[model.amino_acid >= 0], kind[model.base >= 0] = PROTEIN, NUCLEIC
    is_protein = (kind == PROTEIN)[model.residue].tolist()
    reach = [_REACH.get(n[1:2], 0) if p and n not in PROTEIN_BACKBONE else 0 for n, p in zip(model.names, is_protein)]
    names = [model.residues[i].name for i in model.residue.tolist()]
    carboxylate = [n in _CARBOXYLATES.get(r, ()) for n, r in zip(model.names, names)]
    return Molecule(
        model.coordinates_angstrom.float(),
        amplitude * model.occupancy.clamp(0.3, 1.0),
        shape_b,
        relative,
        torch.tensor(reach),
        torch.tensor(carboxylate, dtype=torch.bool),
        kind[model.residue],
        model.residue,
        torch.tensor([chains[r.chain] for r in model.residues]),
        backbone,
        nucleotide,
        following,
        before,
        model.amino_acid,
        model.base,
        structure,
    )


def _scattering(model: AtomicModel) -> tuple[Tensor, Tensor]:
    """Amplitude in units of carbon's, and B-factor of the difference in shape, hydrogens with their carriers."""
    at = torch.tensor([0.0, _SHAPE_FREQUENCY_PER_ANGSTROM])
    curves = {element: scattering_factor(element, at) for element in PENG_COEFFICIENTS}
    riding = torch.exp(-RIDING_B_ANGSTROM2 * at**2 / 4)
    rows: dict[tuple[str, int], tuple[float, float]] = {}
    values = []
    for element, n_hydrogens in zip(model.elements, _hydrogens(model)):
        key = (element, n_hydrogens)
        if key not in rows:
            # of what has no coefficients here, ions above all, the potential is about that of sulphur
            curve = curves.get(element, curves["S"]) + n_hydrogens * curves["H"] * riding
            ratio = (curve[1] / curve[0]) / (curves["C"][1] / curves["C"][0])
            shape = float(-4 * torch.log(ratio) / _SHAPE_FREQUENCY_PER_ANGSTROM**2)
            rows[key] = (float(curve[0] / curves["C"][0]), shape)
        values.append(rows[key])
    table = torch.tensor(values).reshape(-1, 2)
    return table[:, 0].contiguous(), table[:, 1].contiguous()


def _hydrogens(model: AtomicModel) -> list[int]:
    """Hydrogens on each heavy atom, from the number of its neighbours: carbon has four bonds, nitrogen three.

    Planar carbons get one too many where they stand free; a network is not told of hydrogens.
    """
    n_neighbours = _n_neighbours(model.coordinates_angstrom.float())
    found = []
    for element, n in zip(model.elements, n_neighbours.tolist()):
        if element == "C":
            found.append({0: 0, 1: 3, 2: 2, 3: 1}.get(n, 0))
        elif element == "N":
            found.append({1: 2, 2: 1}.get(n, 0))
        else:
            found.append(0)
    return found


def _n_neighbours(coordinates: Tensor, bond_angstrom: float = 1.95, furthest: int = 40) -> Tensor:
    """(atom,) atoms within a bond's length, of those that stand near in the file as bonded ones do."""
    count = torch.zeros(len(coordinates), dtype=torch.int64)
    for step in range(1, min(furthest + 1, len(coordinates))):
        is_bonded = (coordinates[step:] - coordinates[:-step]).norm(dim=-1) < bond_angstrom
        count[step:] += is_bonded
        count[:-step] += is_bonded
    return count
