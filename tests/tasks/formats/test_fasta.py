"""FASTA files of several programs."""

import pytest

from tasks.formats import FormatError
from tasks.formats.fasta import NamedSequence, read_fasta


def read(tmp_path, text: str):
    (tmp_path / "in.fasta").write_text(text)
    return read_fasta(tmp_path / "in.fasta")


def test_records_are_read_in_their_order(tmp_path):
    found = read(tmp_path, ">sp|P1|ONE first\nMKT AYI\nAKQ*\n\n;a comment\n> two\r\nGGG\n")
    assert found == [NamedSequence("sp|P1|ONE first", "MKTAYIAKQ*"), NamedSequence("two", "GGG")]


def test_letters_alone_are_a_sequence(tmp_path):
    assert read(tmp_path, "MKTAYI\nAKQ\n") == [NamedSequence("in", "MKTAYIAKQ")]


@pytest.mark.parametrize(
    ("text", "words"), [("", "holds no sequence"), (">one\n>two\nGGG\n", "heading 'one' has no sequence")]
)
def test_a_file_without_letters_is_refused(tmp_path, text, words):
    with pytest.raises(FormatError, match=words):
        read(tmp_path, text)


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(FormatError, match="give a FASTA file"):
        read_fasta(tmp_path / "none.fasta")


@pytest.mark.parametrize(
    ("heading", "letters", "told"),
    [
        ("101d_A mol:na length:12", "CGCGAATTCGCG", "dna:CGCGAATTCGCG"),
        ("1abc_B mol:na length:4", "CGCA", "rna:CGCA"),
        ("short mol:dna", "GCGC", "dna:GCGC"),
        ("102l_A mol:protein length:3", "MNI", "protein:MNI"),
        ("sp|P1|ONE a molecule", "MKT", "MKT"),
    ],
)
def test_a_heading_may_say_what_a_sequence_is_of(heading, letters, told):
    assert NamedSequence(heading, letters).told == told
