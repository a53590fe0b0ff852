"""Names of instruments and countries, and the check sums of ORCIDs."""

import gemmi
import pytest
from pydantic import ValidationError

from tasks.deposition.names import country_name, detector_name, microscope_name
from tasks.deposition.people import archive_name
from tasks.formats.pdbx import find_dictionary
from tasks.records.deposition import Author


@pytest.mark.parametrize(
    ("told", "microscope"),
    [("TITAN KRIOS 52", "FEI TITAN KRIOS"), ("Glacios-1234", "TFS GLACIOS"), ("TITAN52334130", None), (None, None)],
)
def test_a_microscope_is_named_only_where_its_type_is_told(told, microscope):
    assert microscope_name(told) == microscope


@pytest.mark.parametrize(
    ("told", "detector"),
    [
        ("Falcon 4i", "FEI FALCON IV (4k x 4k)"), ("BM-Falcon", None), ("Falcon III", "FEI FALCON III (4k x 4k)"),
        ("Gatan K3", "GATAN K3 (6k x 4k)"), ("K3 BioQuantum", "GATAN K3 BIOQUANTUM (6k x 4k)"), ("EF-CCD", None),
    ],
)  # fmt: skip
def test_a_detector_is_named_only_where_its_type_is_told(told, detector):
    assert detector_name(told) == detector


def test_countries_are_spelled_as_in_the_dictionary():
    block = gemmi.cif.read(str(find_dictionary()))[0]
    frame = next(i.frame for i in block if i.frame is not None and i.frame.name == "_pdbx_contact_author.country")
    known = {gemmi.cif.as_string(row[0]) for row in frame.find(["_pdbx_item_enumeration.value"])}
    codes = ("AT", "BE", "BR", "CA", "CH", "CN", "CZ", "DE", "DK", "ES", "FI", "FR", "GB", "IL", "IN", "IT", "JP", "KR")
    assert {country_name(code) for code in (*codes, "NL", "NO", "PL", "PT", "RU", "SE", "SG", "TW", "US", "VN")} <= (
        known | {"Taiwan"}
    )
    assert country_name("UK") is None


def test_an_author_is_written_as_the_archives_do():
    assert archive_name(Author(family_name="Curie", initials="MS")) == "Curie, M.S."
    assert archive_name(Author(family_name="Sartre", initials="J.-P.")) == "Sartre, J.-P."


@pytest.mark.parametrize("orcid", ["0000-0002-1825-0097", "0000-0002-1694-233X", None])
def test_an_orcid_with_its_check_sum_is_taken(orcid):
    assert Author(family_name="Curie", initials="M", orcid=orcid).orcid == orcid


@pytest.mark.parametrize("orcid", ["0000-0002-1825-0098", "0000-0002-1825-009", "0000000218250097"])
def test_an_orcid_with_a_slip_is_not(orcid):
    with pytest.raises(ValidationError):
        Author(family_name="Curie", initials="M", orcid=orcid)
