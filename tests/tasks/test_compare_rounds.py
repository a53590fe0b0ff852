"""Rounds of a model are compared inside of one mask, in one map's free half, and the better one is chosen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from flows.commands.console import console
from flows.commands.models import show_rounds
from kernels.maps.cutting import cut_around
from kernels.maps.grid import DensityGrid
from kernels.models.atomic_model import AtomicModel
from kernels.models.common_mask import MARGIN_ANGSTROM, common_mask_fsc, ends
from kernels.models.map_fit import model_density
from tasks.choose_model import ChooseModelParams, best_of, choose_model
from tasks.compare_rounds import CompareRoundsParams, compare_rounds
from tasks.formats.map_file import write_map
from tasks.import_map import ImportMapParams, import_map
from tasks.records.density_map import DensityMap
from tasks.records.session import StageParams
from tasks.report_session import ReportSessionParams, report_session
from tasks.stores.products.map_store import density_box, density_grid, describe, map_mates
from tasks.stores.products.model_store import read_model, write_model
from tasks.stores.products.rounds_store import read_rounds
from tasks.stores.products.validation_store import read_validation
from tasks.stores.session_store import SessionStore
from tasks.validate_model import ValidateModelParams, validate_model
from tests.truth.cage_model import cage_subunit, smoothly_displaced
from tests.truth.model_maps import SimulatedMaps, simulated_maps

N, RIGHT, RESOLUTION = 48, 32, 3.0
CLEARLY = 0.02
"""Of a mean FSC; of maps with other noise it differs by 0.002."""


@pytest.fixture(scope="module")
def maps() -> SimulatedMaps:
    return simulated_maps(cage_subunit(N), RESOLUTION, padding_angstrom=13)


def put_model(
    store: SessionStore,
    name: str,
    model: AtomicModel,
    density: str,
    resolution_angstrom: float = RESOLUTION,
    version: int = 1,
) -> None:
    with store.product(f"models/{name}").write("refine_model", version, StageParams(), {}) as attempt:
        write_model(attempt, model, name)
    params = ValidateModelParams(model=name, map=density, resolution_angstrom=resolution_angstrom)
    report = validate_model.fn(store.url, params)
    assert report.done, report


def put_map(store: SessionStore, name: str, grids: dict[str, DensityGrid], *sources: str) -> None:
    origin = tuple(next(iter(grids.values())).origin_angstrom.tolist())
    about = DensityMap(
        name=name, kind="refined", pixel_size_angstrom=1.0, symmetry="C1", resolution_angstrom=RESOLUTION,
        origin_angstrom=origin,
    )  # fmt: skip
    inputs = store.fingerprints([f"maps/{source}" for source in sources])
    with store.product(f"maps/{name}").write("refine_map", 1, StageParams(), inputs) as attempt:
        for array, grid in grids.items():
            attempt.write(array, grid.voxels.numpy().astype(np.float32))
        describe(attempt, about)


def first_residues(model: AtomicModel) -> AtomicModel:
    return model.take_residues(torch.arange(model.n_residues) < RIGHT)


def with_third_moved(model: AtomicModel, angstrom: float) -> AtomicModel:
    is_moved = (model.residue >= RIGHT)[:, None]
    return model.at(model.coordinates_angstrom + is_moved * angstrom / 3**0.5)


def compared(store: SessionStore, models: tuple[str, ...], density: str) -> list[float]:
    report = compare_rounds.fn(store.url, CompareRoundsParams(models=models, map=density))
    assert not report.failed and not report.skipped, report
    return [one.fsc_free for one in read_rounds(store, models, density).rounds]


def test_the_complete_model_is_chosen_though_the_short_one_agrees_better_in_its_own_mask(
    store, workers, maps, tmp_path: Path
):
    files = {}
    for name, grid in {"map": maps.sharpened, "half_1": maps.half_1, "half_2": maps.half_2}.items():
        files[name] = str(tmp_path / f"{name}.mrc")
        write_map(tmp_path / f"{name}.mrc", grid)
    import_map.fn(store.url, ImportMapParams(**files, resolution_angstrom=RESOLUTION))
    put_model(store, "refined", first_residues(maps.model), "imported")
    put_model(store, "refined-1", smoothly_displaced(maps.model, 0.4), "imported")
    put_model(store, "refined-2", with_third_moved(maps.model, 2.0), "imported")
    models = ("refined", "refined-1", "refined-2")
    choice = ChooseModelParams(models=models, map="imported")
    (reason,) = choose_model.fn(store.url, choice).skipped.values()
    assert "rounds/refined-2" in reason  # they were not compared
    own = [read_validation(store, name).fsc_free for name in models]
    assert own[0] > max(own[1:])
    found = compared(store, models, "imported")
    assert found[1] > found[0] + CLEARLY > found[2] + 2 * CLEARLY
    assert best_of(store.url, choice) == "refined-1"
    assert choose_model.fn(store.url, choice).done
    record = store.product("models/chosen").record()
    assert record.figures["best_round"] == "refined-1"
    assert [one["fsc_free"] for one in record.details["rounds"]] == own
    assert [one["fsc_free_one_mask"] for one in record.details["rounds"]] == found
    assert read_validation(store, "chosen").fsc_free == own[1]  # as it was validated
    # where the choice is shown
    said = "The FSC with half 2 of maps/imported up to 3.00 Å decides, inside of one mask around all of them."
    with console.capture() as shown:
        show_rounds(record)
    assert said in shown.get()
    html = Path(report_session.fn(store.url, ReportSessionParams())).read_text()
    assert said in html and "the same in one mask" in html
    # done twice, nothing is measured twice; with another model of the name, all is
    params = CompareRoundsParams(models=models, map="imported")
    assert compare_rounds.fn(store.url, params).kept
    put_model(store, "refined-2", maps.model, "imported", version=2)
    (reason,) = choose_model.fn(store.url, choice).failed.values()
    assert "is of earlier models/refined-2; run compare_rounds again" in reason
    assert compare_rounds.fn(store.url, params).done
    assert best_of(store.url, choice) == "refined-2"


def test_models_of_two_maps_of_the_same_particles_are_compared_in_the_newest_one(store, workers, maps):
    """In the map of the whole a third is blurred, and the model of it 2 Å off; refined by itself, it is sharp."""
    truth = maps.model
    third = truth.take_residues(torch.arange(N) >= RIGHT)
    blurred = replace(third, b_factor_angstrom2=third.b_factor_angstrom2 + 200)
    sharp = {"half_1": maps.half_1, "half_2": maps.half_2}
    lost = model_density(blurred, maps.half_1).voxels - model_density(third, maps.half_1).voxels
    whole = {name: half.with_voxels(half.voxels + lost) for name, half in sharp.items()}
    put_map(store, "refined", {"map": maps.sharpened, **whole})
    put_map(store, "sharpened", {"map": maps.sharpened.with_voxels(maps.sharpened.voxels + lost)}, "refined")
    put_map(store, "joined", {"map": maps.sharpened, **sharp}, "refined")
    put_model(store, "refined", with_third_moved(truth, 2.0), "sharpened", 3.2)
    put_model(store, "refined-1", truth, "joined")
    models = ("refined", "refined-1")
    found = compared(store, models, "joined")
    assert found[1] > found[0] + CLEARLY
    told = read_rounds(store, models, "joined")
    assert [one.map for one in told.rounds] == ["sharpened", "joined"]
    assert told.words.startswith("The FSC with half 2 of maps/joined up to ")
    assert told.words.endswith("around all of them, those that were fitted to maps/sharpened too.")
    # up to the coarser of what both were validated at, with the free half of the newest map
    assert told.resolution_angstrom == 3.2
    pair = [read_model(store, name) for name in models]
    mates = map_mates(store, "joined")
    box = cut_around(density_grid(store, "joined", "half_2"), ends(pair, mates), MARGIN_ANGSTROM)
    part = density_box(store, "joined", "half_2", ends(pair, mates), MARGIN_ANGSTROM)
    assert part.voxels.numel() < 0.9 * maps.half_2.voxels.numel()
    torch.testing.assert_close(part.voxels, box.voxels, atol=0, rtol=0)
    torch.testing.assert_close(part.origin_angstrom, box.origin_angstrom)
    assert common_mask_fsc(box, pair, mates, 3.2) == pytest.approx(found, abs=1e-4)


def test_models_of_maps_of_other_particles_are_not_compared(store, workers, maps):
    halves = {"map": maps.sharpened, "half_1": maps.half_1, "half_2": maps.half_2}
    put_map(store, "refined", halves)
    put_map(store, "sharpened", {"map": maps.sharpened}, "refined")
    put_map(store, "imported", halves)
    put_model(store, "refined", maps.model, "imported")
    put_model(store, "refined-1", maps.model, "sharpened")
    params = CompareRoundsParams(models=("refined", "refined-1"), map="sharpened")
    (reason,) = compare_rounds.fn(store.url, params).failed.values()
    assert "models/refined was fitted to maps/imported, whose halves are of other particles" in reason


def test_without_half_maps_nothing_is_measured_and_the_residues_decide(store, workers, maps):
    put_map(store, "sharpened", {"map": maps.sharpened})
    put_model(store, "refined", first_residues(maps.model), "sharpened")
    put_model(store, "refined-1", maps.model, "sharpened")
    models = ("refined", "refined-1")
    assert compared(store, models, "sharpened") == [None, None]
    assert choose_model.fn(store.url, ChooseModelParams(models=models)).done
    record = store.product("models/chosen").record()
    assert record.figures["best_round"] == "refined-1"
    assert record.details["compared"].startswith("Without a half map that is free")
