"""From a Cα trace with errors to a refined model: simulated maps of structures that no statistics saw, and real maps.

    python -m tests.benchmarks.model_refinement

The trace is the true one with each Cα displaced by itself (normal, the RMS given), the register right, N, C and O not
given. Errors are RMS distances to the structure that the map was made of, or, for real maps, that was deposited with
it, over all its residues. chi1 is right within 40 degrees. Ramachandran and clashscore as `validate_model` tells
them. Simulated half maps: electron scattering, B-factors of 20 to 100 Å² that rise to the surface, white noise whose
half-map FSC is 0.143 at the resolution (`tests.truth.model_maps`). Real maps come without halves; they are test data.
"""

from __future__ import annotations

import resource
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import typer

from kernels.maps.grid import DensityGrid
from kernels.models.atomic_model import AtomicModel
from kernels.models.clashes import find_clashes
from kernels.models.ramachandran import peptide_before, ramachandran_kinds, ramachandran_scores, ramachandran_verdicts
from kernels.models.residues import PROTEIN_BACKBONE
from kernels.models.torsions import backbone_torsions, side_chain_torsions
from tasks.formats.ramachandran_tables import ramachandran_tables
from tasks.formats.structure import read_structure
from tasks.model_refinement.evidence import Evidence
from tasks.model_refinement.params import RefineModelParams
from tasks.model_refinement.rounds import refined_rounds
from tests.truth.cage_model import trace_of
from tests.truth.model_maps import protein_of, simulated_maps
from tests.truth.monomers import unpacked_monomers
from tests.truth.real_maps import REAL_DATA, apoferritin, integrin, vp6

SIMULATED = (
    # held-out structure, resolution Å, RMS error of the trace Å
    ("1E96_l", 2.5, 0.5),
    ("1E96_l", 3.0, 0.3),
    ("1E96_l", 3.0, 0.8),
    ("1E96_l", 3.5, 0.5),
    ("1E96_l", 4.0, 0.5),
    ("1EAW_r", 3.0, 0.5),
    ("2SNI_r", 3.5, 0.5),
    ("1MLC_r", 3.0, 0.5),
)
_RIGHT_COSINE = 0.766
"""Of 40 degrees."""


@dataclass(frozen=True)
class Row:
    """One model of one map."""

    case: str
    round: str
    alpha_angstrom: float
    backbone_angstrom: float
    side_chain_angstrom: float
    chi1: float
    favoured: float
    clashscore: float
    fsc_average: float | None
    cpu_seconds: float | None
    """Of the whole path, with its last row."""


def rows_of(
    case: str, truth: AtomicModel, grid: DensityGrid, evidence: Evidence, library: Path, error: float
) -> list[Row]:
    """Build and refine, and compare every round."""
    before = _cpu_seconds()
    done = refined_rounds(trace_of(truth, error), grid, evidence, library, RefineModelParams())
    seconds = _cpu_seconds() - before
    rows = [compared(f"{case}", truth, truth, "truth", None, None)]
    for number, made in enumerate(done.rounds):
        name = made.name + (" *" if number == done.best else "")
        last = number == len(done.rounds) - 1
        rows.append(compared(case, made.model, truth, name, made.figures.get("fsc_average"), seconds if last else None))
    return rows


def _cpu_seconds() -> float:
    return time.process_time() + sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def compared(
    case: str, model: AtomicModel, truth: AtomicModel, name: str, fsc_average: float | None, seconds: float | None
) -> Row:
    """A model against the true one, residue by residue; both have the same residues."""
    squared = (model.positions(*PROTEIN_BACKBONE) - truth.positions(*PROTEIN_BACKBONE)).square().sum(-1)
    place = {(int(r), n): i for i, (r, n) in enumerate(zip(truth.residue, truth.names)) if n not in PROTEIN_BACKBONE}
    keys = [(int(r), n) for r, n in zip(model.residue, model.names)]
    pairs = [(i, place[key]) for i, key in enumerate(keys) if key in place]
    mine, theirs = torch.tensor(pairs).T
    side = (model.coordinates_angstrom[mine] - truth.coordinates_angstrom[theirs]).square().sum(-1)
    turned = (side_chain_torsions(model) - side_chain_torsions(truth))[:, 0]
    turned = turned[~turned.isnan()]
    torsions, kinds = backbone_torsions(model), ramachandran_kinds(model.amino_acid, peptide_before(model))
    scores = ramachandran_scores(ramachandran_tables(), kinds, torsions[:, 0], torsions[:, 1])
    verdicts = ramachandran_verdicts(scores, kinds)
    return Row(
        case,
        name,
        float(squared[:, 1].nanmean().sqrt()),
        float(squared.nanmean().sqrt()),
        float(side.mean().sqrt()),
        float((torch.cos(turned) > _RIGHT_COSINE).double().mean()),
        float((verdicts[verdicts >= 0] == 0).double().mean()),
        find_clashes(model).score,
        fsc_average,
        seconds,
    )


def table(rows: list[Row]) -> str:
    """In Markdown; the round that is taken has a star."""
    lines = [
        "| map, trace error | round | Cα | backbone | side chains | chi1 | favoured | clashscore | FSC | CPU-s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        fsc = "" if row.fsc_average is None else f"{row.fsc_average:.3f}"
        seconds = "" if row.cpu_seconds is None else f"{row.cpu_seconds:.0f}"
        lines.append(
            f"| {row.case} | {row.round} | {row.alpha_angstrom:.2f} Å | {row.backbone_angstrom:.2f} Å |"
            f" {row.side_chain_angstrom:.2f} Å | {100 * row.chi1:.0f} % | {100 * row.favoured:.1f} % |"
            f" {row.clashscore:.1f} | {fsc} | {seconds} |"
        )
    return "\n".join(lines)


def main(data: Path = REAL_DATA, only: str = "") -> None:
    """Print a table of simulated maps and one of real maps; ONLY takes the cases whose name holds these letters."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        library = unpacked_monomers(data, Path(folder))
        for name, resolution, error in SIMULATED:
            case = f"{name} {resolution} Å, {error} Å"
            if only in case:
                structure = read_structure(data / "structures_bm5" / f"{name}_b-matched.pdb.gz")
                maps = simulated_maps(protein_of(structure), resolution)
                evidence = Evidence((maps.half_1, maps.half_2), resolution)
                print(table(rows_of(case, maps.model, maps.sharpened, evidence, library, error)), flush=True)
        for read in (apoferritin, vp6, integrin):
            real = read(data)
            case = f"real {real.name}, 0.5 Å"
            if only in case:
                truth = _with_alpha(protein_of(real.model))
                evidence = Evidence((real.grid,), real.resolution_angstrom)
                print(table(rows_of(case, truth, real.grid, evidence, library, 0.5)), flush=True)


def _with_alpha(model: AtomicModel) -> AtomicModel:
    return model.take_residues(~model.positions("CA")[:, 0].isnan().any(-1))


if __name__ == "__main__":
    typer.run(main)
