"""A gain from the movies: which exposures are added to its sums, and when it is made."""

from __future__ import annotations

from tasks.gain_doctor.full_sums import Merge, merge_and_make, sum_part
from tasks.gain_doctor.given_gain import GivenGain
from tasks.gain_doctor.params import DiagnoseGainParams
from tasks.gain_doctor.products import DIAGNOSIS, ESTIMATE, STAGE, SUMS, VERSION, digest
from tasks.records.gain import GainDiagnosis
from tasks.records.session import StageReport
from tasks.stores.commit import Record
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.location import StoreError
from tasks.workers.connection import require_workers
from tasks.workers.items import run_items
from tasks.workers.usage import stage_usage

_PART_EXPOSURES = 8


def bring_estimate_up_to_date(
    store: SessionStore,
    known: dict[str, str],
    gain: GivenGain | None,
    params: DiagnoseGainParams,
    report: StageReport,
) -> dict[str, float | int | bool]:
    """Add exposures to the full sums and make the gain where it is due; returns the figures of the sums."""
    estimate, sums = store.product(ESTIMATE), store.product(SUMS)
    made = estimate.record()
    if gain is not None or not params.is_estimated:
        if made is not None and made.state == "done":  # not to be used any more
            reason = "a gain is given" if gain is not None else "`is_estimated` is off"
            estimate.put_outcome("skipped", reason, STAGE, VERSION, params, {})
        return {}
    record = sums.record()
    is_usable = record is not None and record.state == "done" and record.stage_version == VERSION
    included: dict[str, str] = record.details["exposures"] if is_usable and record is not None else {}
    if any(included.get(e, fp) != fp for e, fp in known.items()):
        included, record = {}, None
        if made is not None and made.state == "done":
            estimate.put_outcome("skipped", "exposures it was made of were imported anew", STAGE, VERSION, params, {})
    is_same = record is not None and record.params == params.model_dump(mode="json")
    if is_same and record is not None and record.figures.get("is_frozen"):
        return _estimate_figures(record)
    shape = tuple(record.details["shape"]) if record is not None and included else None
    todo: list[str] = []
    before = _before_a_change(store)
    for exposure_id in known:
        is_wanted = exposure_id not in included and (before is None or exposure_id in before)
        if not is_wanted or len(included) + len(todo) >= params.most_exposures:
            continue
        own = (*store.exposure_product(exposure_id, STAGE).read().record.details["shape"],)
        shape = shape or own
        if own == shape:
            todo.append(exposure_id)
    if not todo and (is_same or not included):
        return _estimate_figures(record) if record is not None and included else {}
    after = {**included, **{e: known[e] for e in todo}}
    scratch = f"scratch/{STAGE}/{digest(after)}"
    parts = [(start, todo[start : start + _PART_EXPOSURES]) for start in range(0, len(todo), _PART_EXPOSURES)]
    with stage_usage(require_workers("CPU"), "CPU", report):
        for _, result in run_items(sum_part, parts, store.url, scratch, len(included), label="CPU", name=STAGE):
            if isinstance(result, Exception):
                raise result
        merge = Merge(scratch, [start for start, _ in parts], after, len(included), params)
        for _, result in run_items(merge_and_make, [merge], store.url, label="CPU", name=STAGE):
            if isinstance(result, Exception):
                raise result
    (store.location / scratch).remove()
    record = sums.record()
    if record is None:
        raise StoreError(f"{SUMS}: left no record; check that workers and flow see the same store")
    return _estimate_figures(record)


def _before_a_change(store: SessionStore) -> set[str] | None:
    """Exposures before the first that shows another pattern; None where none does. Later ones need another gain."""
    record = store.product(DIAGNOSIS).record()
    if record is None or record.state != "done":
        return None
    alarms = GainDiagnosis.model_validate(record.details).alarms
    numbers = [alarm.number for alarm in alarms if alarm.kind == "pattern" and alarm.number is not None]
    order = store.product(DIAGNOSIS).read().attributes["exposures"] if numbers else {}
    return set(list(order)[: min(numbers)]) if numbers else None


def _estimate_figures(record: Record) -> dict[str, float | int | bool]:
    return {k: v for k, v in record.figures.items() if isinstance(v, (int, float))}
