"""A model in the store gets what stands beside it, with a record of it; what cannot be read stops the stage."""

import pytest

from tasks.formats import FormatError
from tasks.formats.map_file import write_map
from tasks.import_map import ImportMapParams, import_map
from tasks.ligands.params import PlaceLigandsParams
from tasks.place_ligands import place_ligands
from tasks.stores.products.model_store import read_model, read_placement, write_model
from tests.truth.model_maps import simulated_maps
from tests.truth.monomers import unpacked_monomers
from tests.truth.solvated import PHENYLALANINOL, solvated

RESOLUTION = 2.3


def test_a_refined_model_carries_its_ligand_and_water_and_a_record_of_them(store, workers, real_data, tmp_path):
    truth = solvated()
    maps = simulated_maps(truth.whole, RESOLUTION, 0.9, 8.0, own_b_factors=True, n_hydrogens=truth.n_hydrogens, seed=2)
    paths = {}
    for name, grid in {"map": maps.sharpened, "half_1": maps.half_1, "half_2": maps.half_2}.items():
        paths[name] = str(tmp_path / f"{name}.mrc")
        write_map(tmp_path / f"{name}.mrc", grid)
    import_map.fn(store.url, ImportMapParams(**paths, resolution_angstrom=RESOLUTION))
    with store.product("models/chosen").write("choose_model", 1, PlaceLigandsParams(), {}) as attempt:
        write_model(attempt, truth.protein, "chosen")
        attempt.details["rounds"] = [{"name": "refined"}]
        attempt.figures.update(best_round="refined")
    library = unpacked_monomers(real_data, tmp_path / "monomers")
    params = PlaceLigandsParams(map="imported", ligands=(PHENYLALANINOL,), monomer_library=str(library), n_cycles=3)
    report = place_ligands.fn(store.url, params)
    assert report.done, (report.failed, report.skipped)
    figures = store.product("models/placed").record().figures
    assert (figures["n_ligands"], figures["n_waters"], figures["is_refined"]) == (1, 1, True)
    found = read_model(store, "placed")
    names = [residue.name for residue in found.residues]
    assert names[-2:] == ["LIG", "HOH"]
    n = len(truth.protein)
    moved = found.coordinates_angstrom[n : n + len(truth.ligand)] - truth.ligand.coordinates_angstrom
    assert float(moved.square().sum(-1).mean().sqrt()) < 1.0
    told = read_placement(store, "placed")
    assert [row.name for row in told.placed] == ["LIG", "HOH"]
    assert store.product("models/placed").record().details["rounds"] == [{"name": "refined"}]
    assert place_ligands.fn(store.url, params).kept


def test_a_ligand_that_cannot_be_read_stops_the_stage_before_it_looks_at_a_model(store):
    with pytest.raises(FormatError, match="is no SMILES"):
        place_ligands.fn(store.url, PlaceLigandsParams(ligands=("CC(",)))
    assert store.product("models/placed").record() is None
