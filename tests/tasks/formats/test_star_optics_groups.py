"""Optics groups through STAR files: what RELION wrote comes back with the same numbers and names."""

from dataclasses import replace

import numpy as np
import pytest

from kernels.optics import Optics
from tasks.formats.star import (
    OpticsGroup,
    StarMicrograph,
    read_micrographs,
    read_particles,
    write_micrographs,
    write_particles,
)

PARTICLES = (
    "particles/trpv1_EMPIAR-10059/trpv1_small_stack.star",
    "particles/parsers/relion31.star",
    "particles/parsers/relion5.star",
    "metadata/relion_bgal_tutorial/particles_1k.star",
)
MICROGRAPHS = (
    "metadata/relion_bgal_tutorial/micrographs_ctf.star",
    "metadata/relion_bgal_tutorial/corrected_micrographs.star",
)


def named(groups):
    return {number: group.name for number, group in groups.items()}


@pytest.mark.real
@pytest.mark.parametrize("name", PARTICLES)
def test_groups_of_particles_that_relion_wrote_come_back(real_data, tmp_path, name):
    if not (real_data / name).exists():
        pytest.skip(f"{name} is not in the real data folder")
    content = read_particles(real_data / name)
    write_particles(tmp_path / "again.star", content)
    again = read_particles(tmp_path / "again.star")
    assert named(again.optics_groups) == named(content.optics_groups)
    np.testing.assert_array_equal(again.particles["optics_group"], content.particles["optics_group"])


@pytest.mark.real
@pytest.mark.parametrize("name", PARTICLES)
def test_particles_in_other_groups_than_relion_s_come_back_as_well(real_data, tmp_path, name):
    """Numbers with gaps and names of their own, as a session has them that was grouped while it grew."""
    if not (real_data / name).exists():
        pytest.skip(f"{name} is not in the real data folder")
    content = read_particles(real_data / name)
    (own,) = content.optics_groups.values()
    groups = {number: replace(own, name=f"shot_{number}") for number in (3, 11, 400)}
    number = np.array([3, 11, 400])[np.arange(len(content.particles)) % 3]
    content = replace(content, particles=content.particles.with_columns(optics_group=number), optics_groups=groups)
    write_particles(tmp_path / "again.star", content)
    again = read_particles(tmp_path / "again.star")
    assert named(again.optics_groups) == {3: "shot_3", 11: "shot_11", 400: "shot_400"}
    np.testing.assert_array_equal(again.particles["optics_group"], number)


@pytest.mark.real
@pytest.mark.parametrize("name", MICROGRAPHS)
def test_groups_of_micrographs_that_relion_wrote_come_back(real_data, tmp_path, name):
    if not (real_data / name).exists():
        pytest.skip(f"{name} is not in the real data folder")
    micrographs, groups = read_micrographs(real_data / name)
    write_micrographs(tmp_path / "again.star", micrographs, groups)
    again, again_groups = read_micrographs(tmp_path / "again.star")
    assert named(again_groups) == named(groups)
    assert [m.optics_group for m in again] == [m.optics_group for m in micrographs]


def test_a_template_of_45_groups_comes_back(tmp_path):
    optics = Optics(300.0, 2.7, 0.1, 0.83)
    groups = {number: OpticsGroup(f"opticsGroup{number}", optics) for number in range(1, 46)}
    micrographs = [StarMicrograph(f"m{i}.mrc", 1 + 7 * i % 45) for i in range(90)]
    write_micrographs(tmp_path / "m.star", micrographs, groups)
    assert read_micrographs(tmp_path / "m.star") == (micrographs, groups)
