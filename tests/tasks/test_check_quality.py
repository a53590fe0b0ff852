"""Changes within a session are found and named; squares, defocus cycles and outliers are none."""

from collections.abc import Iterable

import numpy as np
import pytest

from tasks.check_quality import CheckQualityParams, quality_changes
from tasks.stores.ledger import Line

PARAMS = CheckQualityParams()
N_EXPOSURES = 500
CHANGES_AT = 350
CHANGES = {
    "defocus": ("defocus_u_angstrom", "defocus_v_angstrom"),
    "drift within an exposure": ("drift_angstrom",),
    "motion over a movie": ("total_motion_angstrom",),
    "CTF resolution": ("fit_resolution_angstrom",),
    "picks per exposure": ("n_picks",),
}


def session(seed: int, changed: str | None = None) -> list[Line]:
    """A session in grid squares of 20 to 80 exposures, of different ice, with five defocus targets and 4 % outliers."""
    rng = np.random.default_rng(seed)
    square = np.repeat(np.arange(40), rng.integers(20, 80, 40))[:N_EXPOSURES]
    n = np.arange(N_EXPOSURES)

    def figure(level: float, between: float, within: float) -> np.ndarray:
        """Log-normal, with a part that the exposures of a square share."""
        shared = rng.normal(0, between, 40)[square]
        values = level * np.exp(shared + rng.normal(0, within, N_EXPOSURES))
        return np.where(rng.random(N_EXPOSURES) < 0.04, values * rng.choice([0.2, 5]), values)

    defocus = 8000.0 + 3000 * (n % 5) + rng.normal(0, 600, N_EXPOSURES) + rng.normal(0, 500, 40)[square]
    figures = {
        "defocus_u_angstrom": defocus + 150,
        "defocus_v_angstrom": defocus - 150,
        "drift_angstrom": figure(5, 0.1, 0.3),
        "total_motion_angstrom": figure(20, 0.1, 0.3),
        "fit_resolution_angstrom": figure(4.2, 0.06, 0.1),
        "n_picks": figure(250, 0.2, 0.3),
    }
    factors = {"drift within an exposure": 2.5, "motion over a movie": 2.5, "CTF resolution": 1.6}
    for name in CHANGES.get(changed or "", ()):
        after = n >= CHANGES_AT
        if changed == "defocus":
            figures[name] = figures[name] + 9000 * after
        else:
            figures[name] = figures[name] * np.where(after, factors.get(changed or "", 0.4), 1)
    return [
        Line(
            exposure=f"FoilHole_{1000 + i}_Data_{i}-{i:08x}",
            state="done",
            stage="pick_particles",
            figures={name: float(values[i]) for name, values in figures.items()},
        )
        for i in n
    ]


def alarms(lines: list[Line], looked_at: Iterable[int]) -> dict[str, int]:
    """Figure -> the number of exposures after which it was first told."""
    first: dict[str, int] = {}
    for n in looked_at:
        for change in quality_changes(lines[:n], PARAMS):
            first.setdefault(change.figure, n)
    return first


def test_sessions_without_a_change_raise_hardly_any_alarm():
    """200 sessions of 500 exposures, each looked at eight times for five figures."""
    n_false = sum(bool(alarms(session(seed), range(150, N_EXPOSURES + 1, 50))) for seed in range(200))
    print(f"false alarms in {n_false} of 200 sessions")
    assert n_false <= 8


def test_changes_are_found_and_named_within_fifty_exposures():
    """200 sessions, 40 for each kind of change; squares that differ by a fifth in picks hide some that fall to 40 %."""
    kinds = list(CHANGES)
    told = [alarms(session(1000 + seed, kinds[seed % 5]), (CHANGES_AT + 25, CHANGES_AT + 50)) for seed in range(200)]
    n_found = sum(kinds[seed % 5] in first for seed, first in enumerate(told))
    n_others = sum(len(set(first) - {kinds[seed % 5]}) for seed, first in enumerate(told))
    print(f"{n_found} of 200 found within 50 exposures, {n_others} others told")
    assert n_found >= 180
    assert n_others <= 8


@pytest.mark.parametrize("kind", CHANGES)
def test_the_words_say_from_what_to_what(kind):
    (change,) = quality_changes(session(7, kind)[: CHANGES_AT + 50], PARAMS)
    expected = {"defocus": (14000, 23000), "CTF resolution": (4.2, 6.7), "picks per exposure": (250, 100)}
    before, recent = expected.get(kind, (5, 12.5) if kind.startswith("drift") else (20, 50))
    assert change.before == pytest.approx(before, rel=0.2)
    assert change.recent == pytest.approx(recent, rel=0.3)
    assert change.words.startswith(f"{kind} went from {change.before:.4g} to {change.recent:.4g}")
    assert "FoilHole_1375_Data_375" in change.words


def test_the_order_is_that_of_the_numbers_or_of_the_clock():
    lines = session(8, "defocus")[: CHANGES_AT + 50]
    assert quality_changes(lines[::-1], PARAMS) == quality_changes(lines, PARAMS)
    renamed = [
        line.model_copy(
            update={
                "exposure": f"m{(7919 * i) % 10007}-{i:08x}",
                "figures": {**line.figures, "acquired_at": f"2026-11-{1 + i // 50:02d}T{i % 50:02d}"},
            }
        )
        for i, line in enumerate(lines)
    ]
    assert [c.recent for c in quality_changes(renamed, PARAMS)] == [c.recent for c in quality_changes(lines, PARAMS)]


def test_a_figure_that_is_switched_off_or_missing_is_not_told():
    lines = session(9, "picks per exposure")[: CHANGES_AT + 50]
    assert quality_changes(lines, CheckQualityParams(max_picks_factor=None)) == []
    bare = [line.model_copy(update={"figures": {"warning": "x"}}) for line in lines]
    assert quality_changes(bare, PARAMS) == []
