"""Ports of the embedded services: two programs that look for a free one at the same moment find the same."""

from __future__ import annotations

import fcntl
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil


def free_port(host: str, wanted: int) -> int:
    """The wanted port, or another one where it is taken; somebody else may take it a moment later."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError(f"no free port on {host}")


def is_taken(host: str, port: int) -> bool:
    """Whether somebody answers at the port."""
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def listens(process: psutil.Process, port: int) -> bool:
    """Whether it is this process, or one below it, that answers at the port."""
    try:
        family = [process, *process.children(recursive=True)]
        return any(
            connection.laddr.port == port
            for member in family
            for connection in member.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
        )
    except psutil.NoSuchProcess:
        return False


@contextmanager
def one_at_a_time(home: Path) -> Iterator[None]:
    """Wait until nobody else starts the services of this home; the lock goes with the process that holds it."""
    home.mkdir(parents=True, exist_ok=True)
    with open(home / "up.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
