"""What a running session tells the Prefect server beside the states of its flows; automations act on it.

The resource of every event is ``vitriflow.session.<name>``, or ``vitriflow.facility`` for what concerns no session
alone, so an automation can tell sessions apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefect.events import emit_event
from prefect.events.schemas.events import Event

from tasks.records.alarm import DiskShortage, QualityChange, WaitingWork
from tasks.records.gain import GainAlarm

QUALITY_DRIFT = "vitriflow.quality-drift"
DISK_LOW = "vitriflow.disk-low"
GPU_WAITING = "vitriflow.gpu-waiting"
GAIN_ALARM = "vitriflow.gain-alarm"

FACILITY = "facility"
"""In place of a session's name, for what all sessions share."""

SECONDS_BETWEEN_LOOKS_AROUND = 60.0
"""After which whoever runs for long looks again whether there is something to tell."""


class Told:
    """What was told already: each thing is new once, and again when it was over in between."""

    def __init__(self) -> None:
        self._things: set[str] = set()

    def is_new(self, thing: str, is_so: bool = True) -> bool:
        """Whether the thing is so now and has not been told."""
        is_new = is_so and thing not in self._things
        (self._things.add if is_so else self._things.discard)(thing)
        return is_new


def emit_quality_drift(session: str, changes: Sequence[QualityChange]) -> Event | None:
    """Figures of the exposures have changed within the session."""
    return _emit(
        QUALITY_DRIFT,
        session,
        subject=f"{', '.join(change.figure for change in changes)} changed",
        message="; ".join(change.words for change in changes),
        changes=[change.model_dump(mode="json") for change in changes],
    )


def emit_disk_low(session: str, shortage: DiskShortage) -> Event | None:
    """A disk has less free than is still to be written."""
    return _emit(
        DISK_LOW,
        session,
        subject=f"{shortage.path} fills up",
        message=shortage.words,
        **shortage.model_dump(mode="json"),
    )


def emit_gpu_waiting(session: str, waiting: WaitingWork) -> Event | None:
    """Items wait for a worker that is not there."""
    return _emit(
        GPU_WAITING,
        session,
        subject=f"{waiting.n_items} items wait for a worker labelled {waiting.label}",
        message=waiting.words,
        **waiting.model_dump(mode="json"),
    )


def emit_gain_alarm(session: str, alarms: Sequence[GainAlarm]) -> Event | None:
    """The gain reference does not fit the movies any more, or the detector has new defects."""
    return _emit(
        GAIN_ALARM,
        session,
        subject=", ".join(sorted({alarm.kind for alarm in alarms})),
        message="; ".join(alarm.words for alarm in alarms),
        alarms=[alarm.model_dump(mode="json") for alarm in alarms],
    )


def _emit(event: str, session: str, **payload: Any) -> Event | None:
    """None where no server takes events."""
    identity = f"vitriflow.{FACILITY}" if session == FACILITY else f"vitriflow.session.{session}"
    return emit_event(
        event, resource={"prefect.resource.id": identity, "prefect.resource.name": session}, payload=payload
    )
