"""The network is asked once about a map, and again when the map or the network is another."""

import pytest
import torch

from kernels.models.asymmetric_unit import everywhere
from kernels.models.mates import Mates
from kernels.rotations import symmetry_group
from tasks.building.known_residues import Question, kept_residues, question
from tasks.formats import FormatError
from tasks.records.session import StageParams
from tests.truth.protein_detections import EASY, cage_subunits, simulated_detections

SOME = simulated_detections(cage_subunits(1), EASY, seed=3)
ASKED = Question(weights="w", n_turns=4)


def put_map(store, turn: int) -> None:
    with store.product("maps/imported").write("import_map", 1, StageParams(), {"turn": str(turn)}):
        pass


def test_what_the_network_said_is_read_until_map_or_question_change(store):
    looks = []

    def look():
        looks.append(len(looks))
        return SOME.take(torch.arange(len(SOME) - len(looks)))

    def ask(asked=ASKED):
        return kept_residues(store, "imported", ["maps/imported"], asked, look)

    put_map(store, 1)
    first, second = ask(), ask()
    assert looks == [0] and len(second) == len(SOME) - 1
    for field in ("alpha_angstrom", "backbone_offset_angstrom", "amino_acid"):
        assert torch.equal(getattr(first, field), getattr(second, field))
    assert len(ask(Question(weights="others", n_turns=4))) == len(SOME) - 2
    put_map(store, 2)
    assert len(ask(Question(weights="others", n_turns=4))) == len(SOME) - 3
    assert looks == [0, 1, 2]


def test_weights_are_told_apart_by_what_they_hold(tmp_path):
    paths = [tmp_path / name for name in ("a", "b", "c")]
    for path, content in zip(paths, (b"one", b"two", b"one")):
        path.write_bytes(content)
    first, second, third = (question(str(path)) for path in paths)
    assert first == third != second and question(None) != first
    with pytest.raises(FormatError, match="there are no weights"):
        question(str(tmp_path / "nowhere"))


def test_residues_of_a_unit_are_seen_around_a_copy_as_well():
    mates = Mates(symmetry_group("C3"), torch.zeros(3, dtype=torch.float64))
    unit = SOME.take(torch.arange(5))
    place = mates.of(unit.alpha_angstrom)[2]
    seen = everywhere(unit, mates, place[:1], 0.1)
    assert len(seen) == 1
    torch.testing.assert_close(seen.alpha_angstrom.double(), place[:1], atol=1e-4, rtol=0)
    ahead = mates.turned(torch.tensor([2]), unit.next_offset_angstrom[:1])
    torch.testing.assert_close(seen.next_offset_angstrom.double(), ahead, atol=1e-4, rtol=0)
    assert len(everywhere(unit, mates, place, 500.0)) == 15
