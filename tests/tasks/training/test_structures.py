"""Relatives stay together, on one side of the split."""

import pytest

from tasks.formats import FormatError
from tasks.training.structures import read_structures, sampling_weights
from tests.truth.peptides import write_helices

FIRST = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAVILSRVGDGTQDNLSG"
SECOND = "AEKAVQVKVKALGDAQFEVVHSLAKWKRQTLGQHDFSAGEGLYTHMKALR"


@pytest.fixture
def folder(tmp_path):
    write_helices(tmp_path / "set", [FIRST, SECOND, FIRST[:20] + "W" + FIRST[21:]])
    return tmp_path / "set"


def test_a_mutant_is_a_relative(folder):
    names = {s.name: s.cluster for s in read_structures([folder])}
    assert names["set/helix_0.cif"] == names["set/helix_2.cif"] == "set/helix_0.cif"
    assert names["set/helix_1.cif"] == "set/helix_1.cif"


def test_relatives_of_excluded_structures_are_left_out(folder, tmp_path):
    write_helices(tmp_path / "other", [FIRST[5:45]])
    kept = read_structures([folder], [tmp_path / "other" / "helix_0.cif"])
    assert [s.name for s in kept] == ["set/helix_1.cif"]


def test_proteins_share_what_nucleic_acids_leave(folder):
    weights = sampling_weights(read_structures([folder]), 0.1)
    assert float(weights.sum()) == pytest.approx(1)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(FormatError, match="holds no structures"):
        read_structures([tmp_path])
