"""Write `kernels.models.torsion_tables` from a folder of structures.

    python -m tasks.model_refinement.torsion_counts FOLDER > kernels/models/torsion_tables.py

Of each file's well ordered residues (B-factors below 40 Å² and above 1 Å², fully occupied) the torsions are counted.
Files whose name's first four letters have a CRC-32 divisible by eight are left out: they are there to test with.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from kernels.models.atomic_model import AtomicModel
from kernels.models.internal_coordinates import chi_atoms
from kernels.models.residues import AMINO_ACID_LETTERS
from kernels.models.torsions import (
    CONFORMATIONS,
    RAMACHANDRAN_CLASSES,
    RAMACHANDRAN_LEVEL,
    RAMACHANDRAN_STEP_DEG,
    backbone_torsions,
    conformation,
    ramachandran_class,
    side_chain_torsions,
)
from tasks.formats.structure import read_structure

_FLEXIBLE = {
    "N": (1, 360, 60),
    "Q": (2, 360, 60),
    "D": (1, 180, 30),
    "E": (2, 180, 30),
    "F": (1, 180, 30),
    "Y": (1, 180, 30),
    "H": (1, 360, 30),
    "W": (1, 360, 30),
}
"""The last chi where it ends in a plane: its index, its period and the step of its cells in degrees."""
_RAREST = 0.004
"""Share below which a rotamer is left out."""
_SMOOTHING_DEG = 8.0
_N_LEVELS = 26


def is_held_out(name: str) -> bool:
    """Whether a structure is kept for tests and not counted."""
    return zlib.crc32(name[:4].encode()) % 8 == 0


def counted(models: Iterable[AtomicModel]) -> tuple[Tensor, Tensor, Tensor]:
    """(residue, 2) phi and psi, (residue, 4) chi in rad, and (residue, 2) amino acid and Ramachandran class."""
    angles, chis, kinds = [], [], []
    for model in models:
        good = torch.ones(model.n_residues, dtype=torch.bool)
        bad = (model.b_factor_angstrom2 > 40) | (model.b_factor_angstrom2 < 1) | (model.occupancy < 0.99)
        good[model.residue[bad]] = False
        good &= model.amino_acid >= 0
        angles.append(backbone_torsions(model)[good, :2])
        chis.append(side_chain_torsions(model)[good])
        kinds.append(torch.stack([model.amino_acid, ramachandran_class(model.amino_acid)], 1)[good])
    return torch.cat(angles), torch.cat(chis), torch.cat(kinds)


def ramachandran_letters(phi_psi_rad: Tensor, kind: Tensor) -> list[list[str]]:
    """For each class a row of letters for each phi, from a (as likely as the likeliest) on."""
    known = ~phi_psi_rad.isnan().any(1)
    n = 360 // RAMACHANDRAN_STEP_DEG
    centre = torch.deg2rad((torch.arange(n) + 0.5) * RAMACHANDRAN_STEP_DEG - 180).double()
    concentration = 1 / torch.deg2rad(torch.tensor(_SMOOTHING_DEG)).double() ** 2
    tables = []
    for number in range(len(RAMACHANDRAN_CLASSES)):
        chosen = phi_psi_rad[known & (kind == number)]
        phi, psi = (torch.exp(concentration * (torch.cos(chosen[:, i : i + 1] - centre) - 1)) for i in range(2))
        density = phi.T @ psi
        surprise = -(density / density.max()).clamp(min=1e-12).log()
        level = (surprise / RAMACHANDRAN_LEVEL).round().clamp(max=_N_LEVELS - 1).long()
        tables.append(["".join(chr(ord("a") + int(v)) for v in row) for row in level])
    return tables


def rotamer_rows(letter: str, chi_rad: Tensor, phi_psi_rad: Tensor) -> list[tuple[list[int], list[float]]]:
    """Mean chi in degrees, and the share in percent in each conformation of the backbone, the commonest first."""
    n_chi = len(chi_atoms(letter))
    known = ~chi_rad[:, :n_chi].isnan().any(1)
    chi, backbone = torch.rad2deg(chi_rad[known, :n_chi]), conformation(phi_psi_rad[known])
    cell = torch.zeros_like(chi, dtype=torch.int64)
    for i in range(n_chi):
        index, period, step = _FLEXIBLE.get(letter, (-1, 360, 120))
        if i == index:
            chi[:, i] = (chi[:, i] + period / 2) % period - period / 2
            cell[:, i] = ((chi[:, i] % period) / step).round().long() % (period // step)
        elif letter == "P":
            cell[:, i] = (chi[:, i] > 0).long()
        else:
            cell[:, i] = ((chi[:, i] % 360) / 120).floor().long()
    total = torch.bincount(backbone, minlength=len(CONFORMATIONS)).double()
    rows = []
    for unique in cell.unique(dim=0):
        inside = (cell == unique).all(1)
        if inside.double().mean() < _RAREST:
            continue
        share = torch.bincount(backbone[inside], minlength=len(CONFORMATIONS)).double() / total
        centre = chi[inside][0]
        index, period, _ = _FLEXIBLE.get(letter, (-1, 360, 120))
        periods = torch.tensor([float(period) if i == index else 360.0 for i in range(n_chi)])
        mean = centre + ((chi[inside] - centre + periods / 2) % periods - periods / 2).mean(0)
        mean = (mean + periods / 2) % periods - periods / 2
        rows.append(([round(float(v)) for v in mean], [round(100 * float(v), 1) for v in share]))
    return sorted(rows, key=lambda row: -sum(row[1]))


def table_source(models: Iterable[AtomicModel]) -> str:
    """The module as text."""
    angles, chis, kinds = counted(models)
    lines = [
        '"""Ramachandran plots and rotamers as counted in well ordered residues: numbers only.',
        "",
        "Written by `tasks.model_refinement.torsion_counts`; read by `kernels.models.torsions`.",
        '"""',
        "",
        "from __future__ import annotations",
        "",
        f"N_RESIDUES = {len(angles)}",
        "RAMACHANDRAN: tuple[tuple[str, ...], ...] = (",
    ]
    for name, table in zip(RAMACHANDRAN_CLASSES, ramachandran_letters(angles, kinds[:, 1])):
        lines += [f"    (  # {name}", *(f'        "{row}",' for row in table), "    ),"]
    lines += [
        ")",
        f'"""A row of psi for each phi, {RAMACHANDRAN_STEP_DEG} degrees a cell from -180 on; each letter'
        f" {RAMACHANDRAN_LEVEL:g} less likely, in natural",
        'logarithms, than the one before it."""',
        "",
        "ROTAMERS: dict[str, tuple[tuple[tuple[int, ...], tuple[float, ...]], ...]] = {",
    ]
    for number, letter in enumerate(AMINO_ACID_LETTERS):
        if chi_atoms(letter):
            chosen = kinds[:, 0] == number
            lines.append(f'    "{letter}": (')
            for chi, share in rotamer_rows(letter, chis[chosen], angles[chosen]):
                angles_text = f"({', '.join(map(str, chi))}{',' if len(chi) == 1 else ''})"
                lines.append(f"        ({angles_text}, ({', '.join(f'{s:g}' for s in share)})),")
            lines.append("    ),")
    lines += ["}", '"""Chi angles in degrees; share in percent beside a helix, a strand and other backbone."""', ""]
    return "\n".join(lines)


def main(folder: Path) -> None:
    paths = [path for path in sorted(folder.iterdir()) if not is_held_out(path.name)]
    sys.stdout.write(table_source(read_structure(path) for path in paths))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
