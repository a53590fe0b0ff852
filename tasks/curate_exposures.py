"""Which exposures are worth going on with: accepted, or rejected with the reason."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field, model_validator

from tasks.records.session import StageParams, StageReport
from tasks.stores.commit import Attempt, Figure
from tasks.stores.products.exposure_store import exposure
from tasks.stores.session_store import SessionStore
from tasks.workers.stage import SkipItem, Stage, run_stage


class CurateExposuresParams(StageParams):
    """Limits; an exposure beyond any of them is rejected, and None switches a limit off."""

    max_fit_resolution_angstrom: float | None = Field(default=10.0, gt=0)
    """Coarser fits are rejected."""
    min_defocus_angstrom: float | None = Field(default=4000.0, ge=0)
    max_defocus_angstrom: float | None = Field(default=45000.0, gt=0)
    """Of the mean of u and v."""
    max_astigmatism_angstrom: float | None = Field(default=2500.0, gt=0)
    max_drift_angstrom: float | None = Field(default=35.0, gt=0)
    """Motion left inside the micrograph, from how its spectrum differs between directions: at the limit, 1 % of the
    power at 30 Å is left along the motion. Of the micrographs on which it was set, three good ones (one of them visibly
    drifted) have 3, 5 and 20 Å, one ruined by drift 72 Å."""
    max_motion_angstrom: float | None = Field(default=150.0, gt=0)
    """Way of the whole field over all frames of a movie; what is corrected does little harm."""
    max_early_motion_angstrom: float | None = Field(default=60.0, gt=0)
    """The same over the first frames, where motion within a frame blurs most."""
    max_ice_ring_ratio: float | None = Field(default=1.8, gt=1)
    """Power at 3.9 to 3.4 Å over that beside; vitreous ice has 1.0 to 1.3, crystals a multiple."""

    @model_validator(mode="after")
    def _some_defocus_passes(self) -> CurateExposuresParams:
        self.require_rising("min_defocus_angstrom", "max_defocus_angstrom")
        return self


@task(name="curate_exposures", cache_policy=NO_CACHE)
def curate_exposures(session_url: str, exposure_ids: list[str], params: CurateExposuresParams) -> StageReport:
    """Accept or reject every exposure by its figures; the rejected ones are skipped by all later stages.

    Nothing is computed from pixels: the figures are those that `estimate_ctf` and `correct_motion` recorded.
    """
    return run_stage(session_url, _STAGE, exposure_ids, params)


def _inputs(store: SessionStore, exposure_id: str) -> list[str]:
    stages = ["estimate_ctf"]
    if exposure(store, exposure_id).kind == "movie":
        stages.append("correct_motion")
    return [f"exposures/{exposure_id}/{stage}" for stage in stages]


def _compute(store: SessionStore, exposure_id: str, params: CurateExposuresParams, attempt: Attempt) -> None:
    figures: dict[str, Figure] = {}
    for address in _inputs(store, exposure_id):
        record = store.product(address).record()
        if record is not None:
            figures |= record.figures
    reasons = _reasons(figures, params)
    if reasons:
        raise SkipItem(f"rejected: {'; '.join(reasons)}")
    attempt.figures["is_accepted"] = True


_STAGE = Stage("curate_exposures", 1, "CPU", _compute, _inputs)


def _reasons(figures: dict[str, Figure], params: CurateExposuresParams) -> list[str]:
    """What is beyond its limit, the likeliest cause first: a drifted exposure has a poor fit as well."""

    def is_beyond(value: float | None, limit: float | None) -> bool:
        return value is not None and limit is not None and not value <= limit

    reasons = []
    drift = _number(figures, "drift_angstrom")
    if is_beyond(drift, params.max_drift_angstrom):
        reasons.append(
            f"drift of {drift:.0f} Å within the exposure along {_number(figures, 'drift_angle_deg') or 0:.0f}°"
            f" (limit {params.max_drift_angstrom:g} Å)"
        )
    for name, words, limit in (
        ("total_motion_angstrom", "drift over the movie", params.max_motion_angstrom),
        ("early_motion_angstrom", "early motion", params.max_early_motion_angstrom),
        ("astigmatism_angstrom", "astigmatism", params.max_astigmatism_angstrom),
        ("fit_resolution_angstrom", "CTF fits only to", params.max_fit_resolution_angstrom),
    ):
        value = _number(figures, name)
        if is_beyond(value, limit):
            reasons.append(f"{words} {value:.4g} Å (limit {limit:g} Å)")
    u, v = _number(figures, "defocus_u_angstrom"), _number(figures, "defocus_v_angstrom")
    if u is not None and v is not None:
        mean = 0.5 * (u + v)
        if is_beyond(mean, params.max_defocus_angstrom):
            reasons.append(f"defocus {mean:.0f} Å (limit {params.max_defocus_angstrom:g} Å)")
        if params.min_defocus_angstrom is not None and not mean >= params.min_defocus_angstrom:
            reasons.append(f"defocus {mean:.0f} Å (at least {params.min_defocus_angstrom:g} Å)")
    ice = _number(figures, "ice_ring_ratio")
    if is_beyond(ice, params.max_ice_ring_ratio):
        reasons.append(f"crystalline ice, ring ratio {ice:.2f} (limit {params.max_ice_ring_ratio:g})")
    return reasons


def _number(figures: dict[str, Figure], name: str) -> float | None:
    value = figures.get(name)
    return None if value is None or isinstance(value, str) else float(value)
