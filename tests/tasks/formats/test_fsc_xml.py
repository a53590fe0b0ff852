"""Shell correlations as EMDB takes them, there and back, and what is none."""

import numpy as np
import pytest

from tasks.formats import FormatError
from tasks.formats.fsc_xml import FscCurve, fsc_xml, read_fsc_xml


def test_a_curve_comes_back_and_stays_within_the_schema(tmp_path):
    frequency, values = np.linspace(0, 0.4, 6), np.array([1.0 + 1e-7, 0.9, 0.5, np.nan, -0.02, 0.1])
    (tmp_path / "fsc.xml").write_bytes(fsc_xml(FscCurve("Half maps <1 & 2>", frequency, values)))
    found = read_fsc_xml(tmp_path / "fsc.xml")
    assert found.title == "Half maps <1 & 2>"
    np.testing.assert_allclose(found.frequency_per_angstrom, frequency, atol=1e-8)
    np.testing.assert_allclose(found.correlation, [1, 0.9, 0.5, 0, -0.02, 0.1], atol=1e-8)


HEAD = '<fsc title="a" xaxis="Resolution (A-1)" yaxis="Correlation Coefficient">'


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("<fsc", "is no XML that can be read"),
        ('<fsc title="a" xaxis="1/A" yaxis="FSC"/>', "found <fsc> with .*1/A.*expected <fsc> with a title, xaxis"),
        (f"{HEAD}</fsc>", "has no coordinates"),
        (f"{HEAD}<coordinate><x>0.1</x><y>1.2</y></coordinate></fsc>", "coordinate 1 .*expected <x> of at least 0"),
        (f"{HEAD}<coordinate><y>0.1</y><x>0.2</x></coordinate></fsc>", r"\['y', 'x'\]"),
        (f"{HEAD}<coordinate><x>0.1</x><y>high</y></coordinate></fsc>", "coordinate 1"),
    ],
)
def test_what_the_schema_does_not_know_is_refused(tmp_path, content, words):
    (tmp_path / "fsc.xml").write_text(content)
    with pytest.raises(FormatError, match=words):
        read_fsc_xml(tmp_path / "fsc.xml")
