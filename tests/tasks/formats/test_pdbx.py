"""What the PDBx/mmCIF dictionary and EMPIAR's schema object to, and sequences of models."""

import pytest

from tasks.formats.empiar import empiar_complaints
from tasks.formats.pdbx import Dictionary, MissingDictionaryError, find_dictionary, header_content, pdbx_model
from tasks.formats.structure import mmcif_of
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


def test_the_schema_of_empiar_objects_to_gaps_and_wrong_words():
    said = " ".join(empiar_complaints({"title": "short", "release_date": "NEVER", "experiment_type": 3}))
    assert "title: 'short' is too short" in said
    assert "'NEVER' is not one of ['RE', 'EP', 'HP', 'HO']" in said
    assert "'imagesets' is a required property" in said
