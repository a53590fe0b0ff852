"""STAR files: round trips, RELION's conventions, and the files that RELION and cryoSPARC wrote."""

from dataclasses import astuple, replace

import mrcfile
import numpy as np
import pytest
import torch

from kernels.ctf import Defocus, ctf
from kernels.fourier import frequencies, inverse, shift, transform
from kernels.optics import Optics
from kernels.rotations import euler_to_matrix, random_rotations
from tasks.formats import FormatError, cryosparc
from tasks.formats.star import (
    OpticsGroup,
    StarMicrograph,
    StarMotion,
    StarParticles,
    read_coordinates,
    read_micrographs,
    read_motion,
    read_particles,
    write_micrographs,
    write_motion,
    write_particles,
)
from tasks.records.exposure import ExposureCtf
from tasks.records.particles import ParticleSet

FIRST = Optics(voltage_kv=300, spherical_aberration_mm=2.7, amplitude_contrast=0.1, pixel_size_angstrom=1.1)
SECOND = Optics(voltage_kv=200, spherical_aberration_mm=1.4, amplitude_contrast=0.07, pixel_size_angstrom=0.885)


def simulated_particles(n: int = 25, seed: int = 11) -> StarParticles:
    random = np.random.default_rng(seed)
    columns = {
        "exposure": np.sort(random.integers(0, 3, n)),
        "stack_index": np.arange(n),
        "coordinate_px": random.uniform(0, 4000, (n, 2)),
        "pick_score": random.uniform(0, 1, n),
        "defocus_u_angstrom": random.uniform(5000, 30000, n),
        "defocus_v_angstrom": random.uniform(5000, 30000, n),
        "defocus_angle_rad": random.uniform(-np.pi / 2, np.pi / 2, n),
        "phase_shift_rad": random.uniform(0, np.pi, n),
        "optics_group": np.where(np.arange(n) % 3, 4, 7),
        "rotation": random_rotations(n, torch.Generator().manual_seed(seed)).numpy(),
        "shift_angstrom": random.normal(0, 8, (n, 2)),
        "half_set": random.integers(1, 3, n),
        "class_2d": random.integers(-1, 20, n),
        "log_likelihood": random.normal(8e5, 1e4, n),
    }
    particles = ParticleSet(("micrographs/a.mrc", "micrographs/b.mrc", "micrographs/c.mrc"), columns)
    groups = {4: OpticsGroup("main", FIRST, 160), 7: OpticsGroup("tilted", SECOND, 176)}
    return StarParticles(particles, groups, ("a.mrcs", "b.mrcs", "c.mrcs"), particles["exposure"])


def assert_same(found: StarParticles, expected: StarParticles) -> None:
    assert found.particles.exposure_ids == expected.particles.exposure_ids
    assert found.stacks == expected.stacks
    np.testing.assert_array_equal(found.stack, expected.stack)
    assert found.optics_groups.keys() == expected.optics_groups.keys()
    for number, group in expected.optics_groups.items():
        again = found.optics_groups[number]
        assert (again.name, again.image_size) == (group.name, group.image_size)
        assert astuple(again.optics) == pytest.approx(astuple(group.optics), abs=1e-6)
    assert set(found.particles.columns) == set(expected.particles.columns)
    for name, column in expected.particles.columns.items():
        # six decimals in the file; a rotation in float32, whose angles are written in degrees
        np.testing.assert_allclose(found.particles[name], column, atol=1e-6, rtol=2.5e-7, err_msg=name)


def test_particles_survive_the_file(tmp_path):
    content = simulated_particles()
    write_particles(tmp_path / "particles.star", content)
    assert_same(read_particles(tmp_path / "particles.star"), content)
    assert [p.name for p in tmp_path.iterdir()] == ["particles.star"]


def test_blocks_of_rows_make_one_table(tmp_path):
    content = simulated_particles(n=25_003)
    write_particles(tmp_path / "particles.star", content)
    found = read_particles(tmp_path / "particles.star")
    np.testing.assert_array_equal(found.particles["stack_index"], content.particles["stack_index"])
    assert_same(found, content)


def test_a_set_of_no_particles_can_be_written_for_its_optics(tmp_path):
    content = simulated_particles()
    write_particles(tmp_path / "none.star", replace(content, particles=content.particles.select(np.zeros(0, int))))
    assert "_rlnImageName" in (tmp_path / "none.star").read_text()


def test_relion_numbers_from_one_and_counts_degrees_and_x_first(tmp_path):
    columns = {
        "exposure": np.zeros(1),
        "stack_index": np.array([0]),
        "coordinate_px": np.array([[20.0, 310.0]]),
        "optics_group": np.array([1]),
        "defocus_angle_rad": np.array([np.pi / 3]),
        "class_2d": np.array([2]),
        "shift_angstrom": np.array([[3.0, -5.0]]),
        "rotation": euler_to_matrix(*torch.deg2rad(torch.tensor([10.0, 20.0, 30.0], dtype=torch.float64)))[
            None
        ].numpy(),
    }
    particles = ParticleSet(("m.mrc",), columns)
    content = StarParticles(particles, {1: OpticsGroup("g", FIRST, 64)}, ("m.mrcs",), np.zeros(1, np.int32))
    write_particles(tmp_path / "one.star", content)
    text = (tmp_path / "one.star").read_text()
    table = text[text.index("data_particles") :].splitlines()
    labels = [line.split()[0] for line in table if line.startswith("_")]
    row = dict(zip(labels, next(line for line in table if "@" in line).split()))
    expected = {
        "CoordinateX": 310, "CoordinateY": 20, "DefocusAngle": 60, "ClassNumber": 3,
        "OriginXAngst": 5, "OriginYAngst": -3, "AngleRot": 10, "AngleTilt": 20, "AnglePsi": 30,
    }  # fmt: skip
    for name, value in expected.items():
        assert float(row[f"_rln{name}"]) == pytest.approx(value, abs=1e-5), name
    assert row["_rlnImageName"] == "000001@m.mrcs"
    assert "# version 30001" in text


def test_micrographs_survive_the_file(tmp_path):
    fit = ExposureCtf(
        defocus_u_angstrom=15300.5, defocus_v_angstrom=14900.25, defocus_angle_deg=-33.5,
        fit_correlation=0.25, fit_resolution_angstrom=3.5,
    )  # fmt: skip
    micrographs = [StarMicrograph("micrographs/a.mrc", 4, fit), StarMicrograph("micrographs/b.mrc", 7, fit)]
    groups = {4: OpticsGroup("main", FIRST), 7: OpticsGroup("tilted", SECOND)}
    write_micrographs(tmp_path / "micrographs.star", micrographs, groups)
    assert read_micrographs(tmp_path / "micrographs.star") == (micrographs, groups)


def test_one_micrograph_is_read_like_many(tmp_path):
    write_micrographs(tmp_path / "one.star", [StarMicrograph("a.mrc")], {1: OpticsGroup("main", FIRST)})
    assert read_micrographs(tmp_path / "one.star")[0] == [StarMicrograph("a.mrc")]


def test_motion_survives_the_file_and_has_the_sign_of_relion(tmp_path):
    """RELION 3.1.3 wrote shifts of -1.01 px for content that moved by +1 px a frame."""
    moved = np.array([[0.0, 0.0], [0.55, 1.1], [1.1, 2.2]])
    motion = StarMotion("Movies/a.tiff", (4092, 5760), 1.1, 300.0, 1.25, 0.5, moved)
    write_motion(tmp_path / "a.star", motion)
    found = read_motion(tmp_path / "a.star")
    np.testing.assert_allclose(found.shift_angstrom, moved, atol=1e-6)
    assert replace(found, shift_angstrom=moved) == replace(motion, shift_angstrom=moved)
    last = [line.split() for line in (tmp_path / "a.star").read_text().splitlines() if line.strip()][-1]
    assert [float(word) for word in last] == [3, -2.0, -1.0]


def test_particles_without_their_optics_group_are_refused(tmp_path):
    content = simulated_particles()
    with pytest.raises(ValueError, match=r"optics groups \[7\]"):
        write_particles(tmp_path / "p.star", replace(content, optics_groups={4: content.optics_groups[4]}))
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_relion_cannot_read_is_refused_and_leaves_no_file(tmp_path):
    content = simulated_particles()
    with pytest.raises(ValueError, match="without blanks"):
        write_particles(tmp_path / "p.star", replace(content, stacks=("a b.mrcs", "b.mrcs", "c.mrcs")))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("no star file\n", "STAR file"),
        ("data_particles\n\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n1 2\n", "rlnImageName"),
        ("data_\n\nloop_\n_rlnImageName #1\n_rlnDefocusU #2\n1@a.mrcs 100\n", "rlnMagnification"),
        (
            "data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnVoltage #2\n_rlnSphericalAberration #3\n"
            "_rlnAmplitudeContrast #4\n_rlnImagePixelSize #5\n1 300 2.7 0.1 1.1\n\n"
            "data_particles\n\nloop_\n_rlnImageName #1\n_rlnOpticsGroup #2\nx@a.mrcs 1\n",
            "number@stack",
        ),
        (
            "data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnVoltage #2\n_rlnSphericalAberration #3\n"
            "_rlnAmplitudeContrast #4\n_rlnImagePixelSize #5\n1 300 2.7 0.1 1.1\n\n"
            "data_particles\n\nloop_\n_rlnImageName #1\n_rlnOpticsGroup #2\n1@a.mrcs 3\n",
            r"optics groups \[3\]",
        ),
    ],
)
def test_a_file_that_is_not_what_it_should_be_says_why(tmp_path, text, words):
    path = tmp_path / "bad.star"
    path.write_text(text)
    with pytest.raises(FormatError, match=words):
        read_particles(path)


# --- files that others wrote ----------------------------------------------------------------------------------------

PARTICLE_FILES = (
    "parsers/FinalRefinement-OriginalParticles-PfCRT.star",  # RELION 3.0
    "parsers/relion31.star",
    "parsers/relion5.star",
    "trpv1_EMPIAR-10059/trpv1_small_stack.star",
    "empiar_10076_L17_50S/empiar_10076_7.star",
)


@pytest.mark.real
@pytest.mark.parametrize("name", [*PARTICLE_FILES, "metadata"])
def test_particles_of_relion_survive_reading_and_writing(name, real_data, tmp_path):
    path = real_data / "particles" / name
    if name == "metadata":
        path = real_data / "metadata" / "relion_bgal_tutorial" / "particles_1k.star"
    first = read_particles(path, default_amplitude_contrast=0.1)
    write_particles(tmp_path / "again.star", first)
    assert_same(read_particles(tmp_path / "again.star"), first)


@pytest.mark.real
def test_values_of_relion_files_are_those_in_the_text(real_data):
    old = read_particles(real_data / "particles" / PARTICLE_FILES[0], default_amplitude_contrast=0.1)
    assert old.optics_groups[1].optics.pixel_size_angstrom == pytest.approx(1.035)
    np.testing.assert_allclose(old.particles["coordinate_px"][0], [3210, 323])
    trpv1 = read_particles(real_data / "particles" / PARTICLE_FILES[3])
    assert list(trpv1.optics_groups) == [7]
    np.testing.assert_allclose(trpv1.particles["shift_angstrom"][0], [6.120969, 8.149219], rtol=1e-6)
    assert trpv1.particles["half_set"][0] == 2


@pytest.mark.real
def test_micrographs_and_picks_of_relion_are_read(real_data, tmp_path):
    folder = real_data / "metadata" / "relion_bgal_tutorial"
    micrographs, groups = read_micrographs(folder / "micrographs_ctf.star")
    assert len(micrographs) == 24
    assert groups[1].optics == Optics(200, 1.4, 0.1, 0.885)
    assert micrographs[0].ctf is not None
    assert micrographs[0].ctf.defocus_u_angstrom == pytest.approx(10865.006836)
    assert micrographs[0].ctf.fit_resolution_angstrom == pytest.approx(4.841686)
    write_micrographs(tmp_path / "again.star", micrographs, groups)
    assert read_micrographs(tmp_path / "again.star")[0] == micrographs
    assert len(read_micrographs(folder / "corrected_micrographs.star")[0]) == 24
    motion = read_motion(folder / "movie_frameImage.star")
    assert motion.shift_angstrom.shape == (24, 2)
    assert motion.shape == (3838, 3710)
    np.testing.assert_allclose(motion.shift_angstrom[-1] / motion.pixel_size_angstrom, [8.39650, -9.895187])
    coordinates, scores = read_coordinates(folder / "20170629_00049_frameImage_autopick.star")
    np.testing.assert_allclose(coordinates[0], [203.188232, 462.817657], rtol=1e-6)
    assert scores is not None and scores[0] == pytest.approx(0.172677)


@pytest.mark.real
def test_star_and_cs_of_the_same_particles_agree(real_data):
    folder = real_data / "particles" / "empiar_10076_L17_50S"
    star = read_particles(folder / "empiar_10076_7.star")
    cs = cryosparc.read_particles(folder / "empiar_10076_7.cs")
    assert star.optics_groups[1].optics.pixel_size_angstrom == pytest.approx(1.31, abs=1e-4)
    assert cs.optics_groups[23].image_size == 320
    for name in ("defocus_u_angstrom", "defocus_v_angstrom", "defocus_angle_rad", "stack_index"):
        np.testing.assert_allclose(star.particles[name], cs.particles[name], rtol=1e-5, err_msg=name)
    assert star.stacks == cs.stacks


@pytest.mark.real
def test_poses_of_cryosparc_are_rotations(real_data):
    found = cryosparc.read_particles(real_data / "particles" / "parsers" / "cryosparc_P12_J24_001_particles.cs")
    rotation = found.particles["rotation"]
    np.testing.assert_allclose(
        rotation @ rotation.transpose(0, 2, 1), np.broadcast_to(np.eye(3), rotation.shape), atol=1e-5
    )
    np.testing.assert_allclose(found.particles["shift_angstrom"][0], [1.828125 * 2.95, -11.334375 * 2.95], rtol=1e-6)
    assert set(np.unique(found.particles["half_set"])) == {1, 2}


@pytest.mark.real
def test_read_poses_and_shifts_bring_projections_onto_the_particles(real_data):
    """Ten particles of TRPV1: CTF x projection correlates best with the pose as read."""
    folder = real_data / "particles" / "trpv1_EMPIAR-10059"
    content = read_particles(folder / "trpv1_small_stack.star")
    images = torch.from_numpy(mrcfile.read(folder / "trpv1_small_stack.mrcs").astype(np.float32))
    volume = torch.from_numpy(mrcfile.read(folder / "trpv1_volume.mrc").astype(np.float32))
    rotation = torch.from_numpy(content.particles["rotation"])
    moved = torch.from_numpy(content.particles["shift_angstrom"])

    def mean_correlation(rotations, shifts_angstrom):
        return torch.stack(
            [
                _correlation(image, _projection(volume, r, s, content, i))
                for i, (image, r, s) in enumerate(zip(images, rotations, shifts_angstrom))
            ]
        ).mean()

    as_read = mean_correlation(rotation, moved)
    assert as_read < -0.22  # particles are stored white, our CTF makes protein dark
    assert mean_correlation(rotation.transpose(-1, -2), moved) > as_read + 0.03
    assert mean_correlation(rotation, -moved).abs() < 0.08


def _projection(volume, rotation, shift_angstrom, content, i):
    """CTF x projection of a map, real-space trilinear."""
    optics = content.optics_groups[7].optics
    n = volume.shape[-1]
    axis = torch.arange(n) - n // 2
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).float()
    source = grid @ rotation  # R^T r: where the voxel of the rotated map comes from
    normalised = (source + n // 2).flip(-1) * 2 / (n - 1) - 1
    rotated = torch.nn.functional.grid_sample(volume[None, None], normalised[None], align_corners=True)[0, 0]
    projected = shift(rotated.sum(0), shift_angstrom / optics.pixel_size_angstrom)
    columns = content.particles
    names = ("defocus_u_angstrom", "defocus_v_angstrom", "defocus_angle_rad", "phase_shift_rad")
    defocus = Defocus.of(*(float(columns[name][i]) for name in names))
    grid2 = frequencies((n, n), optics.pixel_size_angstrom)
    return inverse(transform(projected) * ctf(grid2, defocus, optics), (n, n))


def _correlation(a, b):
    n = a.shape[-1]
    axis = torch.arange(n) - n // 2
    mask = (axis[:, None] ** 2 + axis[None] ** 2) < 20**2
    a, b = a[mask] - a[mask].mean(), b[mask] - b[mask].mean()
    return (a * b).sum() / (a.norm() * b.norm())
