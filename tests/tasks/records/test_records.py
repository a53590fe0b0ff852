"""Records refuse what cannot be, and particle tables keep their columns together."""

import numpy as np
import pytest
from pydantic import Field, ValidationError

from kernels.optics import Optics
from tasks.records.exposure import Exposure
from tasks.records.particles import ParticleSet, concatenate
from tasks.records.session import StageParams, parameter_title

OPTICS = Optics(300, 2.7, 0.1, 1.1)


def particles(ids: tuple[str, ...], n: int, first: int = 0) -> ParticleSet:
    columns = {
        "exposure": np.arange(n) % len(ids),
        "stack_index": np.arange(n),
        "pick_score": np.arange(first, first + n),
    }
    return ParticleSet(ids, columns)


def test_a_micrograph_with_frames_is_refused():
    with pytest.raises(ValidationError, match="1 frame, found 7"):
        Exposure(
            id="a", name="a", source="a", content_hash="", kind="micrograph", n_frames=7, shape=(4, 5), optics=OPTICS
        )


def test_columns_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="different lengths"):
        ParticleSet(("a",), {"exposure": np.zeros(3), "stack_index": np.zeros(4)})


def test_an_unknown_column_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="defocus_u_angstrom"):
        ParticleSet(("a",), {"colour": np.zeros(3)})


def test_concatenation_renumbers_the_exposures():
    both = concatenate([particles(("a", "b"), 4), particles(("b", "c"), 2, first=4)])
    assert both.exposure_ids == ("a", "b", "c")
    assert [both.exposure_ids[i] for i in both["exposure"]] == ["a", "b", "a", "b", "b", "c"]
    np.testing.assert_array_equal(both["pick_score"], np.arange(6))


def test_a_selection_keeps_rows_together():
    chosen = particles(("a",), 5).select(np.array([3, 1]))
    assert list(chosen["stack_index"]) == list(chosen["pick_score"]) == [3, 1]


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("box_size_px", "Box size (px)"),
        ("pixel_size_angstrom", "Pixel size (Å)"),
        ("gain_rotation_deg", "Gain rotation (°)"),
        ("n_classes", "Classes (number)"),
        ("classify_2d", "Classify 2D"),
        ("seed", "Seed"),
    ],
)
def test_a_parameter_is_shown_with_its_unit(name, title):
    assert parameter_title(name) == title


def test_the_docstring_of_a_parameter_describes_it_in_the_schema():
    class DriftParams(StageParams):
        max_drift_angstrom: float = Field(default=35.0, gt=0)
        """Motion left in the micrograph."""

    found = DriftParams.model_json_schema()["properties"]["max_drift_angstrom"]
    assert found == {
        "default": 35.0,
        "description": "Motion left in the micrograph.",
        "exclusiveMinimum": 0,
        "title": "Max drift (Å)",
        "type": "number",
    }
