"""What the PDBx/mmCIF dictionary and EMPIAR's schema object to, and sequences of models."""

from dataclasses import replace

import pytest
import torch

from kernels.models.atomic_model import joined
from tasks.formats.empiar import empiar_complaints
from tasks.formats.pdbx import Dictionary, MissingDictionaryError, find_dictionary, header_content, pdbx_model
from tasks.formats.structure import mmcif_of, parse_mmcif
from tests.truth.modelled_session import SEQUENCES, two_helices


@pytest.fixture(scope="module")
def dictionary():
    return Dictionary(find_dictionary())


@pytest.mark.parametrize(
    ("category", "row", "words"),
    [
        ("em_buffer", {"id": 1, "specimen_id": 1, "acidity": 7.0}, "unknown tag _em_buffer.acidity"),
        ("em_buffer", {"id": 1, "specimen_id": 1, "pH": "sour"}, "_em_buffer.pH: expected number, got: sour"),
        ("em_buffer", {"id": 1, "pH": 7.0}, "missing mandatory tag: _em_buffer.specimen_id"),
        ("exptl", {"entry_id": "A", "method": "EYES"}, "_exptl.method: 'EYES' is not one of the allowed values"),
    ],
)
def test_wrong_items_values_and_gaps_are_told_by_name(dictionary, category, row, words):
    assert any(said.startswith(words) for said in dictionary.complaints(header_content("A", {category: [row]}), {}))


def test_what_is_right_or_allowed_since_is_not_told(dictionary):
    row = {"entry_id": "A", "method": "ELECTRON MICROSCOPY"}
    assert dictionary.complaints(header_content("A", {"exptl": [row]}), {}) == []
    newer = header_content("A", {"exptl": [row | {"method": "NEW METHOD"}]})
    assert dictionary.complaints(newer, {"_exptl.method": ["NEW METHOD"]}) == []
    assert len(dictionary.complaints(newer, {"_exptl.crystals_number": ["NEW METHOD"]})) == 1


def test_a_dictionary_that_is_not_there_is_told(tmp_path):
    with pytest.raises(MissingDictionaryError, match="install cctbx-base"):
        find_dictionary(tmp_path / "none.dic")


def test_chains_take_the_sequence_that_fits_them():
    mmcif = mmcif_of(two_helices())
    found = pdbx_model(mmcif, "model", ["MKV" + SEQUENCES[1], "G" + SEQUENCES[0], "ACDEFGHIKLMNPQRSTVWY"])
    assert [(e.letters, e.chains) for e in found.entities] == [
        ("G" + SEQUENCES[0], ("A",)),
        ("MKV" + SEQUENCES[1], ("B",)),
    ]
    without = pdbx_model(mmcif, "model", [])
    assert [e.letters for e in without.entities] == list(SEQUENCES)
    assert without.n_copies == 1


def test_pieces_of_one_molecule_become_a_chain_and_two_molecules_stay_two():
    whole = two_helices()
    in_two = tuple(replace(r, chain="C") if r.chain == "A" and r.number > 20 else r for r in whole.residues)
    found = pdbx_model(mmcif_of(replace(whole, residues=in_two)), "model", SEQUENCES)
    assert found.new_chains == {"C": "A"}
    assert [(e.chains, e.n_molecules) for e in found.entities] == [(("B",), 1), (("A",), 1)]
    again = parse_mmcif(found.content("X", {}), "model")
    assert sorted(map(str, again.residues)) == sorted(map(str, whole.residues))
    assert [r.number for r in again.residues if r.chain == "A"] == list(range(1, 31))
    for residue, place in zip(again.residues, again.positions("CA")):
        torch.testing.assert_close(place, whole.positions("CA")[whole.residues.index(residue)], atol=6e-4, rtol=0)
    first = whole.take_residues(torch.tensor([r.chain == "A" for r in whole.residues]))
    second = replace(first, residues=tuple(replace(r, chain="C") for r in first.residues))
    twice = pdbx_model(mmcif_of(joined([first, second])), "model", SEQUENCES)
    assert twice.new_chains == {}
    assert [(e.chains, e.n_molecules) for e in twice.entities] == [(("A", "C"), 2)]


def test_the_schema_of_empiar_objects_to_gaps_and_wrong_words():
    said = " ".join(empiar_complaints({"title": "short", "release_date": "NEVER", "experiment_type": 3}))
    assert "title: 'short' is too short" in said
    assert "'NEVER' is not one of ['RE', 'EP', 'HP', 'HO']" in said
    assert "'imagesets' is a required property" in said
