"""The report lists what was placed, what was asked for in vain, and what nothing explains."""

from tasks.records.placement import PlacedResidue, Placement, RefusedLigand, UnexplainedDensity
from tasks.report.model_placement import placement_tables

LIGAND = PlacedResidue(
    kind="ligand", chain="B", number=1, name="ATP", place_angstrom=(1.0, 2.0, 3.0), sigma=8.0, share=0.9,
    half_sigma=5.0, neighbour="A/LYS12", distance_angstrom=2.8, probability=0.97, correlation=0.88, gain_nats=300.0,
)  # fmt: skip
WATER = PlacedResidue(
    kind="water", chain="C", number=4, name="HOH", place_angstrom=(1.0, 2.0, 3.0), sigma=6.5, share=0.8,
    half_sigma=None, neighbour="A/SER3 OG", distance_angstrom=2.7,
)  # fmt: skip


def test_rows_stand_in_tables_by_x_y_z():
    found = Placement(
        resolution_angstrom=2.4,
        placed=(LIGAND, WATER),
        refused=(RefusedLigand(name="LIG", told="C<C", reason="the density does not support it"),),
        unexplained=(
            UnexplainedDensity(
                place_angstrom=(9.0, 8.0, 7.0), peak_sigma=7.1, volume_angstrom3=55.0, neighbour="A/TRP7",
                distance_angstrom=3.3, words="name it",
            ),
        ),
        water_words="1 waters, looked for at 2.40 Å",
    )  # fmt: skip
    html = placement_tables(found)
    assert "B/ATP1" in html and "3.0, 2.0, 1.0" in html and "0.97" in html
    assert "LIG (C&lt;C) is not placed: the density does not support it." in html
    assert html.index("<details>") < html.index("C/HOH4")
    assert "7.0, 8.0, 9.0" in html and "A/TRP7" in html


def test_nothing_to_tell_is_told():
    html = placement_tables(Placement(resolution_angstrom=4.0, water_words="no waters: too coarse"))
    assert "<table" not in html
    assert "No waters: too coarse." in html
