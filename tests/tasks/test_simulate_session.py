"""A simulated session as the microscope leaves it, and the truth beside it."""

import gemmi
import numpy as np
import pytest

from tasks.formats import FormatError
from tasks.formats.gain import read_defects, read_gain
from tasks.formats.simulated_truth import read_truth
from tasks.formats.tiff import open_tiff
from tasks.simulate_session import SimulateSessionParams, simulate_session

SMALL = SimulateSessionParams(
    seed=17,
    n_movies=2,
    n_truncated=1,
    n_duplicates=1,
    n_drifting=1,
    shape=(160, 200),
    n_frames=4,
    n_particles=2,
    spacing_angstrom=60,
    map_size=128,
)


def movie_of(path):
    file = open_tiff(path)
    return np.stack([file.frame(i) for i in range(file.n_frames)])


@pytest.fixture(scope="module")
def session(workers, tmp_path_factory):
    folder = tmp_path_factory.mktemp("microscope") / "session"
    report = simulate_session.fn(str(folder), SMALL)
    assert not report.failed
    assert len(report.done) == 5
    return folder


def test_movies_hold_the_dose_behind_the_gain(session):
    gain = read_gain(session / "gain.mrc")
    movie = movie_of(session / "movies" / "movie_0001.tiff")
    assert movie.shape == (4, 160, 200)
    assert movie.dtype == np.uint8
    assert gain.shape == (160, 200)
    bad = read_defects(session / "defects.txt", (160, 200)) > 0
    electrons = (movie * gain)[:, ~bad]
    # a few hot pixels are not listed; the rest counts 40 e⁻/Å² in four frames of (1.1 Å)²
    assert np.median(electrons.mean(0)) == pytest.approx(10 * 1.1**2, rel=0.03)
    assert electrons.var() == pytest.approx((12.1 * gain[~bad]).mean(), rel=0.6)


def test_defects_list_every_dead_pixel_and_most_hot_ones(session):
    total = sum(movie_of(session / "movies" / f"movie_000{i}.tiff").astype(int).sum(0) for i in (1, 2))
    bad = read_defects(session / "defects.txt", (160, 200)) > 0
    assert bad[total == 0].all()
    hot = total > 300
    assert 0.6 < bad[hot].mean() < 1.0


def test_the_truth_says_what_every_movie_is(session):
    truth = read_truth(session)
    assert [movie.kind for movie in truth.movies] == ["good", "good", "truncated", "drifting", "duplicate"]
    assert truth.dose_per_frame == 10
    good = truth.movie("movie_0002.tiff")
    assert good.n_frames == 4
    assert 8000 <= (good.defocus_u_angstrom + good.defocus_v_angstrom) / 2 <= 20000
    assert 100 <= good.defocus_u_angstrom - good.defocus_v_angstrom <= 600
    np.testing.assert_allclose(
        good.rotation @ good.rotation.swapaxes(1, 2), np.broadcast_to(np.eye(3), (2, 3, 3)), atol=1e-5
    )
    np.testing.assert_allclose(good.defocus_offset_angstrom.mean(), 0, atol=0.1)
    assert (good.trajectory_angstrom[:, 0] == 0).all()
    inside = good.inside()
    tabulated = good.motion_at(good.coordinate_px[inside])
    np.testing.assert_allclose(tabulated, good.trajectory_angstrom[inside], atol=0.03)


def test_bad_files_are_bad_in_the_way_the_truth_says(session):
    with pytest.raises(FormatError):
        movie_of(session / "movies" / "movie_0003.tiff")
    truth = read_truth(session)
    drifting = truth.movies[3]
    assert np.linalg.norm(drifting.grid_motion_angstrom[-1], axis=-1).min() > 200
    copy = truth.movies[4]
    original = session / "movies" / "movie_0001.tiff"
    assert (session / copy.name).read_bytes() == original.read_bytes()
    np.testing.assert_array_equal(copy.coordinate_px, truth.movies[0].coordinate_px)


def test_the_atoms_lie_in_the_true_map(session):
    truth = read_truth(session)
    density = truth.density_map()
    assert density.shape == (128, 128, 128)
    model = gemmi.read_structure(str(truth.folder / "cage.cif"))[0]
    assert len(model) == 24
    alpha = np.array(
        [[a.pos.z, a.pos.y, a.pos.x] for chain in model for residue in chain for a in residue if a.name == "CA"]
    )
    assert len(alpha) == 24 * 156
    place = np.rint(alpha / truth.pixel_size_angstrom).astype(int)
    at_atoms = density[tuple(place.T)]
    assert np.quantile(at_atoms, 0.05) > 3 * density.std()


def test_a_second_run_keeps_what_is_there_and_replaces_what_is_lost(session, workers):
    lost = session / "movies" / "movie_0002.tiff"
    before = lost.read_bytes()
    lost.unlink()
    report = simulate_session.fn(str(session), SMALL)
    assert report.done == ["movies/movie_0002.tiff"]
    assert len(report.kept) == 4
    assert lost.read_bytes() == before


def test_other_parameters_make_another_session(workers, tmp_path):
    params = SMALL.model_copy(
        update={"n_movies": 1, "n_truncated": 0, "n_duplicates": 0, "n_drifting": 0, "map_size": 32}
    )
    simulate_session.fn(str(tmp_path / "s"), params)
    first = (tmp_path / "s" / "movies" / "movie_0001.tiff").read_bytes()
    report = simulate_session.fn(str(tmp_path / "s"), params.model_copy(update={"seed": 18}))
    assert report.done == ["movies/movie_0001.tiff"]
    assert (tmp_path / "s" / "movies" / "movie_0001.tiff").read_bytes() != first
    assert len(read_truth(tmp_path / "s").movies) == 1


def test_a_folder_without_truth_is_named(tmp_path):
    with pytest.raises(FormatError, match="holds no session"):
        read_truth(tmp_path / "nothing")


def test_an_impossible_session_is_refused_with_its_reason():
    with pytest.raises(ValueError, match="484 electrons would fall"):
        SimulateSessionParams(total_dose=400, n_frames=1)
    with pytest.raises(ValueError, match=r"is 5\.0 to 1\.0"):
        SimulateSessionParams(drift_angstrom=(5, 1))
    with pytest.raises(ValueError, match="at least 64"):
        SimulateSessionParams(shape=(60, 400))


def test_defocus_covers_its_range_whatever_the_number_of_movies(session):
    movies = [m for m in read_truth(session).movies if m.kind == "good"]
    means = sorted((m.defocus_u_angstrom + m.defocus_v_angstrom) / 2 for m in movies)
    assert 8000 <= means[0] <= 14000 <= means[1] <= 20000
