"""Programs that a test starts on 127.0.0.1 and stops again."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def free_ports(n: int) -> list[int]:
    """Ports that differ from each other."""
    probes = [socket.socket() for _ in range(n)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def program(name: str, package: str) -> str:
    """Path of an installed program; the test skips where it is absent."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip(f"{name} is absent; `bash infra/test-servers.sh` installs {package} where apt can")
    return found


def require_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("starts servers as users of their own, which only root can")


class Programs:
    """Processes of one server, stopped together in the reverse order."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self._started: list[subprocess.Popen] = []
        logs.mkdir(parents=True, exist_ok=True)

    def start(
        self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen:
        with open(self.logs / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        self._started.append(process)
        return process

    def stop(self) -> None:
        for process in reversed(self._started):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
        for process in reversed(self._started):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)
        self._started.clear()

    def wait(self, what: str, is_ready: Callable[[], bool], seconds: float = 120) -> None:
        """Until it is ready; fails the test with the ends of the logs when it is not, or a process ended."""
        deadline = time.monotonic() + seconds
        while not is_ready():
            ended = [p.args for p in self._started if p.poll() not in (None, 0)]
            if ended or time.monotonic() > deadline:
                tails = {log.name: log.read_text(errors="replace")[-1500:] for log in self.logs.glob("*.log")}
                raise RuntimeError(
                    f"{what} is not ready ({'ended: ' + str(ended) if ended else 'late'}); logs: {tails}"
                )
            time.sleep(0.1)


def connects(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False
