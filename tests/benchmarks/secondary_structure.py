"""Secondary structure at 4 to 6 Å: what the network says of it where true residues stand.

``python -m tests.benchmarks.secondary_structure`` prints F1 of helix, strand and coil and their mean weighted by how
many residues each has, by resolution, with 95 % intervals over patches. A residue has the structure of the nearest cell
of `MapDetections.structure`; the truth is that of the backbone's hydrogen bonds
(`kernels.models.secondary_structure`). Patches of 48 Å are simulated from structures of clusters held out from the
training and from every calibration, with the simulation that the training uses. Real: the integrin at 3.9 Å.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import typer
from torch import Tensor

from kernels.maps.grid import DensityGrid
from kernels.models.residues import SECONDARY_STRUCTURES
from kernels.models.secondary_structure import secondary_structure
from kernels.networks.detection import detect
from tasks.building.detector import detector
from tasks.training.patches import SimulatedPatches
from tasks.training.structures import read_structures
from tests.benchmarks.estimates import Estimate, Line, estimate
from tests.truth.real_maps import REAL_DATA, integrin

_SETS = ("structures_bm5", "complexes_posebusters", "structures_rna")
_TEST_MODELS = (
    "EMD-20026_apoferritin_1.75A/3ajo_fitted_refined.pdb",
    "EMD-6272_VP6_2.6A/6272.pdb",
    "EMD-30342_integrin_3.9A/390_7cec.cif",
    "EMD-5168_actin_6.6A/1J6Z.pdb",
    "VP6_3.8A_docking/vp6.pdb",
)
"""As `make train` leaves their relatives out: the clusters are the same only with the same structures."""
_BINS = ((3.0, 4.0), (4.0, 5.0), (5.0, 6.0), (4.0, 6.0))
_SEED = 940_001
_N_TURNS = 8


@dataclass(frozen=True)
class Told:
    """Of the true residues of one map."""

    resolution_angstrom: float
    counts: Tensor
    """(truth, said) of helix, strand and coil."""


def told_of(grid: DensityGrid, alpha: Tensor, truth: Tensor, resolution: float, weights: str | None) -> Told:
    """Ask the network about a map and count what it says at true Cα."""
    said = detect(detector(weights), grid, _N_TURNS).structure_at(alpha).argmax(-1).cpu()
    counts = torch.bincount(3 * truth + said, minlength=9).reshape(3, 3).double()
    return Told(resolution, counts)


def f1(counts: Tensor) -> Tensor:
    """(4,) F1 of helix, strand and coil, and their mean weighted by true residues."""
    right, true, said = counts.diagonal(), counts.sum(1), counts.sum(0)
    each = 2 * right / (true + said).clamp_min(1)
    return torch.cat([each, (each * true).sum(0, keepdim=True) / true.sum().clamp_min(1)])


def simulated(data: Path, n: int, weights: str | None) -> list[Told]:
    """The first ``n`` patches of 3 to 6 Å."""
    structures = read_structures([data / s for s in _SETS], [data / "maps" / m for m in _TEST_MODELS])
    held_out = [s for s in structures if s.is_held_out]
    unseen = sorted({s.cluster for s in held_out})[1::2]
    patches = SimulatedPatches([s for s in held_out if s.cluster in unseen], _SEED, 20 * n, 48, 0.0)
    found: list[Told] = []
    for number in range(len(patches)):
        patch = patches.simulate(number)
        if len(found) == n:
            break
        if not 3 <= patch.resolution_angstrom < 6:
            continue
        molecule = patch.molecule
        alpha = molecule.backbone_angstrom[:, 1]
        is_inside = ((alpha > 8) & (alpha < 40)).all(-1) & patch.is_visible & (molecule.secondary_structure >= 0)
        if not is_inside.any():
            continue
        grid = DensityGrid(patch.density, 1.0, torch.zeros(3, dtype=torch.float64))
        truth = molecule.secondary_structure[is_inside]
        found.append(told_of(grid, alpha[is_inside], truth, patch.resolution_angstrom, weights))
    return found


def weighted(found: list[Told]) -> Estimate:
    """Mean F1 of some maps, weighted by residues, over samples of maps."""
    counts = torch.stack([told.counts for told in found])
    return estimate(lambda chosen: float(f1(counts[chosen].sum(0))[3]), len(counts))


def lines(data: Path, n: int) -> list[Line]:
    """Of the patches of 4 to 6 Å among the first ``n``."""
    found = [told for told in simulated(data, n, None) if 4 <= told.resolution_angstrom < 6]
    where = f"{len(found)} patches, 4 to 6 Å, held-out clusters"
    return [Line("secondary structure, weighted F1", where, weighted(found), reach=0.80)]


def real_lines(data: Path) -> list[Line]:
    """Of the integrin."""
    where = "integrin, EMD-30342, 3.9 Å"
    return [Line("secondary structure, weighted F1", where, weighted([_integrin(data, None)]))]


def _integrin(data: Path, weights: str | None) -> Told:
    real = integrin(data)
    truth = secondary_structure(real.model.positions("N", "CA", "C", "O"), real.model.is_linked())
    return told_of(real.grid, real.model.positions("CA")[:, 0], truth, 3.9, weights)


def row(name: str, found: list[Told]) -> str:
    """A line of the table."""
    counts = torch.stack([told.counts for told in found])
    each, mean = f1(counts.sum(0)).tolist(), weighted(found)
    interval = f" ({mean.low:.2f} to {mean.high:.2f})" if len(found) > 1 else ""
    return (
        f"| {name} | {len(found)} | {int(counts.sum())} | "
        + " | ".join(f"{value:.3f}" for value in each[:3])
        + f" | {each[3]:.3f}{interval} |"
    )


def main(data: Path = REAL_DATA, n: int = 120, weights: str | None = None) -> None:
    """Print the table."""
    torch.set_num_threads(1)
    print(
        f"| map | maps | residues | {' | '.join(SECONDARY_STRUCTURES)} | weighted (95 %), to reach 0.80 at 4 to 6 Å |"
    )
    print("|---|---|---|---|---|---|---|")
    found = simulated(data, n, weights)
    for low, high in _BINS:
        chosen = [told for told in found if low <= told.resolution_angstrom < high]
        print(row(f"simulated, {low:.0f} to {high:.0f} Å", chosen), flush=True)
    print(row("integrin, EMD-30342, 3.9 Å", [_integrin(data, weights)]))


if __name__ == "__main__":
    typer.run(main)
