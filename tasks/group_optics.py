"""Optics groups: exposures that were taken with the same optics and beam tilt, and so share their aberrations."""

from __future__ import annotations

import logging
import math
import time
from datetime import datetime
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from kernels.micrographs.beam_tilt_groups import continue_groups
from tasks.formats.epu import EpuName
from tasks.formats.microscope_metadata import hole_position_of
from tasks.records.exposure import Exposure
from tasks.records.microscope_metadata import MicroscopeMetadata
from tasks.records.session import StageParams, StageReport
from tasks.stores.commit import Record, fingerprint
from tasks.stores.products.optics_groups import ADDRESS, GroupTable, read_table
from tasks.stores.session_store import SessionStore

logger = logging.getLogger(__name__)

_STAGE = "group_optics"
_VERSION = 1


class GroupOpticsParams(StageParams):
    """What tells exposures apart, besides voltage, spherical aberration, amplitude contrast and pixel size."""

    by: Literal["name_and_shift", "name", "shift", "nothing"] = "name_and_shift"
    """``name``: the acquisition area in EPU's file names, or the shot of SerialEM's multiple record. ``shift``: beam
    shifts (EPU), or image shifts (SerialEM), in as many groups as there are places. ``name_and_shift``: by name, and
    exposures of one area of EPU, or without an area, by shift; so the holes that EPU reaches by aberration-free image
    shift, all with the same names, are groups of their own."""


@task(name=_STAGE, cache_policy=NO_CACHE)
def group_optics(session_url: str, exposure_ids: list[str], params: GroupOpticsParams) -> StageReport:
    """Give every imported exposure a group number, and keep those of others; the product is ``session/optics_groups``.

    A number once told stays, whatever comes later. Shifts tell it when their places show: from the fifth exposure of a
    place on, and for a session with one place after 800; until then an exposure counts as the first group of its area.
    Other parameters number a session anew. Nothing is computed on workers: 1,000 exposures take some 0.2 CPU-s. Of two
    runs on one session at a time, one loses its numbers.
    """
    started = time.process_time()
    store = SessionStore.open(session_url)
    report = StageReport(stage=_STAGE)
    found = read_table(store)
    table = GroupTable()
    if found is not None and found[0].stage_version == _VERSION and found[0].params == params.model_dump(mode="json"):
        table = found[1]
    known = dict(zip(table.exposure_ids, table.import_fingerprints))
    fresh: dict[str, Record] = {}
    for item in dict.fromkeys(exposure_ids):
        record = store.exposure_product(item, "import_session").record()
        if record is None or record.state != "done":
            report.skipped[item] = "not imported" if record is None else f"not imported: {record.reason}"
        elif known.get(item) == record.fingerprint:
            report.kept.append(item)
        else:
            fresh[item] = record
            report.done.append(item)
    gone = {item for item in (*fresh, *report.skipped) if item in known}
    if fresh or gone:
        table = _with_rows(table.select(np.array([e not in gone for e in table.exposure_ids], bool)), fresh, params)
        _number(table, params)
        product, inputs = store.product(ADDRESS), {"exposures": table.digest()}
        if found is None or found[0].fingerprint != fingerprint(_STAGE, _VERSION, params, inputs):
            with product.write(_STAGE, _VERSION, params, inputs) as attempt:
                table.write(attempt)
                attempt.figures = {
                    "n_groups": len(set(table.numbers().values())),
                    "n_exposures": len(table.exposure_ids),
                    "n_waiting": int((table.optics_group == 0).sum()),
                }
    report.cpu_seconds = time.process_time() - started
    logger.info(
        "%s: %d exposures in %d groups, %d wait for more of their place; %d new, %d kept",
        _STAGE, len(table.exposure_ids), len(set(table.numbers().values())), int((table.optics_group == 0).sum()),
        len(report.done), len(report.kept),
    )  # fmt: skip
    return report


def _with_rows(table: GroupTable, fresh: dict[str, Record], params: GroupOpticsParams) -> GroupTable:
    """The table with rows for new exposures, in order of acquisition."""
    rows = sorted((_row(record, params) for record in fresh.values()), key=lambda row: (row.acquired_s, row.name))
    for row in rows:
        if row.cell not in table.cells:
            table.cells.append(row.cell)
            table.cell_numbers.append(1 + max([0, *table.cell_numbers, *table.optics_group.tolist()]))
        table.exposure_ids.append(row.exposure_id)
        table.names.append(row.name)
        table.import_fingerprints.append(row.import_fingerprint)
    index = {cell: i for i, cell in enumerate(table.cells)}
    table.shift = np.concatenate([table.shift, np.array([row.shift for row in rows]).reshape(-1, 4)])
    table.acquired_s = np.concatenate([table.acquired_s, np.array([row.acquired_s for row in rows])])
    table.cell = np.concatenate([table.cell, np.array([index[row.cell] for row in rows], np.int32)])
    table.optics_group = np.concatenate([table.optics_group, np.zeros(len(rows), np.int32)])
    return table


class _Row:
    """What the record of an import says of an exposure's optics."""

    def __init__(self, record: Record, params: GroupOpticsParams) -> None:
        exposure = Exposure.model_validate(record.details["exposure"])
        metadata = MicroscopeMetadata.model_validate(record.details.get("metadata") or {})
        self.exposure_id, self.name, self.import_fingerprint = exposure.id, exposure.name, record.fingerprint
        optics = exposure.optics
        self.cell = (
            f"{optics.voltage_kv:g} kV, {optics.spherical_aberration_mm:g} mm, {optics.amplitude_contrast:g}, "
            f"{optics.pixel_size_angstrom:.6g} Å"
        )
        area = metadata.hole_position or hole_position_of(exposure.name)
        if params.by in ("name", "name_and_shift") and area is not None:
            self.cell += f", area {area}"
        # the shot's number in SerialEM's multiple record is its place; EPU's areas are the same in every hole
        is_place = params.by == "name_and_shift" and area is not None and EpuName.of(exposure.name) is None
        self.shift = [math.nan] * 4
        if params.by in ("shift", "name_and_shift") and not is_place:
            for at, shift in ((0, metadata.beam_shift), (2, metadata.image_shift)):
                self.shift[at : at + 2] = [math.nan, math.nan] if shift is None else shift
        self.acquired_s = _seconds(metadata.acquired_at or record.figures.get("acquired_at"))


def _row(record: Record, params: GroupOpticsParams) -> _Row:
    return _Row(record, params)


def _seconds(text: object) -> float:
    """By the clock that wrote it, whatever its zone; infinite where there is no time."""
    try:
        return datetime.fromisoformat(str(text)).replace(tzinfo=None).timestamp() if text else math.inf
    except ValueError:
        return math.inf


def _number(table: GroupTable, params: GroupOpticsParams) -> None:
    """Fill in what can be told; numbers that are there stay."""
    name_order = {name: i for i, name in enumerate(sorted(set(table.names)))}
    names = np.array([name_order[name] for name in table.names])
    for cell, first in enumerate(table.cell_numbers):
        rows = np.flatnonzero(table.cell == cell)
        if not (table.optics_group[rows] == 0).any():
            continue
        shift = _varying_shift(table.shift[rows])
        has_shift = np.isfinite(shift).all(axis=1)
        table.optics_group[rows[~has_shift]] = first
        rows, shift = rows[has_shift], shift[has_shift]
        order = np.lexsort((names[rows], table.acquired_s[rows]))
        rows, shift = rows[order], shift[order]
        known = table.optics_group[rows]
        n_used = max([*table.cell_numbers, *table.optics_group.tolist()])
        number = continue_groups(torch.from_numpy(shift), torch.from_numpy(known.astype(np.int64)), n_used).numpy()
        if not known.any():  # the first place found has the number that the area had so far
            number = np.where(number == n_used + 1, first, np.where(number > n_used, number - 1, number))
        table.optics_group[rows] = number


def _varying_shift(shift: NDArray) -> NDArray:
    """(exposure, yx) the beam's shifts, or those of the image where the beam's are unknown or all the same."""
    beam, image = shift[:, :2], shift[:, 2:]
    known = beam[np.isfinite(beam).all(axis=1)]
    is_beam = len(known) > 0 and (float(np.ptp(known, axis=0).max()) > 0 or not np.isfinite(image).any())
    return beam if is_beam else image
