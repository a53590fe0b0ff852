"""The sizes of a session from some of its exposures."""

import pytest

from kernels.optics import Optics
from tasks.records.exposure import Exposure
from tasks.records.session import StageParams
from tasks.stores.products.outline import exposures_outline, session_outline
from tasks.stores.storage.location import StoreError

N_EXPOSURES = 300


def write_exposure(store, number: int, shape: tuple[int, int], state: str = "done") -> str:
    name = f"e{number:03d}"
    product = store.exposure_product(name, "import_session")
    if state != "done":
        product.put_outcome(state, "cut off", "import_session", 1, StageParams(), {})
        return name
    about = Exposure(
        id=name, name=f"{name}.tiff", source=f"{name}.tiff", content_hash=name, kind="movie", n_frames=10, shape=shape,
        dose_per_frame=1.5, optics=Optics(300.0, 2.7, 0.1, 1.1),
    )  # fmt: skip
    with product.write("import_session", 1, StageParams(), {}) as attempt:
        attempt.details["exposure"] = about.model_dump(mode="json")
    return name


def test_the_largest_exposure_counts(store):
    names = [write_exposure(store, i, shape) for i, shape in enumerate([(10, 20), (30, 20), (12, 12)])]
    about = exposures_outline(store, names)
    assert (about.n_exposures, about.shape, about.pixel_size_angstrom) == (3, (30, 20), 1.1)


def test_a_long_session_is_told_from_a_few_of_its_records(store):
    n_asked = 0
    for number in range(N_EXPOSURES):
        if number % 15 == 0:
            n_asked += 1
            write_exposure(store, number, (10, 20), "done" if number % 30 else "quarantined")
        else:  # a record that nobody can read, should anybody try
            location = store.exposure_product(f"e{number:03d}", "import_session")._record_location
            location.write_bytes(b"no record")
    assert n_asked == 20
    about = session_outline(store)
    assert (about.n_exposures, about.n_particles) == (N_EXPOSURES // 2, 0)
    with store.product("particles/extracted").write("extract_particles", 1, StageParams(), {}) as attempt:
        attempt.figures.update(n_particles=400, n_exposures=10)
    assert session_outline(store).n_particles == 40 * N_EXPOSURES // 2


def test_a_session_whose_first_files_are_bad_is_told_from_the_good_one(store):
    for number in range(45):
        write_exposure(store, number, (10, 20), "done" if number == 44 else "quarantined")
    assert session_outline(store).shape == (10, 20)


def test_a_session_without_an_exposure_says_so(store):
    write_exposure(store, 0, (10, 20), "quarantined")
    with pytest.raises(StoreError, match="has no exposures yet"):
        session_outline(store)
