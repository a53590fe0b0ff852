"""The gain doctor: whether the gain given is right, a gain where none is, and an alarm when the detector changes.

Each exposure leaves small sums, about 0.3 MB; the session's diagnosis adds them up. A gain is made from full sums of
10 bytes a pixel, one set a session. See `kernels.movies.gain_evidence`, `gain_estimation` and `pattern_watch`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field, model_validator
from torch import Tensor

from kernels.movies.fixed_pattern import Detail, detail
from kernels.movies.gain import Flip, combined
from kernels.movies.gain_estimation import PatternSums, estimate_gain
from kernels.movies.gain_evidence import (
    GainUse,
    GainVerdict,
    Meaning,
    binning,
    compared_pixels,
    evidence,
    judge,
    patterns,
    scores,
    uses,
)
from kernels.movies.pattern_watch import ExposureSummary, Finding, Watch, summarise
from tasks.formats import FormatError
from tasks.formats.exposure_file import FileParams, open_exposure
from tasks.records.forecast import Need, Outline
from tasks.records.gain import GainAlarm, GainDiagnosis, GainRow
from tasks.records.session import StageParams, StageReport
from tasks.stores.commit import Attempt, Reader, Record, fingerprint
from tasks.stores.products.exposure_store import exposure
from tasks.stores.products.outline import is_imported, movies_outline
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.location import StoreError
from tasks.workers.connection import require_workers
from tasks.workers.device import device
from tasks.workers.items import run_items
from tasks.workers.stage import SkipItem, Stage, run_stage
from tasks.workers.usage import stage_usage

logger = logging.getLogger(__name__)

_STAGE, _VERSION = "diagnose_gain", 1
_GAIN, _DIAGNOSIS = "session/gain", "session/gain_diagnosis"
_SUMS, _ESTIMATE = "session/gain_sums", "session/estimated_gain"
_LEAST_COUNTS = 0.05
"""Electrons on a pixel in a whole movie; with fewer the beam was off."""
_WINDOW_STEPS = 16.0
"""Steps of the stored window in one standard deviation of it."""
_EVIDENCE_EXPOSURES = 64
"""The first ones; what comes later speaks for changes, not for the gain as it was given."""
_PART_EXPOSURES = 8
_MOST_ALARMS = 200
_FRAMES_AT_A_TIME = 4


class DiagnoseGainParams(StageParams):
    """When a gain is made from the movies themselves."""

    is_estimated: bool = True
    """Make a gain where none is given; `correct_motion` uses it from then on."""
    least_explained: float = Field(default=0.3, gt=0, le=1)
    """Share of the fixed pattern's variance that the gain has to take away before it is used."""
    enough_explained: float = Field(default=0.95, gt=0, le=1)
    """From here on the gain is not made anew."""
    most_exposures: int = Field(default=512, ge=2, le=4000)
    """Nor from here on. In between it is made anew when the exposures have doubled. A live session corrects each movie
    with the gain of that moment, and those that came before the last one once more when it is finished."""

    @model_validator(mode="after")
    def _used_before_enough(self) -> DiagnoseGainParams:
        self.require_not_falling("least_explained", "enough_explained")
        return self


class _NoParams(StageParams):
    """The sums of an exposure depend on nothing but counts and gain."""


@task(name=_STAGE, cache_policy=NO_CACHE)
def diagnose_gain(session_url: str, exposure_ids: list[str], params: DiagnoseGainParams) -> StageReport:
    """Bring ``session/gain_diagnosis`` up to date with these movies, and ``session/estimated_gain`` where it is due.

    Exposures that their import set aside, as their gain does not fit, are read from their files: give them too.
    Exposures are taken in the order given, which is to be that of acquisition: an alarm names the first exposure that
    shows a change. Memory: see `need` for the sums of an exposure, 80 bytes a pixel for the making of a gain, whatever
    the number of exposures.
    """
    store = SessionStore.open(session_url)
    gain = _given_gain(store)
    movies, others = _movies(store, [*_compared_with_another_gain(store, gain), *exposure_ids])
    report = run_stage(session_url, _SUMS_OF_EXPOSURE, movies, _NoParams())
    report.skipped.update(others)
    available = set(report.available)
    prints = store.fingerprints([_SUMS_OF_EXPOSURE.address_of(e) for e in movies if e in available])
    known = {e: prints[_SUMS_OF_EXPOSURE.address_of(e)] for e in movies if e in available}
    estimate = _bring_estimate_up_to_date(store, known, gain, params, report)
    diagnosis = _bring_diagnosis_up_to_date(store, known, gain, estimate, params)
    if diagnosis is not None:
        logger.info(
            "%s: %s; %d exposures, %d alarms", _STAGE, diagnosis.verdict, diagnosis.n_exposures, diagnosis.n_alarms
        )
    return report


def _movies(store: SessionStore, exposure_ids: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Movies, once each and in order, and why the others are none."""
    movies, others = [], {}
    for exposure_id in dict.fromkeys(exposure_ids):
        record = store.exposure_product(exposure_id, "import_session").record()
        if record is not None and record.state == "done" and exposure(store, exposure_id).kind == "micrograph":
            others[exposure_id] = "a micrograph; it was summed before it came here"
        else:
            movies.append(exposure_id)
    return movies, others


# the gain given


@dataclass(frozen=True)
class _GivenGain:
    """What ``session/gain`` holds, and how it came from its file."""

    shape: tuple[int, int]
    fingerprint: str
    rotation_deg: int = 0
    flip: Flip = "none"
    meaning: Meaning = "multiply"
    binning: float = 1.0

    def absolute(self, use: GainUse) -> tuple[int, Flip, Meaning]:
        """Rotation, flip and meaning of the file for a use of the gain in the store."""
        angle, flip = combined(self.rotation_deg, self.flip, use.rotation_deg, use.flip)
        other: dict[Meaning, Meaning] = {"multiply": "divide", "divide": "multiply"}
        return angle, flip, self.meaning if use.meaning == "multiply" else other[self.meaning]


def _given_gain(store: SessionStore) -> _GivenGain | None:
    product = store.product(_GAIN)
    record = product.record()
    if record is None or record.state != "done":
        return None
    reader = product.read()
    if "gain" not in reader:
        return None
    n_y, n_x = reader.shape("gain")
    meaning = record.params.get("meaning", "auto")
    if meaning not in ("multiply", "divide"):
        # RELION's rule: a reference for EER movies holds the response, unless it is a .gain file
        meaning = "divide" if record.params.get("is_for_eer") else "multiply"
    rotation, flip = int(record.params.get("rotation_deg", 0)), record.params.get("flip", "none")
    binned_by = float(record.params.get("binning", 1))
    return _GivenGain((n_y, n_x), record.fingerprint, rotation, flip, meaning, binned_by)


def _compared_with_another_gain(store: SessionStore, gain: _GivenGain | None) -> list[str]:
    """Exposures of the diagnosis, where it is about another gain than the one given now."""
    record = store.product(_DIAGNOSIS).record()
    if record is None or record.state != "done" or _is_of(record, gain):
        return []
    return list(store.product(_DIAGNOSIS).read().attributes["exposures"])


def _is_of(record: Record, gain: _GivenGain | None) -> bool:
    return record.inputs.get(_GAIN) == (gain.fingerprint if gain is not None else None)


# sums of one exposure


def _inputs(store: SessionStore, exposure_id: str) -> list[str]:
    record = store.exposure_product(exposure_id, "import_session").record()
    # one that was set aside is known by its id, which has the hash of its content
    addresses = [] if _file_set_aside(record) else [f"exposures/{exposure_id}/import_session"]
    gain = store.product(_GAIN).record()
    return [*addresses, _GAIN] if gain is not None and gain.state == "done" else addresses


def _compute(store: SessionStore, exposure_id: str, params: _NoParams, attempt: Attempt) -> None:
    counts = _summed_counts(store, exposure_id)
    shape = (int(counts.shape[0]), int(counts.shape[1]))
    gain, is_defect = _gain_arrays(store)
    is_good = torch.ones_like(counts, dtype=torch.bool)
    if is_defect is not None and is_defect.shape == counts.shape:
        is_good = ~is_defect.to(counts.device)
    found = detail(counts, is_good)
    if not float(found.expected.mean()) > _LEAST_COUNTS:
        raise SkipItem(f"{float(found.expected.mean()):.2g} counts on a pixel: the beam was off, or hardly on")
    summary = summarise(counts, found, is_good)
    attempt.figures.update(mean_counts=round(summary.mean_counts, 4), noise=round(summary.noise, 4))
    of: list[GainUse] = []
    if gain is not None:
        attempt.details["gain_shape"] = list(gain.shape)
        factor = binning(gain.shape, shape)
        if factor is not None:
            of = uses(gain.shape, shape)
            pattern, rms = _patterns(store.url, store.fingerprints([_GAIN])[_GAIN], factor)
            on = {meaning: one.to(counts.device) for meaning, one in pattern.items()}
            sums = evidence(found, on, of, seed=sum(exposure_id.encode()))
            attempt.write("evidence", sums.cpu().numpy())
            as_given = scores(sums, of)[0]
            attempt.figures.update(
                gain_agreement=round(as_given.agreement, 4),
                gain_agreement_error=round(as_given.standard_error, 5),
                gain_pattern_percent=round(100 * rms, 3),
            )
    _write_summary(attempt, summary, shape)


def need(about: Outline, has_gain: bool) -> Need:
    """What the sums of an exposure need: 18 times one frame as float32, 28 with a gain, and the frames as read."""
    of_frame = 4 * (28 if has_gain else 18) + _FRAMES_AT_A_TIME * about.bytes_per_px
    cpu_seconds = 0.1 + (0.006 * about.n_frames + (0.1 if has_gain else 0.03)) * about.n_px / 1e6
    memory = of_frame * about.n_px + 100_000_000
    return Need(
        stage=_STAGE,
        n_items=about.n_exposures,
        memory_bytes=memory,
        least_memory_bytes=memory,
        disk_bytes=about.n_exposures * 400_000,
        cpu_seconds=about.n_exposures * cpu_seconds,
        told_from=about.frames_words,
        remedy="bin the movies",
    )


def _needs(store: SessionStore, exposure_ids: Sequence[str], _params: _NoParams) -> Need | None:
    imported = [e for e in exposure_ids if is_imported(store, e)]
    return need(movies_outline(store, imported), _given_gain(store) is not None) if imported else None


_SUMS_OF_EXPOSURE = Stage(_STAGE, _VERSION, "CPU", _compute, _inputs, needs=_needs)


def _summed_counts(store: SessionStore, exposure_id: str) -> Tensor:
    """(y, x) float32 sum of the frames that are finite, read a few at a time."""
    record = store.exposure_product(exposure_id, "import_session").record()
    path = _file_set_aside(record)
    if record is not None and path is not None:
        return _sum(_frames_of_file(path, FileParams.model_validate(record.params)))
    about = exposure(store, exposure_id)
    reader = store.exposure_product(exposure_id, "import_session").read()
    steps = range(0, about.n_frames, _FRAMES_AT_A_TIME)
    return _sum(frame for start in steps for frame in reader.slice("frames", slice(start, start + _FRAMES_AT_A_TIME)))


def _file_set_aside(record: Record | None) -> Path | None:
    """The file of an exposure that its import would not take, for instance as its gain does not fit."""
    if record is None or record.state != "quarantined" or not record.details.get("file"):
        return None
    return Path(record.details["file"]["path"])


def _frames_of_file(path: Path, params: FileParams) -> Iterator[NDArray]:
    try:
        image = open_exposure(path, params)
        if image.n_frames == 1:
            raise SkipItem(f"{path}: has one frame and is no movie")
        for frame in range(image.n_frames):
            yield image.frame(frame)
    except (FormatError, OSError) as error:
        raise SkipItem(f"{path}: cannot be read ({error})") from error


def _sum(frames: Iterable[NDArray]) -> Tensor:
    total: Tensor | None = None
    for frame in frames:
        image = torch.from_numpy(np.ascontiguousarray(frame)).to(device()).float()
        if bool(image.isfinite().all()):
            total = image if total is None else total + image
    if total is None:
        raise ValueError("no frame is free of NaN; import the movie again")
    return total


def _gain_arrays(store: SessionStore) -> tuple[Tensor | None, Tensor | None]:
    """(y, x) gain, and (y, x) bool where the detector is bad, as they lie in the store."""
    product = store.product(_GAIN)
    record = product.record()
    if record is None or record.state != "done":
        return None, None
    reader = product.read()
    gain = torch.from_numpy(reader["gain"]) if "gain" in reader else None
    is_defect = torch.from_numpy(reader["is_defect"]).bool() if "is_defect" in reader else None
    return gain, is_defect


@lru_cache(maxsize=1)
def _patterns(session_url: str, _fingerprint: str, factor: float) -> tuple[dict[Meaning, Tensor], float]:
    """Patterns of the gain given, and the RMS of the one as given; a worker keeps the last."""
    gain, _ = _gain_arrays(SessionStore.open(session_url))
    assert gain is not None
    found = patterns(gain, factor)
    return found, float(found["multiply"].square().mean().sqrt())


def _write_summary(attempt: Attempt, summary: ExposureSummary, shape: tuple[int, int]) -> None:
    step = max(1e-9, float(summary.window.std()) / _WINDOW_STEPS)
    attempt.write("window", (summary.window / step).round().clamp(-127, 127).to(torch.int8).cpu().numpy())
    attempt.write("column_profile", summary.column_profile.float().cpu().numpy())
    attempt.write("row_profile", summary.row_profile.float().cpu().numpy())
    attempt.write("odd_pixel", summary.odd_pixel.cpu().numpy().astype(np.int64))
    attempt.figures["n_odd_pixels"] = len(summary.odd_pixel)
    attempt.details.update(window_step=step, shape=list(shape), mean_counts=summary.mean_counts, noise=summary.noise)


def _read_summary(reader: Reader) -> ExposureSummary:
    details = reader.record.details
    return ExposureSummary(
        torch.from_numpy(reader["window"]).float() * float(details["window_step"]),
        torch.from_numpy(reader["column_profile"]),
        torch.from_numpy(reader["row_profile"]),
        torch.from_numpy(reader["odd_pixel"]),
        float(details["mean_counts"]),
        float(details["noise"]),
    )


# the diagnosis of the session


@dataclass
class _Course:
    """The session so far; what the next batch is added to."""

    prints: dict[str, str] = field(default_factory=dict)
    """Exposure -> fingerprint of its sums, in the order in which they were looked at."""
    left_out: dict[str, str] = field(default_factory=dict)
    """The same of exposures whose frames have another shape than the first."""
    shape: tuple[int, int] | None = None
    watch: Watch = field(default_factory=Watch)
    evidence: Tensor | None = None
    """(use, 3)"""
    n_evidence: int = 0
    chosen: int | None = None
    """Number of the use that is watched, once it is clear."""
    alarms: list[GainAlarm] = field(default_factory=list)
    n_alarms: int = 0
    counts_sum: float = 0.0
    series: list[tuple[float, float, float]] = field(default_factory=list)
    """Counts on a pixel, agreement with the use as given, its error; NaN where there is none."""


def _bring_diagnosis_up_to_date(
    store: SessionStore,
    known: dict[str, str],
    gain: _GivenGain | None,
    estimate: dict[str, float | int | bool],
    params: DiagnoseGainParams,
) -> GainDiagnosis | None:
    """Write the product anew where there is something new; None where no exposure was ever looked at."""
    product = store.product(_DIAGNOSIS)
    record = product.record()
    course = _Course()
    is_usable = record is not None and record.state == "done" and record.stage_version == _VERSION
    if record is not None and is_usable and _is_of(record, gain):
        course = _read_course(store, product.read(), record, gain)
    looked_at = course.prints | course.left_out
    if any(looked_at.get(e, fp) != fp for e, fp in known.items()):  # imported anew: look at all again
        order = [*looked_at, *(e for e in known if e not in looked_at)]
        addresses = {e: _SUMS_OF_EXPOSURE.address_of(e) for e in order}
        records = {e: store.product(address).record() for e, address in addresses.items()}
        known = {e: r.fingerprint for e, r in records.items() if r is not None and r.state == "done"}
        course, looked_at = _Course(), {}
    new = [e for e in known if e not in looked_at]
    inputs = {"exposures": _digest({**looked_at, **known})} | ({_GAIN: gain.fingerprint} if gain else {})
    if record is not None and record.is_current(fingerprint(_STAGE, _VERSION, params, inputs)):
        return GainDiagnosis.model_validate(record.details)
    if not new and not course.prints:
        return None
    _look_at(store, course, {e: known[e] for e in new}, gain)
    diagnosis = _diagnosis(course, gain, estimate)
    with product.write(_STAGE, _VERSION, params, inputs) as attempt:
        _write_course(attempt, course)
        attempt.details = diagnosis.model_dump(mode="json")
        attempt.figures = {
            "kind": diagnosis.kind,
            "verdict": diagnosis.verdict,
            "n_exposures": diagnosis.n_exposures,
            "n_alarms": diagnosis.n_alarms,
            "margin_sigma": round(diagnosis.margin_sigma, 2),
        }
    return diagnosis


def _digest(prints: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(sorted(prints.items())).encode()).hexdigest()[:32]


def _look_at(store: SessionStore, course: _Course, new: dict[str, str], gain: _GivenGain | None) -> None:
    """Add exposures to the course: first what they say of the gain, then, one after another, what changed."""
    readers = {}
    for exposure_id, print_ in new.items():
        reader = store.product(_SUMS_OF_EXPOSURE.address_of(exposure_id)).read()
        n_y, n_x = reader.record.details["shape"]
        course.shape = course.shape or (n_y, n_x)
        if (n_y, n_x) != course.shape:
            course.left_out[exposure_id] = print_
            continue
        readers[exposure_id] = reader
        if "evidence" in reader and course.n_evidence < _EVIDENCE_EXPOSURES:
            sums = torch.from_numpy(reader["evidence"])
            course.evidence = sums if course.evidence is None else course.evidence + sums
            course.n_evidence += 1
    for exposure_id, reader in readers.items():
        summary = _read_summary(reader)
        course.prints[exposure_id] = new[exposure_id]
        course.counts_sum += summary.mean_counts
        agreement = _agreement(reader, gain, course)
        course.series.append((summary.mean_counts, *(agreement or (math.nan, math.nan))))
        if agreement is not None:
            summary = replace(summary, agreement=agreement[0], agreement_error=agreement[1])
        assert course.shape is not None
        course.watch, findings = course.watch.look(summary, course.shape)
        for finding in findings:
            _raise_alarm(course, finding)


def _agreement(reader: Reader, gain: _GivenGain | None, course: _Course) -> tuple[float, float] | None:
    """Agreement of an exposure with the gain in the use that fits the session, and its standard error."""
    if gain is None or course.evidence is None or course.shape is None or "evidence" not in reader:
        return None
    of = uses(gain.shape, course.shape)
    if course.chosen is None:
        found = scores(course.evidence, of)
        verdict = judge(found, None, 1.0)
        if verdict.kind not in ("as given", "other way") or verdict.best is None:
            return None
        course.chosen = of.index(verdict.best.use)
    score = scores(torch.from_numpy(reader["evidence"]), of)[course.chosen]
    return score.agreement, score.standard_error


def _raise_alarm(course: _Course, finding: Finding) -> None:
    number = max(0, finding.exposure)
    first = list(course.prints)[number]
    words = f"from exposure {first} on: {_what_changed(finding)}"
    course.n_alarms += 1
    logger.warning("%s: alarm: %s", _STAGE, words)
    if len(course.alarms) < _MOST_ALARMS:
        course.alarms.append(
            GainAlarm(
                kind=finding.kind, exposure=first, number=number, size=finding.size, region_px=finding.region,
                words=words,
            )
        )  # fmt: skip


def _what_changed(finding: Finding) -> str:
    if finding.kind == "gain agreement":
        return (
            f"the agreement of the counts with the gain changed by {finding.size:+.2f}, expected less than 0.1; the "
            "gain of the detector was measured anew or its mode was changed: import the exposures from here on as a "
            "session of their own with the gain that belongs to them"
        )
    if finding.kind == "pattern":
        return (
            f"the fixed pattern of the counts changed by {100 * finding.size:.1f} % RMS (the exposure is right to "
            "within 3); import the exposures from here on as a session of their own, with the gain that "
            "belongs to them"
        )
    assert finding.region is not None
    x, y, width, height = finding.region
    lines = f"add `{x} {y} {width} {height}` to the session's defects"
    if finding.kind == "pixels":
        return f"new bad pixels in a cluster of {width} × {height} at column {x}, row {y}; {lines}"
    name, number, count = ("column", x, width) if finding.kind == "column" else ("row", y, height)
    which = f"{name} {number}" if count == 1 else f"{name}s {number} to {number + count - 1}"
    return f"{which} counts {100 * finding.size:+.0f} % of its neighbours since then; {lines}"


# verdicts in words


def _diagnosis(
    course: _Course, gain: _GivenGain | None, estimate: dict[str, float | int | bool]
) -> GainDiagnosis:  # fmt: skip
    power = course.watch.pattern_power
    own = math.sqrt(max(0.0, power[0])) if power is not None else None
    limit = course.watch.pattern_limit
    n = len(course.prints)
    common: dict[str, Any] = {
        "n_exposures": n,
        "mean_counts": round(course.counts_sum / max(1, n), 4),
        "pattern_percent": None if own is None else round(100 * own, 3),
        "pattern_limit_percent": None if limit is None else round(100 * limit, 3),
        "alarms": course.alarms,
        "n_alarms": course.n_alarms,
        "estimate": estimate,
    }
    if gain is None:
        kind, words = _words_without_gain(estimate)
        return GainDiagnosis(kind=kind, verdict=words, **common)  # type: ignore[arg-type]
    assert course.shape is not None
    factor = binning(gain.shape, course.shape)
    if factor is None or course.evidence is None:
        words = (
            f"the gain is {gain.shape} but the frames are {course.shape}, and no binning by 2 or 4 fits; give the gain "
            "of this detector and mode"
        )
        return GainDiagnosis(kind="other shape", verdict=words, **common)
    found = scores(course.evidence, uses(gain.shape, course.shape))
    gain_rms = _gain_pattern_rms(course)
    # by what the windows can tell: a pattern half as strong as the gain's has to be clear of their noise
    is_known = power is not None and 3 * power[1] < 0.25 * gain_rms**2
    verdict = judge(found, own if is_known else None, gain_rms)
    rows = []
    for score in sorted(found, key=lambda s: s.sigma, reverse=True):
        angle, flip, meaning = gain.absolute(score.use)
        rows.append(
            GainRow(
                rotation_deg=angle, flip=flip, meaning=meaning, binning=factor * gain.binning,
                agreement=round(score.agreement, 4), standard_error=round(score.standard_error, 6),
                sigma=round(score.sigma, 2), is_as_given=score.use == found[0].use,
            )
        )  # fmt: skip
    words, recipe = _words(verdict, gain, factor, course.n_evidence)
    return GainDiagnosis(
        kind=verdict.kind, verdict=words, recipe=recipe, rows=rows, margin_sigma=round(verdict.margin_sigma, 2),
        gain_pattern_percent=round(100 * gain_rms, 3), **common,
    )  # fmt: skip


def _gain_pattern_rms(course: _Course) -> float:
    """RMS of the gain's pattern, weighted with the counts; from the evidence, which has it times counts and pixels."""
    assert course.evidence is not None and course.shape is not None
    n_pixels = compared_pixels(course.shape)
    counts = sum(mean for mean, _, _ in course.series[: course.n_evidence])
    return math.sqrt(max(0.0, float(course.evidence[0, 1]) / n_pixels / max(1e-9, counts)))


def _words(
    verdict: GainVerdict, gain: _GivenGain, factor: float, n_exposures: int
) -> tuple[str, dict[str, int | float | str]]:  # fmt: skip
    best = verdict.best
    if best is None:
        return "the gain is flat and corrects nothing; give the gain reference of the detector", {}
    figures = f"agreement {best.agreement:.2f} ± {best.standard_error:.2g}"
    angle, flip, meaning = gain.absolute(best.use)
    size = (
        "" if factor == 1 else f" after binning by {factor:g}: the gain has {factor:g} pixels along each of the frames"
    )
    rebinned: dict[str, int | float | str] = {} if factor == 1 else {"gain_binning": factor * gain.binning}
    recipe = {"gain_rotation_deg": angle, "gain_flip": flip, "gain_meaning": meaning, **rebinned}
    if verdict.kind == "as given":
        part = "" if best.agreement > 0.8 else "; only in part, so it may be of another day: measure it anew"
        return f"as given{size} ({figures}){part}", rebinned
    if verdict.kind == "other way":
        return f"{_steps(best.use)}{size} ({figures}, {verdict.margin_sigma:.0f} sigma before the next)", recipe
    if verdict.kind == "ambiguous":
        return f"the gain is alike in several orientations, the best of them: {_steps(best.use)}{size} ({figures})", {}
    if verdict.kind == "already corrected":
        return (
            f"counts already corrected: they show no fixed pattern ({figures}); leave `gain` out of the recipe",
            {"gain": "null"},
        )
    if verdict.kind == "another gain":
        return (
            f"the gain of another detector, mode or day: the counts have a fixed pattern and it is not this one in any "
            f"orientation ({figures}); give the gain that belongs to the session",
            {},
        )
    needed = math.ceil(max(n_exposures + 1, verdict.exposures_needed * n_exposures))
    return f"no evidence: too few counts, about {needed} exposures are needed", {}


def _steps(use: GainUse) -> str:
    """What to do to the gain as it is in the store."""
    turned = f"rotate {use.rotation_deg}°" if use.rotation_deg else ""
    flipped = "flip vertically" if use.flip == "vertical" else ""
    meant = "use it the other way (multiply or divide)" if use.meaning == "divide" else ""
    return " and ".join(part for part in (turned, flipped, meant) if part) or "as given"


def _words_without_gain(estimate: dict[str, float | int | bool]) -> tuple[str, str]:
    if not estimate:
        return "no gain", "no gain was given, and none is made"
    n, rms = int(estimate["n_exposures"]), float(estimate["pattern_percent"])
    if estimate["is_used"]:
        n_earlier = int(estimate.get("n_earlier", 0))
        earlier = (
            f"; the motion of {n_earlier} exposures that came before it is corrected again when the session is finished"
            if n_earlier
            else ""
        )
        state = "final" if estimate["is_frozen"] else "made anew when there are twice as many"
        return (
            "no gain: estimated",
            f"no gain was given: one was made from {int(estimate['n_exposures_used'])} exposures ({state}); of "
            f"{n}, it takes away {100 * float(estimate['explained']):.0f} % of a fixed pattern of {rms:.1f} % RMS"
            f"{earlier}",
        )
    if rms < 1.0:
        return (
            "no gain: not needed",
            f"no gain was given and none is needed: the fixed pattern is below {rms:.2f} % RMS",
        )
    return "no gain", f"no gain was given, and {n} exposures have too few counts to make one"


# the course in the store


def _write_course(attempt: Attempt, course: _Course) -> None:
    watch = course.watch
    attempt.write("column_sum", watch.column_sum.numpy())
    attempt.write("row_sum", watch.row_sum.numpy())
    attempt.write("window_sum", watch.window_sum.numpy())
    attempt.write("known_odd_pixel", watch.known_odd.numpy())
    attempt.write("series", np.array(course.series, np.float32).reshape(-1, 3))
    if course.evidence is not None:
        attempt.write("evidence", course.evidence.numpy())
    attempt.set_attributes(
        {
            "exposures": course.prints, "left_out": course.left_out, "shape": course.shape,
            "n_evidence": course.n_evidence, "chosen": course.chosen, "counts_sum": course.counts_sum,
            "n_recent": len(watch.recent), "n": watch.n, "n_profiles": watch.n_profiles,
            "window_power": watch.window_power, "n_windows": watch.n_windows,
            "agreement_sum": watch.agreement_sum, "n_agreements": watch.n_agreements,
        }
    )  # fmt: skip


def _read_course(store: SessionStore, reader: Reader, record: Record, gain: _GivenGain | None) -> _Course:
    state = reader.attributes
    prints: dict[str, str] = state["exposures"]
    course = _Course(
        prints=prints, left_out=state["left_out"], shape=None if state["shape"] is None else tuple(state["shape"]),
        evidence=torch.from_numpy(reader["evidence"]) if "evidence" in reader else None,
        n_evidence=state["n_evidence"], chosen=state["chosen"], counts_sum=state["counts_sum"],
        alarms=[GainAlarm.model_validate(a) for a in record.details["alarms"]], n_alarms=record.details["n_alarms"],
        series=[(a, b, c) for a, b, c in reader["series"].tolist()],
    )  # fmt: skip
    recent = []
    for exposure_id in list(prints)[len(prints) - state["n_recent"] :]:
        sums = store.product(_SUMS_OF_EXPOSURE.address_of(exposure_id)).read()
        agreement = _agreement(sums, gain, course) if course.chosen is not None else None
        summary = _read_summary(sums)
        if agreement is not None:
            summary = replace(summary, agreement=agreement[0], agreement_error=agreement[1])
        recent.append(summary)
    course.watch = Watch(
        n=state["n"], column_sum=torch.from_numpy(reader["column_sum"]), row_sum=torch.from_numpy(reader["row_sum"]),
        n_profiles=state["n_profiles"], window_sum=torch.from_numpy(reader["window_sum"]),
        window_power=state["window_power"], n_windows=state["n_windows"], agreement_sum=state["agreement_sum"],
        n_agreements=state["n_agreements"], known_odd=torch.from_numpy(reader["known_odd_pixel"]),
        recent=tuple(recent),
    )  # fmt: skip
    return course


# a gain from the movies


def _bring_estimate_up_to_date(
    store: SessionStore,
    known: dict[str, str],
    gain: _GivenGain | None,
    params: DiagnoseGainParams,
    report: StageReport,
) -> dict[str, float | int | bool]:
    """Add exposures to the full sums and make the gain where it is due; returns the figures of the sums."""
    estimate, sums = store.product(_ESTIMATE), store.product(_SUMS)
    made = estimate.record()
    if gain is not None or not params.is_estimated:
        if made is not None and made.state == "done":  # not to be used any more
            reason = "a gain is given" if gain is not None else "`is_estimated` is off"
            estimate.put_outcome("skipped", reason, _STAGE, _VERSION, params, {})
        return {}
    record = sums.record()
    is_usable = record is not None and record.state == "done" and record.stage_version == _VERSION
    included: dict[str, str] = record.details["exposures"] if is_usable and record is not None else {}
    if any(included.get(e, fp) != fp for e, fp in known.items()):
        included, record = {}, None
        if made is not None and made.state == "done":
            estimate.put_outcome("skipped", "exposures it was made of were imported anew", _STAGE, _VERSION, params, {})
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
        own = (*store.product(_SUMS_OF_EXPOSURE.address_of(exposure_id)).read().record.details["shape"],)
        shape = shape or own
        if own == shape:
            todo.append(exposure_id)
    if not todo and (is_same or not included):
        return _estimate_figures(record) if record is not None and included else {}
    after = {**included, **{e: known[e] for e in todo}}
    scratch = f"scratch/{_STAGE}/{_digest(after)}"
    parts = [(start, todo[start : start + _PART_EXPOSURES]) for start in range(0, len(todo), _PART_EXPOSURES)]
    with stage_usage(require_workers("CPU"), "CPU", report):
        for _, result in run_items(_sum_part, parts, store.url, scratch, len(included), label="CPU", name=_STAGE):
            if isinstance(result, Exception):
                raise result
        merge = _Merge(scratch, [start for start, _ in parts], after, len(included), params)
        for _, result in run_items(_merge_and_make, [merge], store.url, label="CPU", name=_STAGE):
            if isinstance(result, Exception):
                raise result
    (store.location / scratch).remove()
    record = sums.record()
    if record is None:
        raise StoreError(f"{_SUMS}: left no record; check that workers and flow see the same store")
    return _estimate_figures(record)


def _before_a_change(store: SessionStore) -> set[str] | None:
    """Exposures before the first that shows another pattern; None where none does. Later ones need another gain."""
    record = store.product(_DIAGNOSIS).record()
    if record is None or record.state != "done":
        return None
    alarms = GainDiagnosis.model_validate(record.details).alarms
    numbers = [alarm.number for alarm in alarms if alarm.kind == "pattern" and alarm.number is not None]
    order = store.product(_DIAGNOSIS).read().attributes["exposures"] if numbers else {}
    return set(list(order)[: min(numbers)]) if numbers else None


def _estimate_figures(record: Record) -> dict[str, float | int | bool]:
    return {k: v for k, v in record.figures.items() if isinstance(v, (int, float))}


def _sum_part(part: tuple[int, list[str]], session_url: str, scratch: str, n_before: int) -> None:
    """Full sums of a few exposures, read once more; only while a gain is being made."""
    start, exposure_ids = part
    store = SessionStore.open(session_url)
    product = store.product(f"{scratch}/part_{start:05d}")
    record = product.record()
    if record is not None and record.state == "done":  # of an interrupted run; the address has the content
        return
    sums: PatternSums | None = None
    _, is_defect = _gain_arrays(store)
    for number, exposure_id in enumerate(exposure_ids, start=n_before + start):
        try:
            counts = _summed_counts(store, exposure_id)
        except (StoreError, SkipItem, ValueError) as error:  # its frames may have expired since
            logger.warning("%s: %s is left out of the gain: %s", _STAGE, exposure_id, error)
            continue
        if sums is None:
            sums = PatternSums.zeros((int(counts.shape[0]), int(counts.shape[1])), counts.device)
        is_good = None
        if is_defect is not None and is_defect.shape == counts.shape:
            is_good = ~is_defect.to(counts.device)
        found: Detail = detail(counts, is_good)
        sums.add(found, number % 2)
    with product.write(_STAGE, _VERSION, _NoParams(), {}) as attempt:
        if sums is not None:
            _write_sums(attempt, sums)


@dataclass(frozen=True)
class _Merge:
    """What one step of making the gain is made of."""

    scratch: str
    parts: list[int]
    exposures: dict[str, str]
    """Exposure -> fingerprint of its sums, of all that are in it afterwards."""
    n_before: int
    """Exposures that the sums in the store have already, to which the parts are added; their motion may be corrected.
    """
    params: DiagnoseGainParams


def _merge_and_make(merge: _Merge, session_url: str) -> None:
    """Add the parts to the session's sums, and make the gain where that is due."""
    store = SessionStore.open(session_url)
    params, product, estimate = merge.params, store.product(_SUMS), store.product(_ESTIMATE)
    made = estimate.record()
    sums = _read_sums(product.read()) if merge.n_before else None
    for start in merge.parts:
        reader = store.product(f"{merge.scratch}/part_{start:05d}").read()
        if reader.names:
            sums = _read_sums(reader) if sums is None else sums + _read_sums(reader)
    if sums is None:
        raise StoreError(f"{_SUMS}: none of {len(merge.exposures)} exposures could be read; import them again")
    n = int(sums.n_exposures.sum())
    inputs = {"exposures": _digest(merge.exposures)}
    is_at_end = n >= params.most_exposures
    figures: dict[str, float | int | bool] = {"n_exposures": n, "explained": 0.0, "pattern_percent": 100.0}
    n_used = int(made.figures.get("n_exposures") or 0) if made is not None and made.state == "done" else 0
    n_earlier = int(made.figures.get("n_earlier") or 0) if n_used and made is not None else 0
    is_frozen = is_at_end
    if int(sums.n_exposures.min()) > 0:
        found = estimate_gain(sums)
        is_frozen = is_at_end or found.explained >= params.enough_explained
        figures |= {
            "explained": round(found.explained, 4), "pattern_percent": round(100 * found.pattern_rms, 3),
            "error_percent": round(100 * found.rms_error, 3), "n_defects": int(found.is_defect.sum()),
        }  # fmt: skip
        if found.explained >= params.least_explained and (n >= 2 * n_used or is_frozen):
            n_used, n_earlier = n, merge.n_before
            with estimate.write(_STAGE, _VERSION, params, inputs) as attempt:
                attempt.write("gain", found.gain.cpu().numpy())
                attempt.write("is_defect", found.is_defect.to(torch.uint8).cpu().numpy())
                attempt.figures = {**figures, "is_frozen": is_frozen, "n_earlier": n_earlier}
                attempt.details = {
                    "shape": list(found.gain.shape),
                    "parts": [
                        {"name": p.name, "percent": 100 * p.rms, "error_percent": 100 * p.rms_error}
                        for p in found.parts
                    ],
                }
    with product.write(_STAGE, _VERSION, params, inputs) as attempt:
        _write_sums(attempt, sums)
        attempt.figures = {
            **figures, "is_used": n_used > 0, "n_exposures_used": n_used, "n_earlier": n_earlier, "is_frozen": is_frozen
        }  # fmt: skip
        attempt.details = {"exposures": merge.exposures, "shape": list(sums.n_hot.shape)}


def _write_sums(attempt: Attempt, sums: PatternSums) -> None:
    attempt.write("excess", sums.excess.cpu().numpy())
    attempt.write("expected", sums.expected.cpu().numpy())
    attempt.write("n_hot", sums.n_hot.cpu().numpy())
    attempt.write("n_exposures", sums.n_exposures.cpu().numpy())


def _read_sums(reader: Reader) -> PatternSums:
    on = device()
    excess, expected, n_hot = (torch.from_numpy(reader[name]).to(on) for name in ("excess", "expected", "n_hot"))
    return PatternSums(excess, expected, n_hot, torch.from_numpy(reader["n_exposures"]))
