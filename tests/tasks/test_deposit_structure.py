"""The deposition bundle: filled from the session, checked against dictionary, schema and maps, whole or not there."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import gemmi
import mrcfile
import numpy as np
import pytest
import torch
from PIL import Image

from kernels.maps.alignment import inverted
from kernels.maps.fsc import corrected_fsc
from tasks.choose_model import ChooseModelParams
from tasks.deposit_structure import DepositionError, deposit_structure, verify_bundle
from tasks.deposition.bundle import BundleError
from tasks.deposition.empiar import MissingMoviesError
from tasks.deposition.fsc_check import check_half_maps, check_particles, map_of_half_set
from tasks.deposition.information import MissingInformationError
from tasks.deposition.lineage import is_of_this_map, model_lineage
from tasks.deposition.params import DepositStructureParams
from tasks.flip_map import FlipMapParams, flip_map
from tasks.formats.empiar import empiar_complaints
from tasks.formats.fsc_xml import read_fsc_xml
from tasks.formats.map_file import read_map
from tasks.formats.star import read_particles
from tasks.formats.structure import parse_assembly, read_structure
from tasks.join_maps import JoinMapsParams, join_maps
from tasks.model_refinement.params import RefineModelParams
from tasks.records.density_map import DensityMap
from tasks.records.session import StageParams
from tasks.stores.products.map_store import density_map, describe
from tasks.stores.products.map_store import read_map as stored_map
from tasks.stores.products.model_store import write_model
from tasks.stores.session_store import SessionStore
from tests.truth import deposited_session as truth
from tests.truth.model_maps import simulated_maps
from tests.truth.modelled_session import two_helices

PARAMS = DepositStructureParams()


@pytest.fixture(scope="module")
def session(tmp_path_factory, workers):
    folder = tmp_path_factory.mktemp("deposited")
    store = SessionStore.create(str(folder / "session.zarr"), "two-helices")
    truth.fill_for_deposition(store, folder / "movies")
    told = folder / "deposition.yaml"
    told.write_text(truth.TOLD)
    return store, told, folder


@pytest.fixture(scope="module")
def bundle(session):
    store, told, folder = session
    deposit_structure.fn(store.url, str(folder / "bundle"), str(told), PARAMS)
    return folder / "bundle"


@pytest.fixture
def version(session):
    """A version of the session: what a test writes into it leaves the others alone."""
    store, told, folder = session
    made = store.branch(f"v{len(store.versions())}")
    return made, told, folder / "bundles" / made.session.name


def table(bundle: Path, category: str, file: str = "pdb/model.cif") -> list[dict[str, str | None]]:
    """Rows of a category, as an independent reader has them."""
    columns = gemmi.cif.read(str(bundle / file)).sole_block().get_mmcif_category(f"_{category}.")
    return [dict(zip(columns, row)) for row in zip(*columns.values())]


def test_every_file_has_its_check_sum_and_links_lead_to_the_movies(bundle, session):
    sums = dict(line.split("  ")[::-1] for line in (bundle / "SHA256SUMS").read_text().splitlines())
    manifest = json.loads((bundle / "manifest.json").read_text())
    found = {p.relative_to(bundle).as_posix() for p in bundle.rglob("*") if p.is_file()}
    assert {row["name"] for row in manifest["files"]} == found - {"manifest.json", "SHA256SUMS"}
    links = {row["name"]: row for row in manifest["files"] if "link_to" in row}
    assert set(sums) == found - {"SHA256SUMS", *links}
    for name, digest in sums.items():
        assert hashlib.sha256((bundle / name).read_bytes()).hexdigest() == digest
    assert {Path(row["link_to"]).name for row in links.values()} == {"exposure_00.mrc", "exposure_01.mrc"}
    assert links["empiar/data/movies/exposure_00.mrc"]["blake2b_256"] == "exposure_00-hash"
    record = session[0].product("session/deposition").record()
    assert record.details["deposition"]["sha256"] == sums["manifest.json"]
    assert set(record.inputs) == {"maps/sharpened", "maps/refined", "models/chosen", "validations/chosen"}


def test_maps_and_curves_are_those_of_the_store(bundle, session):
    refined, sharpened = stored_map(session[0], "refined"), stored_map(session[0], "sharpened")
    for name, expected in {
        "map": sharpened["map"], "half_1": refined["half_1"], "half_2": refined["half_2"], "mask": refined["mask"],
    }.items():  # fmt: skip
        grid = read_map(bundle / "emdb" / f"{name}.mrc")
        np.testing.assert_array_equal(grid.voxels.numpy(), expected)
        assert grid.voxel_size_angstrom == pytest.approx(truth.PIXEL)
    curve = read_fsc_xml(bundle / "emdb" / "fsc.xml")
    np.testing.assert_allclose(curve.frequency_per_angstrom, refined["fsc_curves"][0], rtol=1e-6)
    np.testing.assert_allclose(curve.correlation, refined["fsc_curves"][4].clip(-1, 1), atol=1e-6)
    image = Image.open(bundle / "emdb" / "image.png")
    assert image.size == (500, 500)
    assert np.ptp(np.asarray(image.convert("L"))) > 100


def test_mmcif_says_what_the_session_knows(bundle, session):
    store = session[0]
    (imaging,) = table(bundle, "em_imaging")
    expected = {
        "microscope_model": "FEI TITAN KRIOS", "accelerating_voltage": "300", "nominal_cs": "2.7",
        "nominal_defocus_min": "1500", "calibrated_defocus_min": "1480", "calibrated_defocus_max": "1520",
        "date": "2026-05-08", "nominal_magnification": "96000",
    }  # fmt: skip
    assert {name: imaging[name] for name in expected} == expected
    (recording,) = table(bundle, "em_image_recording")
    assert recording["film_or_detector_model"] == "FEI FALCON IV (4k x 4k)"
    assert float(recording["avg_electron_dose_per_image"]) == truth.DOSE * truth.N_FRAMES
    assert recording["num_real_images"] == "2"
    (selection,) = table(bundle, "em_particle_selection")
    assert selection["num_particles_selected"] == str(2 * truth.N_PICKS)
    (reconstruction,) = table(bundle, "em_3d_reconstruction")
    resolution = store.product("maps/refined").record().figures["fsc_0143_angstrom"]
    assert float(reconstruction["resolution"]) == pytest.approx(resolution, abs=0.006)
    assert reconstruction["num_particles"] == str(truth.N_PARTICLES)
    assert f"{density_map(store, 'sharpened').b_factor_angstrom2:g}" in reconstruction["details"]
    assert table(bundle, "em_single_particle_entity")[0]["point_symmetry"] == truth.SYMMETRY
    software = {row["category"]: (row["name"], row["version"]) for row in table(bundle, "em_software")}
    assert software["MODEL REFINEMENT"] == ("servalcat", "0.4.142")
    assert software["RECONSTRUCTION"][0] == "vitriflow"
    assert software["RECONSTRUCTION"][1] in store.product("maps/refined").record().software
    assert [row["type"] for row in table(bundle, "em_map")] == ["primary map", "half map", "half map", "mask"]
    assert {row["entry_id"] for row in table(bundle, "em_map")} == {"TWO_HELICES"}
    assert table(bundle, "entry")[0]["id"] == "TWO_HELICES"


def test_the_model_has_its_atoms_copies_and_whole_sequences(bundle):
    found = read_structure(bundle / "pdb" / "model.cif")
    assert found.residues == two_helices().residues
    np.testing.assert_allclose(found.coordinates_angstrom, two_helices().coordinates_angstrom, atol=6e-4)
    copies = parse_assembly((bundle / "pdb" / "model.cif").read_bytes(), "bundle")
    assert copies.n_residues == 24 * found.n_residues
    sequences = {row["entity_id"]: row["pdbx_seq_one_letter_code"] for row in table(bundle, "entity_poly")}
    assert tuple(sequences.values()) == truth.WHOLE
    atoms = table(bundle, "atom_site")
    assert atoms[0]["label_seq_id"] == "4"  # three residues of the first sequence are not in the model
    assert [row["pdbx_description"] for row in table(bundle, "entity")] == ["first helix", "second helix"]
    assert [(row["entity_id"], row["db_code"]) for row in table(bundle, "struct_ref")] == [("1", "P02794")]
    weight = gemmi.calculate_sequence_weight(gemmi.expand_one_letter_sequence(truth.WHOLE[0], gemmi.ResidueKind.AA))
    assert float(table(bundle, "entity")[0]["formula_weight"]) == pytest.approx(weight, abs=0.01)


def test_people_and_sample_come_from_the_depositor(bundle):
    assert [row["name"] for row in table(bundle, "audit_author")] == ["Curie, M.", "van der Waals, J.D."]
    (contact,) = table(bundle, "pdbx_contact_author")
    assert (contact["country"], contact["role"]) == ("France", "principal investigator/group leader")
    assert table(bundle, "pdbx_audit_support")[0]["country"] == "United Kingdom"
    assert table(bundle, "em_entity_assembly")[0]["source"] == "RECOMBINANT"
    header = {name: table(bundle, name, "emdb/header.cif") for name in ("em_imaging", "em_map", "audit_author")}
    assert header == {name: table(bundle, name) for name in header}


def test_image_sets_are_described_as_they_lie_there(bundle, session):
    description = json.loads((bundle / "empiar" / "deposition.json").read_text())
    assert empiar_complaints(description) == []
    movies, particles = description["imagesets"]
    lying = list((bundle / "empiar" / movies["directory"]).iterdir())
    assert movies["num_images_or_tilt_series"] == len(lying) == 2
    with mrcfile.open(lying[0]) as file:
        assert file.data.shape == (movies["frames_per_image"], movies["image_height"], movies["image_width"])
        assert (str(file.data.dtype), movies["voxel_type"]) == ("int16", "('T4', '')")
    content = read_particles(bundle / "empiar" / particles["picked_particles_file_pattern"])
    assert len(content.particles) == truth.N_PARTICLES == particles["num_images_or_tilt_series"]
    assert all((bundle / "empiar" / "data" / name).is_file() for name in content.stacks)


def test_maps_and_particles_of_the_bundle_give_its_fsc(bundle):
    halves = check_half_maps(bundle / "emdb", seed=1)  # of the refinement
    assert halves.is_same
    assert halves.found_angstrom == pytest.approx(halves.stated_angstrom, rel=1e-4)
    assert halves.largest_difference < 3e-5
    made = check_particles(bundle / "emdb", bundle / "empiar" / "data" / "particles.star", truth.SYMMETRY)
    assert made.is_same
    assert made.largest_difference < 0.01
    assert len(verify_bundle(bundle)) == 3


def swapped_images(bundle: Path) -> Path:
    """The table of particles of a bundle, from now on with the pose of another one at each image."""
    star = bundle / "empiar" / "data" / "particles.star"
    content = star.read_text().splitlines(keepends=True)
    images = {i: found[0] for i, line in enumerate(content) if (found := re.search(r"\d+@\S+", line))}
    for (i, own), image in zip(images.items(), [*list(images.values())[7:], *list(images.values())[:7]]):
        content[i] = content[i].replace(own, image)
    star.write_text("".join(content))
    return star


def test_other_half_maps_or_poses_do_not_pass_for_the_same(bundle, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy, symlinks=True)
    assert not check_particles(copy / "emdb", swapped_images(copy), truth.SYMMETRY).is_same
    with mrcfile.open(copy / "emdb" / "half_2.mrc", "r+") as file:
        noise = np.random.default_rng(1).normal(0, file.data.std(), file.data.shape)
        file.set_data((file.data + noise).astype(np.float32))
    assert not check_half_maps(copy / "emdb").is_same
    with pytest.raises(BundleError, match=r"2 of \d+ files are not as they were deposited.*half_2.mrc"):
        verify_bundle(copy)


def test_all_that_lacks_is_told_at_once_and_nothing_is_written(version, tmp_path):
    store, _, target = version
    told = tmp_path / "told.yaml"
    told.write_text(
        truth.TOLD.replace("  email: marie@example.org\n", "")
        .replace("taxonomy_id: 562\n  expression", "taxonomy_id: many\n  expression")
        .replace("    - {name: second helix}\n", "")
        .replace("0000-0002-1825-0097}", "0000-0002-1825-0098}")
        .replace("grants:", "prizes:")
        .replace("FEI VITROBOT MARK IV}", "FEI VITROBOT MARK IV}\ninstrument: {microscope: JEOL CRYO ARM 300}")
    )
    with pytest.raises(MissingInformationError) as error:
        deposit_structure.fn(store.url, str(target), str(told), PARAMS)
    said = "\n".join(error.value.problems)
    for words in (
        "contact.email: is missing; write `email: …` below `contact:`",
        "grants: is missing; write `grants: …`",
        "prizes: is no field of a deposition",
        "sample.taxonomy_id: input should be a valid integer",
        "authors[1].orcid: 0000-0002-1825-0098 is no ORCID: its last character should be 7",
        "sample.molecules: found 1 entries, expected one for each of 1: MGSAEKLFSWTR… (35 residues, chain A); 2:",
        "instrument.microscope: found 'JEOL CRYO ARM 300', but the session's files say 'FEI TITAN KRIOS'; remove",
    ):
        assert words in said
    assert not target.exists()
    assert not target.parent.exists() or not list(target.parent.iterdir())


def test_a_model_of_another_map_or_without_judgement_is_refused(version):
    store, told, target = version
    density = stored_map(store, "sharpened")["map"]
    with store.product("maps/sharpened").write("sharpen_map", 9, StageParams(), {}) as attempt:
        attempt.write("map", density)
        describe(attempt, density_map(store, "refined").model_copy(update={"name": "sharpened", "kind": "sharpened"}))
    with store.product("models/chosen").write(
        "choose_model", 9, StageParams(), {"maps/sharpened": "before"}
    ) as attempt:
        write_model(attempt, two_helices(), "chosen")
    with pytest.raises(MissingInformationError) as error:
        deposit_structure.fn(store.url, str(target), str(told), PARAMS)
    model, validation = error.value.problems
    assert model.startswith("model: models/chosen was built in another maps/sharpened than the one that is there now")
    assert validation.startswith("validation: models/chosen was not judged as it is now")
    assert not target.exists()


def test_no_model_is_told_and_may_be_left_out(version):
    store, told, target = version
    with pytest.raises(MissingInformationError, match=r"no models/placed; .* leave the PDB out with `--no-pdb`"):
        deposit_structure.fn(store.url, str(target), str(told), PARAMS.model_copy(update={"model": "placed"}))
    assert not target.exists()
    only = DepositStructureParams(has_pdb=False, has_empiar=False)
    files = deposit_structure.fn(store.url, str(target), str(told), only)
    assert {Path(f).relative_to(target).parts[0] for f in files} == {"emdb"}
    assert len(verify_bundle(target)) == 2


def test_a_folder_that_is_there_or_cannot_be_made_is_refused(session, bundle, tmp_path):
    store, told, _ = session
    before = sorted((p, p.stat().st_mtime_ns) for p in bundle.rglob("*"))
    with pytest.raises(BundleError, match="is there already"):
        deposit_structure.fn(store.url, str(bundle), str(told), PARAMS)
    assert sorted((p, p.stat().st_mtime_ns) for p in bundle.rglob("*")) == before
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(BundleError, match="cannot be written"):
        deposit_structure.fn(store.url, str(tmp_path / "file" / "bundle"), str(told), PARAMS)


def test_movies_that_are_gone_stop_it_and_are_copied_when_asked(version, session, tmp_path):
    store, told, target = version
    params = PARAMS.model_copy(update={"are_movies_linked": False, "image_sets": ("movies", "micrographs")})
    deposit_structure.fn(store.url, str(tmp_path / "copied"), str(told), params)
    copied = tmp_path / "copied" / "empiar" / "data" / "movies" / "exposure_00.mrc"
    assert not copied.is_symlink()
    assert copied.read_bytes() == (session[2] / "movies" / "exposure_00.mrc").read_bytes()
    away = session[2] / "away"
    (session[2] / "movies").rename(away)
    try:
        with pytest.raises(MissingMoviesError, match="2 of 2 movies are not where they were imported from"):
            deposit_structure.fn(store.url, str(target), str(told), PARAMS)
    finally:
        away.rename(session[2] / "movies")
    assert not target.exists()


def test_what_the_dictionary_does_not_allow_leaves_nothing_behind(version, tmp_path):
    store, _, target = version
    told = tmp_path / "told.yaml"
    wrong = truth.TOLD.replace("FEI VITROBOT MARK IV", "FEI VITROBOT MARK V")
    told.write_text(wrong)
    with pytest.raises(
        DepositionError, match=r"dictionary 5\.288 .*_em_vitrification\.instrument: 'FEI VITROBOT MARK V' is"
    ):
        deposit_structure.fn(store.url, str(target), str(told), PARAMS)
    assert not target.exists()
    assert not list(target.parent.glob(".*"))


INSTRUMENT = (
    "\ninstrument: {microscope: TFS KRIOS, detector: GATAN K3 (6k x 4k), dose_electrons_per_angstrom2: 50,"
    " voltage_kv: 300, spherical_aberration_mm: 2.7, n_particles: 1000}\n"
)


def test_a_map_of_another_program_is_deposited_with_what_the_depositor_tells(store, tmp_path):
    maps, model = simulated_maps(two_helices(), 3.0, padding_angstrom=12.0), two_helices()
    about = DensityMap(
        name="imported", kind="imported", pixel_size_angstrom=maps.sharpened.voxel_size_angstrom, symmetry="C1",
        resolution_angstrom=3.0, origin_angstrom=tuple(maps.sharpened.origin_angstrom.tolist()),
    )  # fmt: skip
    told = tmp_path / "told.yaml"
    told.write_text(truth.TOLD)

    def write(arrays) -> None:
        with store.product("maps/imported").write("import_map", len(arrays), StageParams(), {}) as attempt:
            for name, grid in arrays.items():
                attempt.write(name, grid.voxels.numpy().astype(np.float32))
            describe(attempt, about)
        inputs = store.fingerprints(["maps/imported"])
        with store.product("models/chosen").write("choose_model", 1, StageParams(), inputs) as attempt:
            write_model(attempt, model, "chosen")
        truth.judge(store, "chosen")

    write({"map": maps.sharpened})
    params = DepositStructureParams(has_empiar=False)
    with pytest.raises(MissingInformationError) as error:
        deposit_structure.fn(store.url, str(tmp_path / "bundle"), str(told), PARAMS)
    said = "\n".join(error.value.problems)
    for words in ("half maps: maps/imported has none", "EMPIAR: the session has no exposures", "instrument.voltage_kv"):
        assert words in said
    write({"map": maps.sharpened, "half_1": maps.half_1, "half_2": maps.half_2})
    told.write_text(truth.TOLD + INSTRUMENT)
    deposit_structure.fn(store.url, str(tmp_path / "bundle"), str(told), params)
    assert table(tmp_path / "bundle", "em_imaging")[0]["microscope_model"] == "TFS KRIOS"
    assert table(tmp_path / "bundle", "em_3d_reconstruction")[0]["num_particles"] == "1000"
    place = read_map(tmp_path / "bundle" / "emdb" / "map.mrc").origin_angstrom
    np.testing.assert_allclose(place, maps.sharpened.origin_angstrom, atol=1e-3)
    assert len(verify_bundle(tmp_path / "bundle")) == 2


def test_a_prediction_in_the_lineage_is_named(version):
    store, told, target = version
    source = {"source": {"engine": "Boltz", "version": "2.2"}}
    with store.product("predictions/predicted").write("predict_structure", 1, StageParams(), {}) as attempt:
        attempt.details["predictions"] = [source]
    inputs = store.fingerprints(["predictions/predicted", "models/refined", "maps/sharpened"])
    with store.product("models/chosen").write("choose_model", 2, StageParams(), inputs) as attempt:
        write_model(attempt, two_helices(), "chosen")
    truth.judge(store, "chosen")
    deposit_structure.fn(store.url, str(target), str(told), PARAMS.model_copy(update={"has_empiar": False}))
    (listed,) = table(target, "em_3d_fitting_list")
    assert listed["details"] == "predicted with Boltz 2.2"
    assert table(target, "em_3d_fitting")[0]["ref_protocol"] == "FLEXIBLE FIT"


def test_predictions_of_rounds_that_were_not_taken_are_not_named(version):
    store, _, _ = version
    for name, template in {"predicted": None, "predicted-2": "refined"}.items():
        inputs = {} if template is None else store.fingerprints([f"models/{template}"])
        with store.product(f"predictions/{name}").write("predict_structure", 1, StageParams(), inputs) as attempt:
            attempt.details["predictions"] = [{"source": {"engine": "Boltz", "template": template}}]
    for number, name in enumerate(("predicted", "predicted-2"), start=1):
        inputs = store.fingerprints([f"predictions/{name}"])
        with store.product(f"models/refined-{number}").write("refine_model", 1, StageParams(), inputs) as attempt:
            write_model(attempt, two_helices(), f"refined-{number}")
    rounds = [f"models/refined{after}" for after in ("", "-1", "-2")]

    def sources(best: str) -> list[str | None]:
        with store.product("models/chosen").write("choose_model", 2, StageParams(), store.fingerprints(rounds)) as made:
            write_model(made, two_helices(), "chosen")
            made.figures["best_round"] = best
        return [source.template for source in model_lineage(store, "chosen").predictions]

    assert sources("refined") == []
    assert sources("refined-1") == [None]
    assert sources("refined-2") == ["refined"]


def test_poses_are_those_of_a_map_that_was_flipped(version, workers):
    store, told, target = version
    flip_map.fn(store.url, FlipMapParams())
    only = PARAMS.model_copy(update={"has_pdb": False, "map": "flipped", "image_sets": ("particles",)})
    deposit_structure.fn(store.url, str(target), str(told), only)
    star = target / "empiar" / "data" / "particles.star"
    made = map_of_half_set(read_particles(star), star.parent, 1, truth.SYMMETRY, truth.BOX).numpy()
    mask = stored_map(store, "flipped")["mask"] > 0.5

    def agreement(name: str) -> float:
        return float(np.corrcoef(made[mask], stored_map(store, name)["half_1"][mask])[0, 1])

    assert agreement("flipped") > 0.98
    assert agreement("refined") < 0.9


def put_part(store: SessionStore) -> np.ndarray:
    """``maps/part`` as a local refinement leaves it: each half of the whole with a blob in a soft sphere; the mask."""
    refined = stored_map(store, "refined")
    z, y, x = np.indices((truth.BOX,) * 3) - truth.BOX // 2
    distance = np.sqrt((z - 9) ** 2 + (y - 5) ** 2 + (x - 2) ** 2)
    mask = np.clip(3 - distance, 0, 1).astype(np.float32)
    blob = np.exp(-0.5 * distance**2) * 3 * refined["half_1"].max()
    inputs = store.fingerprints(["particles/refined", "maps/refined"])
    with store.product("particles/part").write("refine_part", 1, StageParams(), inputs):
        pass
    with store.product("maps/part").write("refine_part", 1, StageParams(), inputs) as attempt:
        for name in ("map", "half_1", "half_2"):
            attempt.write(name, (refined[name] + blob).astype(np.float32))
        attempt.write("mask", mask)
        describe(attempt, density_map(store, "refined").model_copy(update={"name": "part", "symmetry": "C1"}))
        attempt.figures.update(resolution_angstrom=7.25, whole_resolution_angstrom=8.5, fsc_gain=0.1)
    return mask


def put_rounds(store: SessionStore, best: str) -> None:
    """``models/refined-1`` in the joined map, and ``models/chosen`` from both rounds."""
    fitted = RefineModelParams(map="joined", round=1)
    inputs = store.fingerprints(["models/refined", "maps/joined"])
    with store.product("models/refined-1").write("refine_model", 1, fitted, inputs) as attempt:
        write_model(attempt, two_helices(), "refined-1")
    params = ChooseModelParams(models=("refined", "refined-1"), map="joined")
    inputs = store.fingerprints(["models/refined", "models/refined-1", "maps/joined"])
    with store.product("models/chosen").write("choose_model", 1, params, inputs) as attempt:
        write_model(attempt, two_helices(), "chosen")
        attempt.figures["best_round"] = best
    truth.judge(store, "chosen")


@pytest.mark.parametrize("is_mirrored", [False, True])
def test_a_model_of_a_joined_map_is_deposited_with_that_map_and_its_local_refinement(version, workers, is_mirrored):
    store, told, target = version
    mask = put_part(store)
    join_maps.fn(store.url, JoinMapsParams(is_mirrored=is_mirrored))
    put_rounds(store, "refined-1")
    params = PARAMS.model_copy(update={"image_sets": ("particles",)})
    deposit_structure.fn(store.url, str(target), str(told), params)
    joined_map = stored_map(store, "joined")
    for name in ("map", "half_1", "half_2", "mask"):
        np.testing.assert_array_equal(read_map(target / "emdb" / f"{name}.mrc").voxels.numpy(), joined_map[name])
    voxels = [torch.from_numpy(joined_map[name]) for name in ("half_1", "half_2", "mask")]
    expected = corrected_fsc(*voxels, torch.Generator().manual_seed(0))
    curve = read_fsc_xml(target / "emdb" / "fsc.xml").correlation
    np.testing.assert_allclose(curve, expected.corrected.numpy().clip(-1, 1), atol=1e-5)
    share = read_map(target / "emdb" / "part_mask.mrc").voxels
    own = inverted(torch.from_numpy(mask)) if is_mirrored else torch.from_numpy(mask)
    assert torch.equal(share[own == 1], torch.ones(int((own == 1).sum())))
    whole, own_half = (
        inverted(torch.from_numpy(stored_map(store, name)["half_1"])) if is_mirrored
        else torch.from_numpy(stored_map(store, name)["half_1"]) for name in ("refined", "part")
    )  # fmt: skip
    half = read_map(target / "emdb" / "half_1.mrc").voxels
    little = 0.01 * float(own_half.max())  # masks of copies ring
    assert float((half - own_half)[own == 1].abs().max()) < little
    assert float((half - whole)[share < 0.01].abs().max()) < little < float((half - whole)[own == 1].max())
    manifest = json.loads((target / "manifest.json").read_text())
    assert manifest["map"]["name"] == "joined"
    expected_lineage = {"joined", "part", "refined", "sharpened"}
    assert {a.removeprefix("maps/") for a in manifest["lineage"] if a.startswith("maps/")} == expected_lineage
    assert "particles/part" in manifest["lineage"]
    (reconstruction,) = table(target, "em_3d_reconstruction", "emdb/header.cif")
    assert "a part (map 'part') was refined by itself" in reconstruction["details"]
    assert "7.25 A in its mask, 8.50 A in the map of the whole" in reconstruction["details"]
    assert [row["file"] for row in table(target, "em_map") if row["type"] == "mask"] == ["mask.mrc", "part_mask.mrc"]
    _, halves, particles = verify_bundle(target)
    assert halves.startswith("FSC from half maps: the same")
    assert particles.startswith("FSC from particles outside of the part that was refined by itself: the same")
    assert "the part is not made anew from particles" in particles
    assert [words for words in manifest["checks"] if words.startswith("FSC")] == [halves, particles]
    assert not check_particles(target / "emdb", swapped_images(target), truth.SYMMETRY).is_same


def test_a_round_in_the_joined_map_that_was_not_taken_leaves_the_map_of_the_whole(version, workers):
    store, told, target = version
    put_part(store)
    join_maps.fn(store.url, JoinMapsParams())
    put_rounds(store, "refined")
    deposit_structure.fn(store.url, str(target), str(told), PARAMS.model_copy(update={"has_empiar": False}))
    manifest = json.loads((target / "manifest.json").read_text())
    assert (manifest["map"]["name"], manifest["map"]["part"]) == ("sharpened", None)
    assert not (target / "emdb" / "part_mask.mrc").exists()
    with store.product("maps/joined").write("join_maps", 2, JoinMapsParams(), {}) as attempt:
        attempt.write("map", stored_map(store, "refined")["map"])
        describe(attempt, density_map(store, "refined"))
    put = store.product("models/chosen").record()
    assert put.inputs["maps/joined"] != store.fingerprints(["maps/joined"])["maps/joined"]
    find = model_lineage(store, "chosen")
    assert is_of_this_map(store, find, "sharpened") and not is_of_this_map(store, find, "joined")


def test_a_part_alone_is_deposited_without_the_particles_of_the_whole(version, workers):
    store, told, target = version
    put_part(store)
    alone = PARAMS.model_copy(update={"map": "part", "has_pdb": False, "image_sets": ("movies", "particles")})
    with pytest.raises(MissingInformationError, match=r"maps/part is that of a part alone.*`--map joined`"):
        deposit_structure.fn(store.url, str(target), str(told), alone)
    assert not target.exists()
    deposit_structure.fn(store.url, str(target), str(told), alone.model_copy(update={"has_empiar": False}))
    half = read_map(target / "emdb" / "half_1.mrc").voxels.numpy()
    np.testing.assert_array_equal(half, stored_map(store, "part")["half_1"])
