"""From a map to a validated model, de novo: real maps, and a simulated one of some 500 residues.

Runs the flow `model` with the sequence given and no half maps for the real ones. Residues of the deposited (or true)
model count as built where a Cα lies within 3 Å, one-to-one, and as right where that residue has their type as well;
the real maps are cut-outs, and the rest of what is built are pieces of neighbours that the box cuts through.
Ramachandran, clashscore, Q-score and trust are those of `validate_model`. Time is that on the clock, on this machine as
busy as it is; memory, that of the largest worker. Intervals are of 1,000 bootstrap samples of residues, 95 %. The real
maps are test data; the simulated one is of a structure that the network was not trained on, by another simulation than
that of the training.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from flows.model import model
from flows.model_recipe import ModelRecipe
from kernels.maps.grid import DensityGrid
from kernels.models.atomic_model import AtomicModel
from kernels.scores import matched_points
from tasks.build_model import BuildModelParams
from tasks.formats.map_file import write_map
from tasks.formats.structure import read_structure
from tasks.import_map import ImportMapParams
from tasks.model_refinement.params import RefineModelParams
from tasks.stores.products.model_store import read_model
from tasks.stores.products.validation_store import read_validation
from tasks.stores.session_store import SessionStore
from tests.benchmarks.estimates import Line, Section, estimate, share, single
from tests.truth.model_maps import protein_of, simulated_maps
from tests.truth.monomers import unpacked_monomers
from tests.truth.real_maps import RealMap, apoferritin, vp6

_SIMULATED, _SMALL = "3L89_r", "1E96_l"
"""Of structures that were held out: 545 residues, and 184 to see quickly whether something broke."""
_MINUTES, _MINUTES_WITH_GPU, _GIGABYTES = 10.0, 2.0, 6.0
"""To reach, for some 500 residues at 3 Å."""
_RADIUS_ANGSTROM = 3.0
_FEWEST_BETWEEN_COPIES = 100
_DEFINITION = __doc__ or ""


@dataclass(frozen=True)
class _Case:
    name: str
    truth: AtomicModel
    files: ImportMapParams
    sequences: tuple[str, ...]
    is_timed: bool = False
    """Whether it is as large as what time and memory are to be reached for."""


def modelled(folder: Path, data: Path, read: Callable[[Path, Path], _Case]) -> Section:
    """A map with its comparison and cost; the services have to run."""
    folder.mkdir(parents=True, exist_ok=True)
    case = read(data, folder)
    url = str(folder / f"{case.name.split(',')[0].replace(' ', '_')}.zarr")
    recipe = ModelRecipe(
        import_map=case.files,
        build_model=BuildModelParams(sequences=case.sequences),
        refine_model=RefineModelParams(monomer_library=str(unpacked_monomers(data, folder))),
    )
    began = time.monotonic()
    reports = model(url, recipe)
    minutes, peak = (time.monotonic() - began) / 60, max(r.peak_memory_bytes for r in reports)
    least = _MINUTES_WITH_GPU if torch.cuda.is_available() else _MINUTES
    lines = [
        *_compared(case, SessionStore.open(url)),
        Line("map to validated model", case.name, single(minutes), "min", least if case.is_timed else None, "lower", 1),
        Line("largest worker", case.name, single(peak / 1e9), "GB", _GIGABYTES if case.is_timed else None, "lower", 2),
    ]
    return Section(f"model, {case.name}", _DEFINITION, tuple(lines), sum(r.cpu_seconds for r in reports), peak)


def apoferritin_case(data: Path, _folder: Path) -> _Case:
    return _real(apoferritin(data), 1.75)


def vp6_case(data: Path, _folder: Path) -> _Case:
    return _real(vp6(data), 2.6)


def _real(real: RealMap, resolution_angstrom: float) -> _Case:
    files = ImportMapParams(map=str(real.map_path), resolution_angstrom=resolution_angstrom)
    return _Case(real.name, real.model, files, tuple(dict.fromkeys(real.model.sequences.values())))


def simulated_case(data: Path, folder: Path) -> _Case:
    return _simulated(data, folder, _SIMULATED, True)


def small_simulated_case(data: Path, folder: Path) -> _Case:
    return _simulated(data, folder, _SMALL, False)


def _simulated(data: Path, folder: Path, name: str, is_timed: bool) -> _Case:
    structure = read_structure(data / "structures_bm5" / f"{name}_b-matched.pdb.gz")
    protein = protein_of(structure)
    maps = simulated_maps(protein, 3.0)
    paths = {name: folder / f"{name}.mrc" for name in ("map", "half_1", "half_2")}
    grids: dict[str, DensityGrid] = {"map": maps.sharpened, "half_1": maps.half_1, "half_2": maps.half_2}
    for of, grid in grids.items():
        write_map(paths[of], grid)
    files = ImportMapParams(**{of: str(path) for of, path in paths.items()}, resolution_angstrom=3.0)
    return _Case(f"simulated {name.split('_')[0]}, 3.0 Å", maps.model, files, (_of_longest_chain(protein),), is_timed)


def _of_longest_chain(model: AtomicModel) -> str:
    """Sequence of one protomer: the set has all copies under one name, the numbers of the next far from the last."""
    number = torch.tensor([r.number for r in model.residues])
    ends = torch.nonzero(number.diff().abs() > _FEWEST_BETWEEN_COPIES).squeeze(1) + 1
    longest = max(torch.tensor_split(torch.arange(len(number)), ends), key=len)
    (sequence,) = model.in_order(longest).sequences.values()
    return sequence


def _compared(case: _Case, store: SessionStore) -> list[Line]:
    chosen, judged = read_model(store, "chosen"), read_validation(store, "chosen")
    true = case.truth.positions("CA")[:, 0]
    match = matched_points(chosen.positions("CA")[:, 0], true, _RADIUS_ANGSTROM)
    is_built, is_right = torch.zeros(2, len(true), dtype=torch.bool)
    is_built[match[match >= 0]] = True
    same = chosen.amino_acid[match >= 0] == case.truth.amino_acid[match[match >= 0]]
    is_right[match[match >= 0][same]] = True
    torsions = [row.ramachandran for row in judged.residues if row.ramachandran is not None]
    known = [row.ramachandran for row, m in zip(judged.residues, match) if row.ramachandran is not None and m >= 0]
    verdicts = [row.verdict for row in judged.residues if row.verdict]
    clashes = torch.tensor([row.n_clashes for row in judged.residues], dtype=torch.float64)
    score = judged.clashscore / max(float(clashes.mean()), 1e-9)
    name, where = "de novo model", f"{case.name}, {len(true)} residues"
    return [
        Line(f"{name}: residues within 3 Å", where, share(is_built), "%", 80, digits=0),
        Line(f"{name}: with the right type", where, share(is_right), "%", 75, digits=0),
        Line(f"{name}: residues", where, single(judged.n_residues), digits=0),
        Line(f"{name}: Ramachandran favoured", where, share(_are(torsions, "favoured")), "%", 97, digits=1),
        Line(f"{name}: the same, of residues within 3 Å", where, share(_are(known, "favoured")), "%", digits=1),
        Line(
            f"{name}: clashscore", where, estimate(lambda some: score * float(clashes[some].mean()), len(clashes)),
            "", 6, "lower", 1,
        ),
        Line(f"{name}: Q-score", where, single(judged.q_score), digits=2),
        Line(f"{name}: residues trusted", where, share(_are(verdicts, "trust")), "%", digits=0),
    ]  # fmt: skip


def _are(words: Sequence[str], wanted: str) -> Tensor:
    return torch.tensor([word == wanted for word in words])
