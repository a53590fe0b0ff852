"""A map lies where its header says, whatever the order of its axes and bytes."""

import gzip
import itertools

import gemmi
import mrcfile
import numpy as np
import pytest
import torch

from kernels.maps.grid import DensityGrid
from tasks.formats import FormatError
from tasks.formats.map_file import read_map, write_map

SHAPE = (6, 8, 10)
VOXELS = np.random.default_rng(3).normal(size=SHAPE).astype(np.float32)


@pytest.fixture
def grid() -> DensityGrid:
    return DensityGrid(torch.from_numpy(VOXELS), 1.06, torch.tensor([-4.24, 2.12, 10.6], dtype=torch.float64))


@pytest.mark.parametrize("origin", [(0.0, 0.0, 0.0), (-4.24, 2.12, 10.6), (1.3, -7.77, 100.01)])
@pytest.mark.parametrize("name", ["a.mrc", "b.map"])
def test_a_map_is_read_as_it_was_written(tmp_path, origin, name):
    written = DensityGrid(torch.from_numpy(VOXELS), 1.06, torch.tensor(origin, dtype=torch.float64))
    write_map(tmp_path / name, written)
    found = read_map(tmp_path / name)
    assert torch.equal(found.voxels, written.voxels)
    assert found.voxel_size_angstrom == pytest.approx(1.06, rel=1e-6)
    torch.testing.assert_close(found.origin_angstrom, written.origin_angstrom, atol=1e-4, rtol=0)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_crystallographer_finds_a_written_map_in_the_same_place(tmp_path, grid):
    write_map(tmp_path / "a.map", grid)
    other = gemmi.read_ccp4_map(str(tmp_path / "a.map"), setup=True)
    z, y, x = grid.to_angstrom(torch.tensor([2, 3, 4])).tolist()
    fraction = other.grid.unit_cell.fractionalize(gemmi.Position(x, y, z))
    assert other.grid.interpolate_value(fraction) == pytest.approx(float(grid.voxels[2, 3, 4]), abs=1e-3)


@pytest.mark.parametrize("order", list(itertools.permutations((1, 2, 3))))
def test_any_order_of_axes_is_turned(tmp_path, order):
    """MAPC, MAPR, MAPS = ``order``; NXSTART and its like count columns, rows and sections."""
    start_of = {1: 7, 2: -3, 3: 2}  # of x, y, z in voxels
    zyx_axis = {1: 2, 2: 1, 3: 0}
    stored = VOXELS.transpose([zyx_axis[axis] for axis in reversed(order)])
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(np.ascontiguousarray(stored))
        file.set_volume()
        file.header.mapc, file.header.mapr, file.header.maps = order
        file.header.mx, file.header.my, file.header.mz = SHAPE[::-1]
        file.header.cella = tuple(1.5 * n for n in SHAPE[::-1])
        file.nstart = tuple(start_of[axis] for axis in order)
    found = read_map(tmp_path / "a.mrc")
    np.testing.assert_array_equal(found.voxels.numpy(), VOXELS)
    assert found.voxel_size_angstrom == pytest.approx(1.5)
    assert found.origin_angstrom.tolist() == pytest.approx([3.0, -4.5, 10.5])


@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_either_byte_order_is_read_whatever_the_stamp_says(tmp_path, grid, byte_order):
    write_map(tmp_path / "a.mrc", grid)
    content = bytearray((tmp_path / "a.mrc").read_bytes())
    words = np.frombuffer(bytes(content), "<u4").copy()
    labels = words[52:256].copy()
    words = words.astype(f"{byte_order}u4")
    words[52:256] = labels  # MAP, stamp and labels are bytes
    (tmp_path / "b.mrc").write_bytes(words.tobytes())
    found = read_map(tmp_path / "b.mrc")
    assert torch.equal(found.voxels, grid.voxels)
    torch.testing.assert_close(found.origin_angstrom, grid.origin_angstrom, atol=1e-4, rtol=0)


def test_a_gzipped_map_is_read(tmp_path, grid):
    write_map(tmp_path / "a.map", grid)
    (tmp_path / "a.map.gz").write_bytes(gzip.compress((tmp_path / "a.map").read_bytes()))
    assert torch.equal(read_map(tmp_path / "a.map.gz").voxels, grid.voxels)
    (tmp_path / "b.map.gz").write_bytes((tmp_path / "a.map.gz").read_bytes()[:200])
    with pytest.raises(FormatError, match="copy the file again"):
        read_map(tmp_path / "b.map.gz")


def test_voxels_that_are_not_quite_cubes_are_made_cubic(tmp_path, grid):
    write_map(tmp_path / "a.mrc", grid)
    with mrcfile.open(tmp_path / "a.mrc", "r+") as file:
        file.voxel_size = (1.0, 1.0, 1.02)  # x, y, z
    found = read_map(tmp_path / "a.mrc")
    assert found.voxel_size_angstrom == pytest.approx(1.0)
    assert found.voxels.shape == SHAPE  # 6 voxels of 1.02 Å end at 5.1 Å
    torch.testing.assert_close(found.voxels[0], grid.voxels[0])
    assert not torch.allclose(found.voxels[3], grid.voxels[3])


def test_a_given_voxel_size_replaces_that_of_the_header(tmp_path, grid):
    write_map(tmp_path / "a.mrc", grid)
    found = read_map(tmp_path / "a.mrc", voxel_size_angstrom=2.0)
    assert found.voxel_size_angstrom == 2.0
    assert found.origin_angstrom.tolist() == [-8.0, 4.0, 20.0]


def edited(tmp_path, grid, **fields):
    write_map(tmp_path / "bad.mrc", grid)
    with mrcfile.open(tmp_path / "bad.mrc", "r+", permissive=True) as file:
        for name, value in fields.items():
            file.header[name] = value
    return tmp_path / "bad.mrc"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cella": (0, 0, 0)}, "no voxel size.*give the voxel size"),
        ({"cella": (10.6, 8.48, 60.0)}, "expected cubes"),
        ({"mapc": 2}, "MAPC, MAPR, MAPS"),
        ({"cellb": (90, 90, 120)}, "120 degrees"),
        ({"ispg": 0, "mz": 1}, "stack of 6 images"),
        ({"ispg": 401}, "stack of 6"),
        ({"origin": (np.nan, 0, 0)}, "ORIGIN"),
        ({"mode": 4}, "complex float32"),
    ],
)
def test_a_header_that_tells_no_map_is_refused(tmp_path, grid, fields, message):
    with pytest.raises(FormatError, match=rf"bad\.mrc.*{message}"):
        read_map(edited(tmp_path, grid, **fields))


@pytest.mark.parametrize(("value", "message"), [(np.nan, "2 of 480 voxels are NaN"), (np.inf, "infinite")])
def test_values_that_are_no_numbers_are_counted(tmp_path, grid, value, message):
    voxels = VOXELS.copy()
    voxels[1, 2, 3:5] = value
    write_map(tmp_path / "a.mrc", grid.with_voxels(torch.from_numpy(voxels)))
    with pytest.raises(FormatError, match=message):
        read_map(tmp_path / "a.mrc")


@pytest.mark.parametrize("value", [0.0, 2.5])
def test_an_empty_map_is_refused(tmp_path, grid, value):
    write_map(tmp_path / "a.mrc", grid.with_voxels(torch.full(SHAPE, value)))
    with pytest.raises(FormatError, match=f"is empty: every voxel is {value:g}"):
        read_map(tmp_path / "a.mrc")


def test_what_is_no_file_or_no_map_is_refused(tmp_path, grid):
    with pytest.raises(FormatError, match="no such file"):
        read_map(tmp_path / "absent.mrc")
    write_map(tmp_path / "a.mrc", grid)
    (tmp_path / "half.mrc").write_bytes((tmp_path / "a.mrc").read_bytes()[:1500])
    with pytest.raises(FormatError, match="truncated"):
        read_map(tmp_path / "half.mrc")
    with pytest.raises(ValueError, match="above 0"):
        read_map(tmp_path / "a.mrc", voxel_size_angstrom=-1.0)


REAL_ORIGINS = {
    "EMD-20026_apoferritin_1.75A/emd20026_prot.mrc": (101.4, 65.65, 117.0),
    "EMD-30342_integrin_3.9A/390_emd_30342_A_z4.mrc": (120.517, 112.825, 145.825),
    "EMD-5168_actin_6.6A/emd_5168.map": (-87.1, -87.1, -87.1),
    "EMD-6272_VP6_2.6A/6272.mrc": (0.0, 0.0, 0.0),
    "VP6_3.8A_docking/vp6-96o.mrc": (0.0, 0.0, 0.0),
}


@pytest.mark.parametrize(("name", "origin"), REAL_ORIGINS.items())
def test_real_maps_lie_where_their_models_do(real_data, name, origin):
    found = read_map(real_data / "maps" / name)
    assert found.origin_angstrom.tolist() == pytest.approx(origin, abs=1e-3)
