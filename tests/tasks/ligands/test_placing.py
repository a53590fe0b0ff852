"""In simulated maps ligand and water come to stand where they are, and nothing where nothing is."""

import pytest
import torch

from kernels.models.atomic_model import AtomicModel, joined
from kernels.models.ligand_template import LigandTemplate
from kernels.models.mates import Mates, copies
from kernels.rotations import symmetry_group
from tasks.ligands.params import PlaceLigandsParams
from tasks.ligands.placing import placed
from tasks.ligands.requested import RequestedLigand
from tests.truth.model_maps import simulated_maps
from tests.truth.solvated import PHENYLALANINOL, solvated, template_of_smiles

RESOLUTION = 2.3


@pytest.fixture(scope="module")
def truth():
    return solvated()


@pytest.fixture(scope="module")
def maps(truth):
    return simulated_maps(truth.whole, RESOLUTION, 0.9, 8.0, own_b_factors=True, n_hydrogens=truth.n_hydrogens, seed=2)


def requested(smiles: str = PHENYLALANINOL) -> list[RequestedLigand]:
    return [RequestedLigand(smiles, template_of_smiles(smiles), None)]


def place(maps, model: AtomicModel, ligands: list[RequestedLigand]):
    return placed(model, maps.sharpened, (maps.half_1, maps.half_2), RESOLUTION, ligands, PlaceLigandsParams())


def test_a_ligand_and_a_water_are_put_where_they_are(truth, maps):
    found = place(maps, truth.protein, requested())
    assert [row.kind for row in found.placement.placed] == ["ligand", "water"]
    ligand, water = found.placement.placed
    n = len(truth.protein)
    own = found.model.take(torch.arange(len(found.model)) >= n)
    rmsd = (own.coordinates_angstrom[: len(truth.ligand)] - truth.ligand.coordinates_angstrom).square().sum(-1).mean()
    assert float(rmsd.sqrt()) < 1.0
    assert float((own.coordinates_angstrom[-1] - truth.water.coordinates_angstrom[0]).norm()) < 0.4
    assert ligand.name == "LIG" and ligand.correlation > 0.8 and ligand.probability > 0.5
    assert water.half_sigma > 1.5
    assert len({residue.chain for residue in found.model.residues}) == 3
    assert not found.placement.refused
    assert not found.placement.unexplained


def test_a_density_that_nobody_named_is_listed_and_not_filled_with_waters(truth, maps):
    found = place(maps, truth.protein, [])
    assert [row.kind for row in found.placement.placed] == ["water"]
    blob = found.placement.unexplained[0]
    away = torch.tensor(blob.place_angstrom) - truth.ligand.coordinates_angstrom
    assert float(away.norm(dim=1).min()) < 1.5
    assert blob.volume_angstrom3 > 40
    assert "--ligand" in blob.words


def test_nothing_is_placed_where_nothing_is(truth):
    n = len(truth.protein)
    bare = simulated_maps(
        truth.protein, RESOLUTION, 0.9, 12.0, own_b_factors=True, n_hydrogens=truth.n_hydrogens[:n], seed=4
    )
    found = place(bare, truth.protein, requested())
    assert found.placement.placed == ()
    assert len(found.model) == n
    (refused,) = found.placement.refused
    assert "no piece of unexplained density is large enough" in refused.reason


def test_waters_are_not_looked_for_in_a_coarse_map(truth, maps):
    params = PlaceLigandsParams(worst_water_angstrom=2.0)
    found = placed(truth.protein, maps.sharpened, None, RESOLUTION, [], params)
    assert found.placement.placed == ()
    assert "worse than the 2 Å" in found.placement.water_words


def test_a_molecule_larger_than_any_density_is_refused_with_numbers(truth, maps):
    n = 90
    big = LigandTemplate(
        "BIG", tuple(f"C{i}" for i in range(n)), ("C",) * n, torch.zeros(n, dtype=torch.int64),
        torch.zeros(0, 2, dtype=torch.int64), torch.zeros(0, 2, dtype=torch.int64), torch.zeros(0, n, dtype=torch.bool),
        torch.randn(1, n, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 6,
    )  # fmt: skip
    found = place(maps, truth.protein, [RequestedLigand("BIG", big, None)])
    (refused,) = found.placement.refused
    assert "90 atoms need 135 Å³ or more" in refused.reason


def test_in_a_symmetric_map_one_of_each_is_placed_and_its_copies_are_explained():
    small = solvated(24)
    beside = small.whole.coordinates_angstrom.mean(0) + torch.tensor([0.0, 0.0, 14.0])
    both = joined(copies(small.whole, Mates(symmetry_group("C2").double(), beside)))
    maps = simulated_maps(
        both, RESOLUTION, 0.9, 8.0, own_b_factors=True, n_hydrogens=small.n_hydrogens.repeat(2), seed=3,
        centre_angstrom=beside,
    )  # fmt: skip
    halves, mates = (maps.half_1, maps.half_2), Mates.about("C2", maps.half_1)
    found = placed(small.protein, maps.sharpened, halves, RESOLUTION, requested(), PlaceLigandsParams(), mates)
    assert [row.kind for row in found.placement.placed] == ["ligand", "water"]
    assert not found.placement.unexplained
    middle = torch.tensor(found.placement.placed[0].place_angstrom) - small.ligand.coordinates_angstrom.mean(0)
    assert float(middle.norm()) < 0.5
