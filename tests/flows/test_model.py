"""The flow from a map to a model: what it refuses."""

import shutil
from dataclasses import replace

import mrcfile
import pytest

from flows.model import model
from flows.model_recipe import ModelRecipe
from flows.model_rounds import StageFailedError
from kernels.maps.alignment import inverted
from tasks.build_model import BuildModelParams
from tasks.formats import FormatError
from tasks.formats.map_file import write_map
from tasks.import_map import ImportMapParams
from tasks.ligands.params import PlaceLigandsParams
from tasks.model_refinement.params import RefineModelParams
from tasks.stores.session_store import SessionStore
from tests.truth.cage_model import cage_subunit
from tests.truth.model_maps import simulated_maps


def edited(path, out, **fields):
    """A copy of a map with other words in its header."""
    shutil.copy(path, out)
    with mrcfile.open(out, "r+", permissive=True) as file:
        for name, value in fields.items():
            file.header[name] = value
    return str(out)


@pytest.mark.server
def test_what_cannot_become_a_model_is_said_before_anything_is_built(connected, tmp_path, monkeypatch):
    for name in ("CLIBD_MON", "CCP4"):
        monkeypatch.delenv(name, raising=False)
    maps = simulated_maps(cage_subunit(30), 3.0, padding_angstrom=8)
    for name, grid in {"map": maps.sharpened, "half_1": maps.half_1, "half_2": maps.half_2}.items():
        write_map(tmp_path / f"{name}.mrc", grid)
    write_map(tmp_path / "empty.mrc", maps.sharpened.with_voxels(0 * maps.sharpened.voxels))
    shifted = replace(maps.half_2, origin_angstrom=maps.half_2.origin_angstrom + 5.0)
    write_map(tmp_path / "shifted.mrc", shifted)
    path = {name: str(tmp_path / f"{name}.mrc") for name in ("map", "half_1", "half_2", "empty", "shifted")}
    no_size = edited(path["map"], tmp_path / "no_size.mrc", cella=(0, 0, 0))
    plain = {"map": path["map"], "resolution_angstrom": 3.0}
    nowhere = RefineModelParams(monomer_library=str(tmp_path / "nowhere"))
    in_real_space = RefineModelParams(monomer_library=str(tmp_path / "nowhere"), without_library="real space")
    letters = "SAFSLKWTEYAVMRDG"

    def recipe(files, refining=in_real_space, *sequences):
        building = BuildModelParams(sequences=sequences, n_turns=1)
        return ModelRecipe(import_map=ImportMapParams(**files), build_model=building, refine_model=refining)

    cases = [
        (recipe({"map": path["empty"]}), r"empty\.mrc: is empty: every voxel is 0; take the map"),
        (recipe({"map": no_size}), r"no_size\.mrc: tells no voxel size.*`--voxel-size`"),
        (
            recipe({"map": path["map"], "half_1": path["half_1"], "half_2": path["shifted"]}),
            r"shifted\.mrc: has .* from .* but the map .*give halves in the frame of the map",
        ),
        (recipe({"map": path["map"]}), r"resolution of maps/imported is not known; give it in Å \(`--resolution`"),
        (recipe(plain, nowhere), r"nowhere: is no monomer library: there is no such folder; install CCP4"),
        (recipe(plain | {"symmetry": "C3"}), r"is said to have symmetry C3.*give the symmetry that it has"),
        (
            recipe(plain, in_real_space, letters + "1O!"),
            r"sequence 1 has letters .*'1' at position 17.*expected the one-",
        ),
        (
            recipe(plain, in_real_space, 300 * letters),
            r"sequence 1 has 4800 residues, but the map shows \d+, fewer than",
        ),
    ]
    url = str(tmp_path / "session.zarr")
    for given, words in cases:
        with pytest.raises(StageFailedError, match=words):
            model(url, given)
        store = SessionStore.open(url)
        built = store.product("models/built").record()
        assert built is None or built.attempt is None
        assert not any((tmp_path / "session.zarr").glob("models/**/mmcif"))
        assert store.product("models/refined").record() is None


@pytest.mark.server
def test_a_model_is_not_built_into_a_mirror_image_that_another_program_made(connected, tmp_path):
    grid = simulated_maps(cage_subunit(80), 3.0).sharpened
    write_map(tmp_path / "map.mrc", grid.with_voxels(inverted(grid.voxels)))
    files = ImportMapParams(map=str(tmp_path / "map.mrc"), resolution_angstrom=3.0)
    recipe = ModelRecipe(import_map=files, refine_model=RefineModelParams(without_library="real space"))
    with pytest.raises(StageFailedError, match=r"map.mrc: the map is of the wrong hand .* `--flip`"):
        model(str(tmp_path / "session.zarr"), recipe)


def test_a_ligand_that_cannot_be_read_stops_before_anything_is_made(tmp_path):
    recipe = ModelRecipe(place_ligands=PlaceLigandsParams(ligands=("c1ccccc",)))
    with pytest.raises(FormatError, match=r"'c1ccccc': is no SMILES .* give a restraint CIF, SDF or MOL file"):
        model.fn(str(tmp_path / "session.zarr"), recipe)
    assert not (tmp_path / "session.zarr").exists()
