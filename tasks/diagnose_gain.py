"""The gain doctor: whether the gain given is right, a gain where none is, and an alarm when the detector changes.

Each exposure leaves small sums, about 0.3 MB; the session's diagnosis adds them up. A gain is made from full sums of
10 bytes a pixel, one set a session. See `kernels.movies.gain_evidence`, `gain_estimation` and `pattern_watch`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.gain_doctor.counts import FRAMES_AT_A_TIME
from tasks.gain_doctor.course import Course, look_at
from tasks.gain_doctor.course_store import read_course, write_course
from tasks.gain_doctor.estimate import bring_estimate_up_to_date
from tasks.gain_doctor.given_gain import GivenGain, compared_with_another_gain, given_gain, is_of
from tasks.gain_doctor.one_exposure import NoParams, inputs_of, sum_exposure
from tasks.gain_doctor.params import DiagnoseGainParams
from tasks.gain_doctor.products import DIAGNOSIS, GAIN, STAGE, VERSION, digest
from tasks.gain_doctor.verdict import diagnosis_of
from tasks.records.forecast import Need, Outline
from tasks.records.gain import GainDiagnosis
from tasks.records.session import StageReport
from tasks.stores.commit import fingerprint
from tasks.stores.products.exposure_store import SUMMED, is_imported, is_summed
from tasks.stores.products.outline import movies_outline
from tasks.stores.session_store import SessionStore
from tasks.workers.stage import Stage, run_stage

logger = logging.getLogger(__name__)


@task(name=STAGE, cache_policy=NO_CACHE)
def diagnose_gain(session_url: str, exposure_ids: list[str], params: DiagnoseGainParams) -> StageReport:
    """Bring ``session/gain_diagnosis`` up to date with these movies, and ``session/estimated_gain`` where it is due.

    Exposures that their import set aside, as their gain does not fit, are read from their files: give them too.
    Exposures are taken in the order given, which is to be that of acquisition: an alarm names the first exposure that
    shows a change. Memory: see `need` for the sums of an exposure, 80 bytes a pixel for the making of a gain, whatever
    the number of exposures.
    """
    store = SessionStore.open(session_url)
    gain = given_gain(store)
    movies, others = _movies(store, [*compared_with_another_gain(store, gain), *exposure_ids])
    report = run_stage(session_url, _SUMS_OF_EXPOSURE, movies, NoParams())
    report.skipped.update(others)
    available = set(report.available)
    prints = store.fingerprints([_SUMS_OF_EXPOSURE.address_of(e) for e in movies if e in available])
    known = {e: prints[_SUMS_OF_EXPOSURE.address_of(e)] for e in movies if e in available}
    estimate = bring_estimate_up_to_date(store, known, gain, params, report)
    diagnosis = _bring_diagnosis_up_to_date(store, known, gain, estimate, params)
    if diagnosis is not None:
        logger.info(
            "%s: %s; %d exposures, %d alarms", STAGE, diagnosis.verdict, diagnosis.n_exposures, diagnosis.n_alarms
        )
    return report


def _movies(store: SessionStore, exposure_ids: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Movies, once each and in order, and why the others are none."""
    movies, others = [], {}
    for exposure_id in dict.fromkeys(exposure_ids):
        if is_summed(store, exposure_id):
            others[exposure_id] = SUMMED
        else:
            movies.append(exposure_id)
    return movies, others


def _bring_diagnosis_up_to_date(
    store: SessionStore,
    known: dict[str, str],
    gain: GivenGain | None,
    estimate: dict[str, float | int | bool],
    params: DiagnoseGainParams,
) -> GainDiagnosis | None:
    """Write the product anew where there is something new; None where no exposure was ever looked at."""
    product = store.product(DIAGNOSIS)
    record = product.record()
    course = Course()
    is_usable = record is not None and record.state == "done" and record.stage_version == VERSION
    if record is not None and is_usable and is_of(record, gain):
        course = read_course(store, product.read(), record, gain)
    looked_at = course.prints | course.left_out
    if any(looked_at.get(e, fp) != fp for e, fp in known.items()):  # imported anew: look at all again
        order = [*looked_at, *(e for e in known if e not in looked_at)]
        addresses = {e: _SUMS_OF_EXPOSURE.address_of(e) for e in order}
        records = {e: store.product(address).record() for e, address in addresses.items()}
        known = {e: r.fingerprint for e, r in records.items() if r is not None and r.state == "done"}
        course, looked_at = Course(), {}
    new = [e for e in known if e not in looked_at]
    inputs = {"exposures": digest({**looked_at, **known})} | ({GAIN: gain.fingerprint} if gain else {})
    if record is not None and record.is_current(fingerprint(STAGE, VERSION, params, inputs)):
        return GainDiagnosis.model_validate(record.details)
    if not new and not course.prints:
        return None
    look_at(store, course, {e: known[e] for e in new}, gain)
    diagnosis = diagnosis_of(course, gain, estimate)
    with product.write(STAGE, VERSION, params, inputs) as attempt:
        write_course(attempt, course)
        attempt.details = diagnosis.model_dump(mode="json")
        attempt.figures = {
            "kind": diagnosis.kind,
            "verdict": diagnosis.verdict,
            "n_exposures": diagnosis.n_exposures,
            "n_alarms": diagnosis.n_alarms,
            "margin_sigma": round(diagnosis.margin_sigma, 2),
        }
    return diagnosis


def need(about: Outline, has_gain: bool) -> Need:
    """What the sums of an exposure need: 18 times one frame as float32, 28 with a gain, and the frames as read."""
    of_frame = 4 * (28 if has_gain else 18) + FRAMES_AT_A_TIME * about.bytes_per_px
    cpu_seconds = 0.1 + (0.006 * about.n_frames + (0.1 if has_gain else 0.03)) * about.n_px / 1e6
    memory = of_frame * about.n_px + 100_000_000
    return Need(
        stage=STAGE,
        n_items=about.n_exposures,
        memory_bytes=memory,
        disk_bytes=about.n_exposures * 400_000,
        cpu_seconds=about.n_exposures * cpu_seconds,
        told_from=about.frames_words,
        remedy="bin the movies",
    )


def _needs(store: SessionStore, exposure_ids: Sequence[str], _params: NoParams) -> Need | None:
    imported = [e for e in exposure_ids if is_imported(store, e)]
    return need(movies_outline(store, imported), given_gain(store) is not None) if imported else None


_SUMS_OF_EXPOSURE = Stage(STAGE, VERSION, "CPU", sum_exposure, inputs_of, needs=_needs)
