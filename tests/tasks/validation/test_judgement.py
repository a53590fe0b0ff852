"""A model is judged as a whole, and told where it is wrong."""

import csv
import json
from dataclasses import replace

import pytest
import torch

from kernels.maps.grid import DensityGrid
from kernels.models.map_fit import model_density
from tasks.formats import FormatError
from tasks.formats.map_file import write_map
from tasks.formats.structure import read_structure, write_structure
from tasks.validation.files import read_maps, with_probability_as_b_factor, write_validation
from tasks.validation.judgement import Maps, judge
from tasks.validation.simulated_map import simulate_map
from tests.truth.ideal_nucleic_acids import duplex, of_other_bases
from tests.truth.ideal_proteins import ideal_protein

SEQUENCE = "SAFSLKWTEYAVMRDGFLSTIQNEWAKLEDFTSRYIAQLEHWKSMFT"


@pytest.fixture(scope="module")
def model():
    return ideal_protein(SEQUENCE)


@pytest.fixture(scope="module")
def maps(model) -> Maps:
    generator = torch.Generator().manual_seed(8)
    grid = simulate_map(model, 3.0, generator)
    signal = model_density(model, grid).voxels
    halves = [
        grid.with_voxels(signal + 0.8 * float(signal.std()) * torch.randn(signal.shape, generator=generator))
        for _ in range(2)
    ]
    return Maps(grid, *halves)


def test_a_right_model_is_trusted_and_a_shifted_loop_is_not(model, maps):
    found = judge(model, maps)
    assert found.resolution_source == "half maps"
    assert found.fsc_work == pytest.approx(found.fsc_free, abs=0.03)
    assert found.ramachandran_favoured_percent == 100
    assert found.trusted_percent > 80
    assert found.cc_mask > 0.7
    place = model.coordinates_angstrom.clone()
    loop = (model.residue >= 15) & (model.residue < 24)
    place[loop] += torch.tensor([2.0, -2.5, 2.0])
    worse = judge(model.at(place), maps)
    probability = [row.probability for row in worse.residues]
    assert max(probability[17:22]) < 0.5
    assert worse.trusted_percent < found.trusted_percent
    region = max(worse.regions, key=lambda r: r.n_residues)
    assert 14 <= int(region.first) <= 18
    assert 22 <= int(region.last) <= 26
    assert region.verdict != "trust"
    assert region.reasons
    assert worse.decision == "rebuild"


def test_without_halves_the_resolution_is_that_of_map_and_model_unless_given(model, maps):
    alone = Maps(maps.map)
    found = judge(model, alone)
    assert (found.resolution_source, found.fsc_work, found.fsc_free) == ("map and model", None, None)
    assert found.resolution_angstrom == pytest.approx(found.map_model_resolution_angstrom)
    assert judge(model, alone, 3.3).resolution_angstrom == 3.3


def test_a_model_that_nothing_supports_wants_more_data(model, maps):
    noise = torch.randn(maps.map.voxels.shape, generator=torch.Generator().manual_seed(1))
    found = judge(model, Maps(maps.map.with_voxels(noise)), 3.0)
    assert found.decision == "collect more"
    assert found.trusted_percent < 20


def test_a_model_elsewhere_is_refused_with_both_places(model, maps):
    with pytest.raises(ValueError, match=r"0 % of the atoms lie inside of the map.*dock the model"):
        judge(model.at(model.coordinates_angstrom + 400), maps)


def test_files_hold_what_was_found(model, maps, tmp_path):
    found = judge(model, Maps(maps.map), 3.0)
    table, everything = write_validation(tmp_path / "out", found)
    rows = list(csv.DictReader(table.open()))
    assert [row["name"] for row in rows] == [residue.name for residue in model.residues]
    assert float(rows[5]["q_score"]) == found.residues[5].q_score
    assert json.loads(everything.read_text())["cc_mask"] == found.cc_mask
    write_structure(tmp_path / "c.cif", with_probability_as_b_factor(model, found))
    coloured = read_structure(tmp_path / "c.cif")
    first = coloured.b_factor_angstrom2[coloured.residue == 7]
    assert first.tolist() == pytest.approx([100 * found.residues[7].probability] * len(first), abs=0.01)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["residues.csv", "validation.json"]


def test_halves_in_another_frame_are_refused(maps, tmp_path):
    write_map(tmp_path / "map.mrc", maps.map)
    write_map(tmp_path / "1.mrc", maps.map)
    moved = replace(maps.map, origin_angstrom=maps.map.origin_angstrom + 5)
    write_map(tmp_path / "2.mrc", moved)
    with pytest.raises(FormatError, match=r"2\.mrc.*frame of the map"):
        read_maps(tmp_path / "map.mrc", tmp_path / "1.mrc", tmp_path / "2.mrc", None)
    with pytest.raises(FormatError, match="expected both halves or none"):
        read_maps(tmp_path / "map.mrc", tmp_path / "1.mrc", None, None)
    found = read_maps(tmp_path / "map.mrc", tmp_path / "1.mrc", tmp_path / "1.mrc", 2.0)
    assert isinstance(found.half_2, DensityGrid)
    assert found.half_2.voxel_size_angstrom == 2.0


def test_nucleotides_are_judged_in_the_same_table_and_a_wrong_register_is_not_trusted():
    helix = duplex("GGACUCAGUUACGAUUCCGACGGA")
    generator = torch.Generator().manual_seed(3)
    grid = simulate_map(helix, 3.0, generator)
    found = judge(helix, Maps(grid), 3.0)
    assert found.trusted_percent > 85
    assert all(row.probability is not None and row.phi_deg is None for row in found.residues)
    letters = helix.base.clone()
    letters[5:18] = helix.base[7:20]
    wrong = of_other_bases(helix, letters)
    worse = judge(wrong, Maps(grid), 3.0)
    assert worse.trusted_percent < found.trusted_percent - 10
    region = max(worse.regions, key=lambda r: r.n_residues)
    assert region.chain == "A"
    assert 3 <= int(region.first) <= 10
    assert "the sequence shifted by one to three residues fits better" in region.reasons
    outside = [row.probability for row in worse.residues[28:]]
    assert sorted(outside)[len(outside) // 2] > 0.8
