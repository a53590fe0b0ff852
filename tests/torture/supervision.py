"""What systemd does on a workstation: a service that ended is started again a moment later."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from flows.services import Services


@dataclass
class _Service:
    command: list[str]
    environment: dict[str, str]
    log: Path
    process: psutil.Process


class Supervisor:
    """Restarts services and programs of one run; ends only what it started or was given."""

    def __init__(self, home: Path, seconds_until_restart: float = 2.0) -> None:
        self._home = home
        self._seconds_until_restart = seconds_until_restart
        self._services: dict[str, _Service] = {}
        self._paused: dict[str, _Service] = {}
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._thread.start()
        self.n_restarts = 0

    def adopt(self, services: Services) -> None:
        """Follow what `vitriflow up` started."""
        for process in services.processes:
            running = psutil.Process(process.pid)
            log = self._home / f"{process.name}.log"
            self._services[process.name] = _Service(running.cmdline(), running.environ(), log, running)

    def start(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        service = _Service(command, {**os.environ, **environment}, self._home / f"{name}.log", psutil.Process())
        service.process = self._run(service)
        self._services[name] = service

    def kill(self, name: str, is_child: bool = False) -> None:
        """SIGKILL to a service, or to the process that it supervises itself (the worker below Dask's nanny)."""
        process = self._services[name].process
        victims = [p for p in process.children() if "spawn_main" in " ".join(p.cmdline())] if is_child else [process]
        if not victims:
            raise RuntimeError(f"{name}: found no worker process below {process.pid}")
        for victim in victims:
            victim.kill()

    def pause(self, name: str) -> None:
        """Stop a service and do not start it again."""
        self._paused[name] = self._services.pop(name)
        self._end(self._paused[name])

    def resume(self, name: str) -> None:
        service = self._paused.pop(name)
        service.process = self._run(service)
        self._services[name] = service

    def is_running(self, name: str) -> bool:
        return self._services[name].process.is_running()

    def stop(self, name: str) -> None:
        self._end(self._services.pop(name))

    def stop_all(self) -> None:
        self._is_over.set()
        self._thread.join()
        for service in reversed(list(self._services.values())):
            self._end(service)
        self._services.clear()

    def _watch(self) -> None:
        while not self._is_over.wait(0.2):
            for service in list(self._services.values()):
                if _has_ended(service.process):
                    time.sleep(self._seconds_until_restart)
                    if service in self._services.values() and not self._is_over.is_set():
                        service.process = self._run(service)
                        self.n_restarts += 1

    @staticmethod
    def _run(service: _Service) -> psutil.Process:
        with open(service.log, "ab") as log:
            started = subprocess.Popen(
                service.command, env=service.environment, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        return psutil.Process(started.pid)

    @staticmethod
    def _end(service: _Service) -> None:
        family = [*service.process.children(recursive=True), service.process] if service.process.is_running() else []
        for process in reversed(family):
            try:
                process.terminate()
            except psutil.NoSuchProcess:
                continue
        _, stubborn = psutil.wait_procs(family, timeout=10)
        for process in stubborn:
            process.kill()


def _has_ended(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
