"""Optics groups of a session: by names, by shifts, stable as it grows, and in its particles and STAR files."""

import numpy as np
import pytest

from kernels.optics import Optics
from tasks.export_session import ExportSessionParams, export_session
from tasks.extract_particles import ExtractParticlesParams, extract_particles
from tasks.formats.star import read_micrographs, read_particles
from tasks.group_optics import GroupOpticsParams, group_optics
from tasks.records.exposure import Exposure
from tasks.records.microscope_metadata import MicroscopeMetadata
from tasks.records.session import StageParams
from tasks.stores.products.optics_groups import ADDRESS, optics_groups
from tasks.stores.products.particle_store import read_particles as read_set
from tests.tasks.test_extract_particles import put_picked
from tests.truth import multi_shot
from tests.truth.crowded_micrograph import OPTICS
from tests.truth.filled_session import fill_session

PARAMS = GroupOpticsParams()


def put_import(store, name, metadata=None, optics=OPTICS, content="c", state="done"):
    """The record of an import as far as grouping reads it; the id is the name."""
    exposure_id = name.rsplit(".", 1)[0]
    exposure = Exposure(
        id=exposure_id, name=name, source=name, content_hash=content, kind="movie", n_frames=2, shape=(8, 8),
        optics=optics,
    )  # fmt: skip
    product = store.exposure_product(exposure_id, "import_session")
    if state != "done":
        product.put_outcome(state, "cut off", "import_session", 1, StageParams(), {})
        return exposure_id
    with product.write("import_session", 1, StageParams(), {"file": content}) as attempt:
        attempt.details["exposure"] = exposure.model_dump(mode="json")
        if metadata is not None:
            attempt.details["metadata"] = metadata.model_dump(mode="json")
    return exposure_id


def epu_name(i, area="100_102"):
    return f"FoilHole_{5000 + i}_Data_{area}_20221104_{10000 + i:06d}_Fractions.tiff"


def put_shots(store, shift, name=epu_name):
    return [
        put_import(store, name(i), MicroscopeMetadata(beam_shift=(float(y), float(x)), image_shift=(0.0, 0.0)))
        for i, (y, x) in enumerate(shift)
    ]


def test_areas_in_epu_s_names_are_groups(store):
    areas = ["100_102", "103_105", "100_102", "106_108"]
    ids = [put_import(store, epu_name(i, area)) for i, area in enumerate(areas)]
    report = group_optics.fn(store.url, ids, PARAMS)
    assert report.done == ids
    assert [optics_groups(store)[i] for i in ids] == [1, 2, 1, 3]


def test_exposures_without_name_and_shift_are_one_group(store):
    ids = [put_import(store, f"movie_{i}.tif", MicroscopeMetadata() if i % 2 else None) for i in range(4)]
    group_optics.fn(store.url, ids, PARAMS)
    assert optics_groups(store) == dict.fromkeys(ids, 1)


def test_shots_of_serialem_are_groups_at_once(store):
    """They are numbered within the whole template, so their shifts need not be looked at."""
    ids = [
        put_import(store, f"a_{i}.tif", MicroscopeMetadata(hole_position=f"{i % 3}_1", image_shift=(0.1 * i, 0.0)))
        for i in range(6)
    ]
    group_optics.fn(store.url, ids, PARAMS)
    assert [optics_groups(store)[i] for i in ids] == [1, 2, 3, 1, 2, 3]


def test_other_optics_are_other_groups(store):
    other = Optics(OPTICS.voltage_kv, OPTICS.spherical_aberration_mm, OPTICS.amplitude_contrast, 0.5)
    ids = [put_import(store, f"m{i}.tif", optics=OPTICS if i < 2 else other) for i in range(3)]
    group_optics.fn(store.url, ids, PARAMS)
    assert [optics_groups(store)[i] for i in ids] == [1, 1, 2]


def test_holes_of_aberration_free_image_shift_have_one_name_and_groups_of_their_own(store):
    shift, place = multi_shot.session(multi_shot.grid(3), 25, 0.05, drift=0.2)
    ids = put_shots(store, shift)
    group_optics.fn(store.url, ids, PARAMS)
    found = [optics_groups(store)[i] for i in ids]
    assert multi_shot.adjusted_rand_index(np.array(found), place) == 1
    assert set(found) == set(range(1, 10))
    group_optics.fn(store.url, ids, GroupOpticsParams(by="name"))
    assert set(optics_groups(store).values()) == {1}
    group_optics.fn(store.url, ids, GroupOpticsParams(by="nothing"))
    assert set(optics_groups(store).values()) == {1}


def test_shifts_alone_are_enough(store):
    """As SerialEM leaves them: image shifts, plain names, no numbers of shots."""
    shift, place = multi_shot.session(multi_shot.ring(5, 1.0), 25, 0.05)
    ids = [
        put_import(store, f"shot_{i:04d}.tif", MicroscopeMetadata(image_shift=(float(y), float(x))))
        for i, (y, x) in enumerate(shift)
    ]
    group_optics.fn(store.url, ids, PARAMS)
    found = np.array([optics_groups(store)[i] for i in ids])
    assert multi_shot.adjusted_rand_index(found, place) == 1


def test_numbers_stay_while_a_session_grows(store):
    """The first exposures count as their area's first group until places show; what was told is never changed."""
    shift, place = multi_shot.session(multi_shot.grid(3), 25, 0.05, drift=0.3)
    ids = put_shots(store, shift)
    told = {}
    for start in range(0, len(ids), 30):
        report = group_optics.fn(store.url, ids[: start + 30], PARAMS)
        assert (report.kept, report.done) == (ids[:start], ids[start : start + 30])
        reader = store.product(ADDRESS).read()
        now = dict(zip(reader.attributes["exposure_ids"], reader["optics_group"].tolist()))
        assert {e: now[e] for e in told} == told
        told = {e: number for e, number in now.items() if number}
    found = np.array([optics_groups(store)[i] for i in ids])
    assert multi_shot.adjusted_rand_index(found, place) > 0.98
    assert len(told) > 0.98 * len(ids)
    assert store.product(ADDRESS).record().figures["n_groups"] == 9


def test_nothing_new_writes_nothing(store):
    ids = [put_import(store, epu_name(i)) for i in range(3)]
    group_optics.fn(store.url, ids, PARAMS)
    before = store.product(ADDRESS).record()
    report = group_optics.fn(store.url, ids, PARAMS)
    assert (report.kept, report.done) == (ids, [])
    assert store.product(ADDRESS).record() == before


def test_an_exposure_that_is_imported_otherwise_is_looked_at_again(store):
    ids = [put_import(store, epu_name(i)) for i in range(3)]
    group_optics.fn(store.url, ids, PARAMS)
    other = Optics(200.0, OPTICS.spherical_aberration_mm, OPTICS.amplitude_contrast, OPTICS.pixel_size_angstrom)
    put_import(store, epu_name(1), optics=other, content="again")
    assert group_optics.fn(store.url, ids, PARAMS).done == [ids[1]]
    assert [optics_groups(store)[i] for i in ids] == [1, 2, 1]


def test_what_is_not_imported_is_skipped_with_the_reason(store):
    bad = put_import(store, "cut.tif", state="quarantined")
    good = put_import(store, "good.tif")
    report = group_optics.fn(store.url, [bad, good, "unknown"], PARAMS)
    assert (report.done, report.skipped) == ([good], {bad: "not imported: cut off", "unknown": "not imported"})
    assert optics_groups(store) == {good: 1}


def test_a_session_that_was_never_grouped_has_no_groups(store):
    assert optics_groups(store) == {}


EXTRACTION = ExtractParticlesParams(diameter_angstrom=60.0, box_size_px=32)


def table(store):
    return read_set(store.product("particles/extracted").read())


def records_of_stacks(store, names):
    return {name: store.exposure_product(name, "extract_particles").record() for name in names}


def test_particles_have_the_groups_and_no_stack_is_made_again_for_them(store, workers):
    names = [epu_name(i, f"{100 + i}_{102 + i}").rsplit(".", 1)[0] for i in range(3)]
    for name in names:
        put_picked(store, name, [[40, 60], [100, 120]])
    assert extract_particles.fn(store.url, names, EXTRACTION).done == names
    assert table(store)["optics_group"].tolist() == [1] * 6
    stacks, ungrouped = records_of_stacks(store, names), store.product("particles/extracted").record()

    group_optics.fn(store.url, names[:2], PARAMS)
    assert extract_particles.fn(store.url, names, EXTRACTION).kept == names
    assert table(store)["optics_group"].tolist() == [1, 1, 2, 2, 1, 1]
    assert records_of_stacks(store, names) == stacks
    two = store.product("particles/extracted").record()
    assert two.fingerprint != ungrouped.fingerprint

    put_picked(store, "rejected", [[40, 60]])  # in no stack yet: its group is nobody's here
    group_optics.fn(store.url, [*names[:2], "rejected"], PARAMS)
    extract_particles.fn(store.url, names, EXTRACTION)
    assert store.product("particles/extracted").record() == two

    group_optics.fn(store.url, names, PARAMS)
    assert extract_particles.fn(store.url, names, EXTRACTION).kept == names
    assert len(set(table(store)["optics_group"].tolist())) == 3
    assert records_of_stacks(store, names) == stacks


def test_groups_survive_the_star_files(store, tmp_path):
    """The sets of this session say group 1 for all; the export has the groups that the exposures have now."""
    filled = fill_session(store, n_exposures=4, shape=(200, 220), n_picks=60)
    ids = list(filled.good)
    for i, exposure_id in enumerate(ids):
        product = store.exposure_product(exposure_id, "import_session")
        product.amend({"metadata": MicroscopeMetadata(hole_position=f"{i % 2}_0").model_dump(mode="json")})
    group_optics.fn(store.url, ids, PARAMS)
    numbers = optics_groups(store)
    assert set(numbers.values()) == {1, 2}
    export_session.fn(store.url, str(tmp_path / "out"), ExportSessionParams(has_previews=False, has_maps=False))
    expected = {f"micrographs/{e}.mrc": number for e, number in numbers.items()}
    micrographs, groups = read_micrographs(tmp_path / "out" / "micrographs_ctf.star")
    assert {m.name: m.optics_group for m in micrographs} == {m.name: expected[m.name] for m in micrographs}
    assert {number: group.name for number, group in groups.items()} == {1: "opticsGroup1", 2: "opticsGroup2"}
    content = read_particles(tmp_path / "out" / "particles_refined.star")
    names = np.array(content.particles.exposure_ids)[content.particles["exposure"]]
    np.testing.assert_array_equal(content.particles["optics_group"], [expected[name] for name in names])
    assert {number: group.name for number, group in content.optics_groups.items()} == {
        number: f"opticsGroup{number}" for number in set(content.particles["optics_group"].tolist())
    }


def test_an_unknown_way_to_group_is_refused():
    with pytest.raises(ValueError, match="by"):
        GroupOpticsParams(by="colour")
