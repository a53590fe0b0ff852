"""A map of a known protein becomes a model of it, with the weights that come with the project."""

import torch

from kernels.maps.grid import DensityGrid
from kernels.models.residues import SECONDARY_STRUCTURES
from kernels.models.secondary_structure import secondary_structure
from kernels.scores import matched_points
from tasks.build_model import BuildModelParams, build_model
from tasks.formats.map_file import write_map
from tasks.import_map import ImportMapParams, import_map
from tasks.stores.products.model_store import read_model
from tests.truth.cage_model import cage_subunit
from tests.truth.model_maps import simulated_maps


def test_most_residues_of_a_simulated_map_are_found(store, workers, tmp_path):
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


def test_weights_that_are_none_are_named(store, workers, tmp_path):
    noise = torch.randn(16, 16, 16, generator=torch.Generator().manual_seed(0))
    write_map(tmp_path / "noise.mrc", DensityGrid(noise, 1.0, torch.zeros(3, dtype=torch.float64)))
    import_map.fn(store.url, ImportMapParams(map=str(tmp_path / "noise.mrc")))
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    report = build_model.fn(store.url, BuildModelParams(map="imported", weights=str(tmp_path / "bad.safetensors")))
    (reason,) = report.failed.values()
    assert "bad.safetensors" in reason and "train the network" in reason
