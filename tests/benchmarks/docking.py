"""Structures docked by `tasks.docking.dock`, nothing told but the resolution.

Real maps, on which nothing was tuned: EMD-5168 (actin, 6.6 Å) with 1J6Z, and VP6 (3.8 Å), whose box holds one subunit,
with a model in another frame. The first is compared with 1J6Z as others fitted it. Simulated: complexes of
`tasks.docking.confidence_fit` that no coefficient was fitted on, one copy of each chain asked for, bent by 2 Å or
hinged by 6 Å in turn, with a predicted error that tells the parts; within 3 Å are the residues that were placed, as one
chain, where a copy of the chain is as good. Wrong proteins: a chain of the next complex in their place. Cost: α-amylase
of 1BVN, hinged by 6 Å, in a map of its complex at 5 Å with noise around it up to 128³ voxels; by one thread, in a
process of its own, memory beyond what that takes once all is imported.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch

from kernels.maps.grid import DensityGrid
from kernels.models.atomic_model import AtomicModel, joined
from kernels.models.residue_places import places_of_residues
from kernels.models.superposition import rmsd
from tasks.docking.confidence_fit import Complex, complexes
from tasks.docking.dock import DockedModel, NothingPlacedError, dock
from tasks.docking.equal_residues import rmsd_to_copies
from tasks.docking.hits import Scene
from tasks.docking.perturbed import bent, hinged
from tasks.docking.targets import Target, target_of_model, target_of_prediction
from tasks.formats.map_file import read_map
from tasks.formats.structure import read_structure
from tasks.validation.simulated_map import simulate_map
from tests.benchmarks.estimates import Line, share, single
from tests.truth.peak_memory import peak_memory_bytes

_LEAST, _RIGHT_ANGSTROM = 0.5, 3.0
RANGES_ANGSTROM = ((4.0, 7.0, 90.0), (7.0, 10.0, 75.0))
"""Resolutions, and the share to reach."""
_LARGE, _N_LARGE, _LARGE_ANGSTROM, _SIDE = "1BVN", 493, 5.0, 128
_CPU_SECONDS, _GIGABYTES = 60.0, 1.0
"""To reach."""


def real_lines(data: Path) -> list[Line]:
    """Of the two real maps."""
    folder = data / "maps" / "EMD-5168_actin_6.6A"
    model = read_structure(folder / "1J6Z.pdb")
    target = target_of_model("1J6Z", model, None)
    found = dock(Scene(read_map(folder / "emd_5168.map"), None, 6.6), [target], "actin", _LEAST)
    near = min(rmsd(places_of_residues(chain), places_of_residues(target.model)) for chain in _chains(found.model))
    (symmetry,) = found.record.symmetry
    folder = data / "maps" / "VP6_3.8A_docking"
    vp6 = target_of_model("VP6", read_structure(folder / "vp6.pdb"), None)
    (placed, *_) = dock(Scene(read_map(folder / "vp6-96o.mrc"), None, 3.8), [vp6], "VP6", _LEAST).record.placed
    actin = "EMD-5168, actin, 6.6 Å"
    return [
        Line("docking: RMSD to the fitted model", actin, single(near), "Å", _RIGHT_ANGSTROM, "lower", 2),
        Line("docking: copies", actin, single(len(found.record.placed)), digits=0),
        Line("docking: rise", actin, single(symmetry.rise_angstrom or 0.0), "Å", digits=2),
        Line("docking: twist", actin, single(symmetry.twist_deg or 0.0), "°", digits=2),
        Line("docking: correlation", "VP6, 3.8 Å", single(placed.correlation), digits=2),
        Line("docking: contrast to the next best", "VP6, 3.8 Å", single(placed.contrast), digits=2),
    ]


def cost_lines(data: Path, folder: Path) -> list[Line]:
    """CPU time and memory of one large chain."""
    told = folder / "docking_seconds.txt"
    peak = peak_memory_bytes(f"{__name__}:place_one", str(data), str(told))
    where = f"one chain of {_N_LARGE} residues, {_SIDE}³ voxels"
    return [
        Line("docking: CPU time", where, single(float(told.read_text())), "s", _CPU_SECONDS, "lower", 0),
        Line("docking: peak memory", where, single(peak / 1e9), "GB", _GIGABYTES, "lower", 2),
    ]


def place_one(data: str, told: str) -> None:
    """Dock the large chain, and write the CPU seconds that it took."""
    torch.set_num_threads(1)
    folder, generator = Path(data) / "structures_bm5", torch.Generator().manual_seed(0)
    partners = [read_structure(folder / f"{_LARGE}_{which}_b-matched.pdb.gz") for which in "rl"]
    chain = partners[0].take_residues(partners[0].amino_acid >= 0)
    if chain.n_residues != _N_LARGE:
        raise ValueError(f"{_LARGE}_r: found {chain.n_residues} residues, expected {_N_LARGE}")
    grid = simulate_map(joined([chain, partners[1]]), _LARGE_ANGSTROM, generator)
    target = _target("large", chain, 1, generator)
    grid = _surrounded(grid, _SIDE, generator)
    started = time.process_time()
    found = dock(Scene(grid, None, _LARGE_ANGSTROM), [target], "simulated", _LEAST)
    Path(told).write_text(str(time.process_time() - started))
    if not _is_right(found, "large", [chain]):
        raise ValueError(f"{_LARGE}_r is not within {_RIGHT_ANGSTROM:g} Å of its place; its cost would say nothing")


def _surrounded(grid: DensityGrid, side: int, generator: torch.Generator) -> DensityGrid:
    """In the middle of a cube of noise as strong as that at the rim of the map."""
    before = [(side - n) // 2 for n in grid.voxels.shape]
    voxels = torch.randn((side,) * 3, generator=generator) * grid.voxels[:4].std()
    voxels[tuple(slice(b, b + n) for b, n in zip(before, grid.voxels.shape))] = grid.voxels
    origin = grid.origin_angstrom - torch.tensor(before, dtype=torch.float64) * grid.voxel_size_angstrom
    return DensityGrid(voxels, grid.voxel_size_angstrom, origin)


def lines(data: Path, n: int) -> list[Line]:
    """Of simulated maps of n complexes for each range of resolutions."""
    cases = [c for c in complexes(data / "structures_bm5") if c.is_held_out and c.chains()][: n + 1]
    found = []
    for low, high, reach in RANGES_ANGSTROM:
        is_right: list[bool] = []
        is_accepted: list[bool] = []
        for number, case in enumerate(cases[:n]):
            resolution = low + (high - low) * ((number * 0.6180339887) % 1)
            generator = torch.Generator().manual_seed(number)
            scene = Scene(simulate_map(case.model, resolution, generator), None, resolution)
            is_right += _right(scene, case, generator)
            stranger = cases[number + 1].chains()[0]
            is_accepted.append(_dock(scene, [_target("wrong", stranger, number, generator)]) is not None)
        where = f"{low:g} to {high:g} Å, {n} complexes"
        found += [
            Line("docking: chains within 3 Å", where, share(torch.tensor(is_right)), "%", reach, digits=0),
            Line("docking: wrong proteins placed", where, share(torch.tensor(is_accepted)), "%", 2, "lower", 0),
        ]
    return found


def _right(scene: Scene, case: Complex, generator: torch.Generator) -> list[bool]:
    """Of each chain of a complex, whether it lies where it belongs."""
    chains = case.chains()
    found = _dock(scene, [_target(str(i), chain, i, generator) for i, chain in enumerate(chains)])
    return [found is not None and _is_right(found, str(i), chains) for i in range(len(chains))]


def _is_right(found: DockedModel, name: str, truth: list[AtomicModel]) -> bool:
    names = {chain for row in found.record.placed if row.source == name for chain in row.chains}
    own = found.model.take_residues(torch.tensor([r.chain in names for r in found.model.residues]))
    return own.n_residues > 0 and rmsd_to_copies(own, truth) <= _RIGHT_ANGSTROM


def _target(name: str, chain: AtomicModel, number: int, generator: torch.Generator) -> Target:
    made = hinged(chain, 6.0, generator) if number % 2 else bent(chain, 2.0, generator)
    return target_of_prediction(name, made.prediction, 1, 70.0, 5.0)


def _dock(scene: Scene, targets: list[Target]) -> DockedModel | None:
    try:
        return dock(scene, targets, "simulated", _LEAST)
    except NothingPlacedError:
        return None


def _chains(model: AtomicModel) -> list[AtomicModel]:
    names = dict.fromkeys(r.chain for r in model.residues)
    return [model.take_residues(torch.tensor([r.chain == name for r in model.residues])) for name in names]
