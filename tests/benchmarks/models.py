"""From a map to a validated model, de novo: real maps, and a simulated one of some 500 residues.

Runs the flow `model` with the sequence given and no half maps for the real ones. Residues of the deposited (or true)
model count as built where a Cα lies within 3 Å, one-to-one, and as right where that residue has their type as well.
Intervals are of 1,000 bootstrap samples of residues, 95 %. The real maps are test data; the simulated one is of a
structure that the network was not trained on, by another simulation than that of the training.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from flows.model import ModelRecipe, model
from kernels.maps.grid import DensityGrid
from kernels.models.atomic_model import AtomicModel
from kernels.models.residues import AMINO_ACID_LETTERS
from kernels.scores import matched_points
from tasks.build_model import BuildModelParams
from tasks.formats.map_file import write_map
from tasks.formats.structure import read_structure
from tasks.import_map import ImportMapParams
from tasks.model_refinement.params import RefineModelParams
from tasks.records.comparison import Comparison
from tasks.records.session import StageReport
from tasks.stores.products.model_store import read_model
from tasks.stores.products.validation_store import read_validation
from tasks.stores.session_store import SessionStore
from tests.truth.model_maps import protein_of, simulated_maps
from tests.truth.monomers import unpacked_monomers
from tests.truth.real_maps import apoferritin, vp6

_SIMULATED = "structures_bm5/3L89_r_b-matched.pdb.gz"
_RADIUS_ANGSTROM = 3.0
_N_SAMPLES = 1000


@dataclass(frozen=True)
class _Case:
    name: str
    truth: AtomicModel
    files: ImportMapParams


def models(folder: Path, data: Path) -> list[tuple[str, list[Comparison], list[StageReport]]]:
    """Name, comparison with the truth, and cost, of each map."""
    folder.mkdir(parents=True, exist_ok=True)
    library = str(unpacked_monomers(data, folder))
    found = []
    for read in (_apoferritin, _vp6, _simulated):
        case = read(data, folder)
        url = str(folder / f"{case.name.split(',')[0].replace(' ', '_')}.zarr")
        recipe = ModelRecipe(
            import_map=case.files,
            build_model=BuildModelParams(sequences=_sequences(case.truth)),
            refine_model=RefineModelParams(monomer_library=library),
        )
        began = time.monotonic()
        reports = model(url, recipe)
        found.append((case.name, _compared(case, SessionStore.open(url), time.monotonic() - began), reports))
    return found


def _apoferritin(data: Path, _folder: Path) -> _Case:
    real = apoferritin(data)
    return _Case(real.name, real.model, ImportMapParams(map=str(real.map_path), resolution_angstrom=1.75))


def _vp6(data: Path, _folder: Path) -> _Case:
    real = vp6(data)
    return _Case(real.name, real.model, ImportMapParams(map=str(real.map_path), resolution_angstrom=2.6))


def _simulated(data: Path, folder: Path) -> _Case:
    maps = simulated_maps(protein_of(read_structure(data / _SIMULATED)), 3.0)
    paths = {name: folder / f"{name}.mrc" for name in ("map", "half_1", "half_2")}
    grids: dict[str, DensityGrid] = {"map": maps.sharpened, "half_1": maps.half_1, "half_2": maps.half_2}
    for name, grid in grids.items():
        write_map(paths[name], grid)
    files = ImportMapParams(**{name: str(path) for name, path in paths.items()}, resolution_angstrom=3.0)
    return _Case("simulated 3L89, 3.0 Å", maps.model, files)


def _sequences(truth: AtomicModel) -> tuple[str, ...]:
    """One for each chain of the deposited model, as far as it is there."""
    chains: dict[str, str] = {}
    for residue, index in zip(truth.residues, truth.amino_acid.tolist()):
        chains[residue.chain] = chains.get(residue.chain, "") + AMINO_ACID_LETTERS[index]
    return tuple(dict.fromkeys(chains.values()))


def _compared(case: _Case, store: SessionStore, seconds: float) -> list[Comparison]:
    chosen, judged = read_model(store, "chosen"), read_validation(store, "chosen")
    true = case.truth.positions("CA")[:, 0]
    match = matched_points(chosen.positions("CA")[:, 0], true, _RADIUS_ANGSTROM)
    is_built, is_right = torch.zeros(2, len(true), dtype=torch.bool)
    is_built[match[match >= 0]] = True
    same = chosen.amino_acid[match >= 0] == case.truth.amino_acid[match[match >= 0]]
    is_right[match[match >= 0][same]] = True
    lines = [
        _share(f"{case.name}: residues within 3 Å", is_built, 80),
        _share(f"{case.name}: with the right type", is_right, 75),
    ]

    def told(figure: str, value: float | None, unit: str, reach: float | None, better: str = "higher") -> None:
        if value is not None:
            made = {"stage": "model", "figure": f"{case.name}: {figure}", "unit": unit, "reach": reach}
            lines.append(Comparison(value=value, better=better, **made))

    told("residues built", judged.n_residues, "", None)
    told("Ramachandran favoured", judged.ramachandran_favoured_percent, "%", 97)
    told("clashscore", judged.clashscore, "", 6, "lower")
    told("Q-score", judged.q_score, "", None)
    told("residues trusted", judged.trusted_percent, "%", None)
    told("map to validated model", seconds / 60, "min", 10, "lower")
    return lines


def _share(figure: str, is_so: Tensor, reach: float) -> Comparison:
    generator = torch.Generator().manual_seed(1)
    rows = torch.randint(len(is_so), (_N_SAMPLES, len(is_so)), generator=generator)
    low, high = is_so[rows].double().mean(1).quantile(torch.tensor([0.025, 0.975]).double()).tolist()
    words = f"{figure} (95 %: {100 * low:.0f} to {100 * high:.0f})"
    value = 100 * float(is_so.double().mean())
    return Comparison(stage="model", figure=words, value=value, unit="%", reach=reach, better="higher")
