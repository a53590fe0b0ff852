"""Of all who want a part of a session at once, one has it; who dies gives it up; who freezes is told."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.stores.storage.lease import LeaseHeldError, LeaseLostError, LeaseTimes, hold, holder_of
from tasks.stores.storage.location import Location

QUICK = LeaseTimes(renewal_seconds=0.2, expiry_seconds=6.0, settle_seconds=0.5)
PROGRAM = """
import sys, time
from pathlib import Path
from tasks.stores.storage.lease import LeaseTimes, hold
from tasks.stores.storage.location import Location
folder, name, stay = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
with hold(Location.of(folder), "exposures", name, wait_seconds=60, times=LeaseTimes(0.2, 6.0, 0.5)) as lease:
    with open(folder / "log", "a") as log:
        print("enter", name, file=log, flush=True)
        time.sleep(stay)
        lease.check()
        print("leave", name, file=log, flush=True)
"""


def start(folder: Path, name: str, stay: float) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", PROGRAM, str(folder), name, str(stay)])


def wait_for_line(folder: Path, line: str) -> None:
    deadline = time.monotonic() + 60
    while not (folder / "log").exists() or line not in (folder / "log").read_text().splitlines():
        assert time.monotonic() < deadline, f"{line!r} did not come"
        time.sleep(0.05)


def test_of_five_at_once_each_has_it_alone(tmp_path):
    running = [start(tmp_path, str(i), 0.3) for i in range(5)]
    assert [process.wait(timeout=120) for process in running] == [0] * 5
    words = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    assert [word for word, _ in words] == ["enter", "leave"] * 5
    assert all(words[i][1] == words[i + 1][1] for i in range(0, 10, 2))


def test_a_holder_is_named_and_one_that_was_killed_gives_way_at_once(tmp_path):
    holder = start(tmp_path, "the flow of the morning", 600)
    try:
        wait_for_line(tmp_path, "enter the flow of the morning")
        assert holder_of(Location.of(tmp_path), "exposures") == "the flow of the morning"
        with (
            pytest.raises(LeaseHeldError, match="the flow of the morning works on it"),
            hold(Location.of(tmp_path), "exposures", "me", times=QUICK),
        ):
            pass
    finally:
        holder.kill()
        holder.wait()
    assert holder_of(Location.of(tmp_path), "exposures") is None
    with hold(Location.of(tmp_path), "exposures", "me", times=QUICK) as lease:
        lease.check()
    assert holder_of(Location.of(tmp_path), "exposures") is None


def test_a_holder_that_does_not_renew_loses_it_and_is_told(tmp_path):
    frozen = start(tmp_path, "frozen", 1.0)
    try:
        wait_for_line(tmp_path, "enter frozen")
        os.kill(frozen.pid, signal.SIGSTOP)
        with hold(Location.of(tmp_path), "exposures", "me", wait_seconds=30, times=QUICK) as lease:
            lease.check()
            os.kill(frozen.pid, signal.SIGCONT)
            assert frozen.wait(timeout=60) != 0
            lease.check()
    finally:
        frozen.kill()
        frozen.wait()
    assert (tmp_path / "log").read_text().splitlines() == ["enter frozen"]


def test_parts_are_held_apart(tmp_path):
    place = Location.of(tmp_path)
    with hold(place, "exposures", "a", times=QUICK), hold(place, "maps", "b", times=QUICK):
        assert (holder_of(place, "exposures"), holder_of(place, "maps")) == ("a", "b")


def test_a_lease_that_cannot_be_renewed_is_lost_in_words(tmp_path):
    with hold(Location.of(tmp_path), "maps", "a", times=LeaseTimes(60, 0.2, 0.05)) as lease:
        lease.check()
        time.sleep(0.3)
        with pytest.raises(LeaseLostError, match="could not be renewed for"):
            lease.check()
