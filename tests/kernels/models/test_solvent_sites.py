"""What stands around a peak decides whether it is a water or an ion."""

import torch

from kernels.models.atomic_model import AtomicModel, Residue
from kernels.models.blobs import Peaks
from kernels.models.solvent_sites import ion_fit, waters


def atoms(elements, places):
    n = len(elements)
    return AtomicModel(
        (Residue("A", "SER", 1),), torch.zeros(n, dtype=torch.int64), tuple(f"X{i}" for i in range(n)), tuple(elements),
        torch.tensor(places, dtype=torch.float64), torch.full((n,), 30.0), torch.ones(n),
    )  # fmt: skip


def peaks_at(*places, height=8.0, roundness=0.8):
    n = len(places)
    return Peaks(torch.tensor(places, dtype=torch.float64), torch.full((n,), height), torch.full((n,), roundness))


def chosen(peaks, model, share=1.0, half=None, crowd=1.0):
    n = len(peaks)
    found, _ = waters(peaks, torch.full((n,), share), half, torch.full((n,), crowd), model)
    return sorted(found.tolist())


OXYGEN_AND_CARBON = atoms("OC", [[0.0, 0, 0], [8.0, 0, 0]])


def test_a_water_lies_at_a_hydrogen_bond_of_an_oxygen_and_not_at_a_carbon():
    spots = peaks_at([2.8, 0, 0], [0, 2.0, 0], [0, 0, 4.5], [8.0, 3.3, 0])
    assert chosen(spots, OXYGEN_AND_CARBON) == [0]
    assert chosen(peaks_at([5.4, 0, 0]), OXYGEN_AND_CARBON) == []


def test_a_second_shell_hangs_on_the_first():
    spots = peaks_at([0, 2.8, 0], [0, 5.5, 0], [0, 8.2, 0], [0, 12.0, 0])
    assert chosen(spots, OXYGEN_AND_CARBON) == [0, 1, 2]


def test_low_flat_crowded_or_one_sided_peaks_are_no_waters():
    spot = [0, 2.8, 0]
    assert chosen(peaks_at(spot, height=3.0), OXYGEN_AND_CARBON) == []
    assert chosen(peaks_at(spot, roundness=0.1), OXYGEN_AND_CARBON) == []
    assert chosen(peaks_at(spot), OXYGEN_AND_CARBON, crowd=9.0) == []
    assert chosen(peaks_at(spot), OXYGEN_AND_CARBON, share=0.1) == []
    assert chosen(peaks_at(spot), OXYGEN_AND_CARBON, half=torch.tensor([[8.0], [0.5]])) == []
    assert chosen(peaks_at(spot), OXYGEN_AND_CARBON, half=torch.tensor([[6.0], [5.0]])) == [0]


def test_of_two_peaks_in_one_place_the_higher_one_is_taken():
    spots = Peaks(torch.tensor([[0, 2.8, 0], [0, 2.9, 1.0]]).double(), torch.tensor([9.0, 6.0]), torch.ones(2))
    assert chosen(spots, OXYGEN_AND_CARBON) == [0]


def octahedron(distance):
    axes = torch.eye(3, dtype=torch.float64) * distance
    return torch.cat([axes, -axes]).tolist()


def test_six_oxygens_tell_magnesium_from_calcium_by_their_distance():
    origin = torch.zeros(1, 3, dtype=torch.float64)
    none = torch.zeros(0, 3, dtype=torch.float64)
    short, long = atoms("OOOOOO", octahedron(2.1)), atoms("OOOOOO", octahedron(2.4))
    assert ion_fit("MG", origin, short, none).is_possible.item()
    assert not ion_fit("CA", origin, short, none).is_possible.item()
    assert ion_fit("CA", origin, long, none).is_possible.item()
    assert ion_fit("CA", origin, long, none).deviation_angstrom < ion_fit("MG", origin, long, none).deviation_angstrom


def test_waters_count_as_neighbours_and_carbons_stand_in_the_way():
    origin = torch.zeros(1, 3, dtype=torch.float64)
    two = atoms("OO", octahedron(2.08)[:2])
    around = torch.tensor(octahedron(2.08)[2:], dtype=torch.float64)
    none = torch.zeros(0, 3, dtype=torch.float64)
    assert not ion_fit("MG", origin, two, none).is_possible.item()
    assert ion_fit("MG", origin, two, around).is_possible.item()
    crowded = atoms("OOC", [*octahedron(2.08)[:2], [1.4, 1.4, 0]])
    assert not ion_fit("MG", origin, crowded, around).is_possible.item()
