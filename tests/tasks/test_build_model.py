"""A map of a known protein becomes a model of it, with the weights that come with the project."""

import pytest
import torch

from kernels.maps.grid import DensityGrid
from kernels.models.residues import SECONDARY_STRUCTURES
from kernels.models.secondary_structure import secondary_structure
from kernels.scores import matched_points
from tasks.build_model import BuildModelParams, build_model
from tasks.formats.map_file import write_map
from tasks.formats.structure import parse_assembly
from tasks.import_map import ImportMapParams, import_map
from tasks.stores.commit import fingerprint
from tasks.stores.products.map_store import map_mates
from tasks.stores.products.model_store import mmcif_bytes, read_model
from tests.truth.cage_model import cage_subunit
from tests.truth.model_maps import simulated_maps
from tests.truth.symmetric_maps import dimer_maps


def test_most_residues_of_a_simulated_map_are_found(store, workers, tmp_path, place):
    """The cage's subunit, no natural protein, at 2.5 Å from another simulation than the network was trained on."""
    maps = simulated_maps(cage_subunit(80), 2.5)
    write_map(tmp_path / "map.mrc", maps.sharpened)
    import_map.fn(store.url, ImportMapParams(map=str(tmp_path / "map.mrc")))
    truth = secondary_structure(maps.model.positions("N", "CA", "C", "O"), maps.model.is_linked())
    predicted = "".join(SECONDARY_STRUCTURES[state][0].upper() for state in truth.tolist())
    params = BuildModelParams(map="imported", n_turns=2, structures=(predicted.replace("S", "E"),))
    report = build_model.fn(store.url, params)
    assert report.done == ["models/built in imported"], (report.failed, report.skipped)
    model = read_model(store, "built")
    found, true = model.positions("CA")[:, 0], maps.model.positions("CA")[:, 0]
    assert (matched_points(found, true, 3.0) >= 0).sum() > 0.7 * len(true)
    record = store.product("models/built").record()
    helices = [element for element in record.details["elements"] if element["kind"] == "helix"]
    in_helices = sum(int(helix["last"]) - int(helix["first"]) + 1 for helix in helices)
    assert in_helices > 0.6 * model.n_residues  # 68 of the 80 are
    summary, *placed = record.details["topology"]
    assert summary.startswith("structure 1: 2 of 2 segments placed") and len(placed) == 2
    figures = record.figures
    assert figures["n_residues"] == model.n_residues
    assert build_model.fn(store.url, params).kept == ["models/built in imported"]
    learnt = store.product("models/built").record().fingerprint
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.build_model.digest_of_weights", lambda _path: "of a network that has learnt more")
        patch.setattr("tasks.build_model.run_stage", lambda _url, stage, _items, asked: (stage, asked))
        stage, asked = build_model.fn(store.url, params)
    assert fingerprint(stage.name, stage.version, asked, record.inputs) != learnt


def test_a_round_is_built_in_the_first_half_alone(store, workers, tmp_path):
    """The first half shows the protein, the second one the same turned over: what is built stands in the first."""
    maps = simulated_maps(cage_subunit(80), 2.5)
    flipped = maps.half_2.with_voxels(maps.half_2.voxels.flip(2))
    mean = maps.half_1.with_voxels((maps.half_1.voxels + flipped.voxels) / 2)
    for name, grid in {"map": mean, "half_1": maps.half_1, "half_2": flipped}.items():
        write_map(tmp_path / f"{name}.mrc", grid)
    paths = {name: str(tmp_path / f"{name}.mrc") for name in ("map", "half_1", "half_2")}
    import_map.fn(store.url, ImportMapParams(**paths, resolution_angstrom=2.5))
    report = build_model.fn(store.url, BuildModelParams(map="imported", n_turns=1, round=2))
    assert report.done == ["models/rebuilt-2 in imported"], (report.failed, report.skipped)
    found, true = read_model(store, "rebuilt-2").positions("CA")[:, 0], maps.model.positions("CA")[:, 0]
    is_found = matched_points(found, true, 3.0) >= 0
    assert is_found.sum() > 0.7 * len(true)
    assert is_found.double().mean() > 0.8
    assert store.product("models/built").record() is None


def test_a_model_is_kept_outside_of_a_mask_that_is_given():
    with pytest.raises(ValueError, match=r"found kept = 'refined' and mask = None, expected both or none"):
        BuildModelParams(kept="refined")
    with pytest.raises(ValueError, match="expected both or none"):
        BuildModelParams(mask="maps/part/mask")


def test_weights_that_are_none_are_named(store, workers, tmp_path):
    noise = torch.randn(16, 16, 16, generator=torch.Generator().manual_seed(0))
    write_map(tmp_path / "noise.mrc", DensityGrid(noise, 1.0, torch.zeros(3, dtype=torch.float64)))
    import_map.fn(store.url, ImportMapParams(map=str(tmp_path / "noise.mrc")))
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    report = build_model.fn(store.url, BuildModelParams(map="imported", weights=str(tmp_path / "bad.safetensors")))
    (reason,) = report.failed.values()
    assert "bad.safetensors" in reason and "train the network" in reason


def test_one_unit_of_a_symmetric_map_is_built_and_its_copies_make_up_the_rest(store, workers, tmp_path):
    maps = dimer_maps(70, 2.5)
    write_map(tmp_path / "map.mrc", maps.sharpened)
    import_map.fn(store.url, ImportMapParams(map=str(tmp_path / "map.mrc"), symmetry="c2"))
    report = build_model.fn(store.url, BuildModelParams(map="imported", n_turns=1))
    assert report.done == ["models/built in imported"], (report.failed, report.skipped)
    unit, true = read_model(store, "built"), maps.model.positions("CA")[:, 0]
    both = map_mates(store, "imported").of(true).reshape(-1, 3)
    found = matched_points(unit.positions("CA")[:, 0], both, 3.0)
    found = found[found >= 0]
    assert len(set((found % len(true)).tolist())) > 0.7 * len(true)
    assert len(found) < 1.15 * len(set((found % len(true)).tolist()))  # hardly a residue in both copies
    whole = parse_assembly(mmcif_bytes(store, "built"), "built")
    assert whole.n_residues == 2 * unit.n_residues
    assert (matched_points(whole.positions("CA")[:, 0], both, 3.0) >= 0).sum() > 0.7 * len(both)


def test_a_symmetry_that_the_map_does_not_have_is_refused(store, workers, tmp_path):
    write_map(tmp_path / "map.mrc", dimer_maps(30, 3.0).sharpened)
    import_map.fn(store.url, ImportMapParams(map=str(tmp_path / "map.mrc"), symmetry="C3"))
    (reason,) = build_model.fn(store.url, BuildModelParams(map="imported", n_turns=1)).skipped.values()
    assert "is said to have symmetry C3" in reason and "1 of 3 operations fit" in reason and "n // 2" in reason
