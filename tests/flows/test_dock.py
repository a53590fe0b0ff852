"""Structures are docked at the command line, into a map from a file."""

from typer.testing import CliRunner

from flows.cli import app
from tasks.formats.map_file import write_map
from tasks.formats.structure import read_structure, write_structure
from tasks.stores.products.docking_store import read_docking
from tasks.stores.session_store import SessionStore
from tests.tasks.test_dock_model import turned
from tests.truth.cage_model import cage_subunit
from tests.truth.model_maps import simulated_maps


def run(*arguments):
    return CliRunner().invoke(app, ["dock", *map(str, arguments)], env={"COLUMNS": "200"})


def test_a_structure_is_docked_and_written(connected, tmp_path):
    truth = cage_subunit(40)
    write_map(tmp_path / "map.mrc", simulated_maps(truth, 6.0, 2.0, 8.0).sharpened)
    write_structure(tmp_path / "own.pdb", turned(truth, 2))
    asked = ["--session", tmp_path / "s.zarr", "--map", tmp_path / "map.mrc", "--resolution", 6]
    done = run(*asked, "--model", tmp_path / "own.pdb", "--copies", "1", "--output", tmp_path / "docked.cif")
    assert done.exit_code == 0, done.output
    assert "own.pdb, copy 1" in done.output and "whole" in done.output
    moved = read_structure(tmp_path / "docked.cif").coordinates_angstrom
    assert float((moved - truth.coordinates_angstrom).square().sum(-1).mean().sqrt()) < 1.5
    assert len(read_docking(SessionStore.open(str(tmp_path / "s.zarr"))).placed) == 1
    assert "own.pdb, copy 1" in (tmp_path / "s.zarr" / "report.html").read_text()


def test_what_is_lacking_is_said_at_the_command_line(connected, tmp_path):
    nowhere = run("--session", tmp_path / "s.zarr", "--model", tmp_path / "none.pdb")
    assert nowhere.exit_code == 2
    write_structure(tmp_path / "own.pdb", cage_subunit(20))
    no_map = run("--session", tmp_path / "s.zarr", "--model", tmp_path / "own.pdb")
    assert no_map.exit_code == 2 and "give --map" in " ".join(no_map.output.split())
    write_map(tmp_path / "map.mrc", simulated_maps(cage_subunit(20), 6.0, 2.0, 8.0).sharpened)
    asked = ["--session", tmp_path / "s.zarr", "--map", tmp_path / "map.mrc", "--resolution", 6]
    odd = run(*asked, "--model", tmp_path / "own.pdb", "--copies", "two")
    assert odd.exit_code == 1 and "copies 'two': expected a number" in " ".join(odd.output.split())
    absent = run(*asked, "--prediction", "none")
    assert absent.exit_code == 1 and "dock_model: " in absent.output
