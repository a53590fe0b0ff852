"""A store's front that fails on purpose: it passes bytes on to a server, or answers 503, or drops every connection."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from typing import Literal

Failure = Literal["answers 503", "drops connections"]

_ANSWER_503 = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class FailingProxy:
    """Listens on a free port of 127.0.0.1 and hands on to ``port``, except while it fails."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._trigger: tuple[bytes, int, float, Failure] | None = None
        self._n_seen = 0
        self._failing_until = 0.0
        self._failure: Failure = "answers 503"
        self._is_closed = False
        self.n_refused = 0
        """Requests that came while it failed."""
        self.recovery_seconds: float | None = None
        """From the end of the failure to the first request after it."""
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def fail_at(self, request: bytes, count: int, seconds: float, failure: Failure) -> None:
        """Fail for so long from the ``count``-th request on whose first bytes have ``request`` in them."""
        with self._lock:
            self._n_seen = 0
            self._trigger = (request, count, seconds, failure)

    def fail(self, seconds: float, failure: Failure) -> None:
        """Fail from now on for so long."""
        with self._lock:
            self._start_failing(seconds, failure)

    def is_failing(self) -> bool:
        return time.monotonic() < self._failing_until

    def close(self) -> None:
        self._is_closed = True
        self._listener.close()
        with self._lock:
            self._drop_all()

    def __enter__(self) -> FailingProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start_failing(self, seconds: float, failure: Failure) -> None:
        self._failure = failure
        self.recovery_seconds = None
        self._failing_until = time.monotonic() + seconds
        self._drop_all()

    def _drop_all(self) -> None:
        for connection in self._open:
            _reset(connection)
        self._open.clear()

    def _accept(self) -> None:
        while not self._is_closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        if self.is_failing():
            self._refuse(client)
            return
        if self._failing_until and self.recovery_seconds is None:
            self.recovery_seconds = time.monotonic() - self._failing_until
        try:
            server = socket.create_connection(self._target)
        except OSError:
            _reset(client)
            return
        with self._lock:
            self._open |= {client, server}
        back = threading.Thread(target=self._pass_on, args=(server, client, False), daemon=True)
        back.start()
        self._pass_on(client, server, True)
        back.join()
        with self._lock:
            self._open -= {client, server}
        client.close()
        server.close()

    def _pass_on(self, source: socket.socket, target: socket.socket, is_request: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if is_request:
                    self._watch(data)
                target.sendall(data)
        for side, how in ((target, socket.SHUT_WR), (source, socket.SHUT_RD)):
            with contextlib.suppress(OSError):
                side.shutdown(how)

    def _watch(self, data: bytes) -> None:
        with self._lock:
            if self._trigger is None:
                return
            request, count, seconds, failure = self._trigger
            self._n_seen += request in data
            if self._n_seen >= count:
                self._trigger = None
                self._start_failing(seconds, failure)

    def _refuse(self, client: socket.socket) -> None:
        self.n_refused += 1
        if self._failure == "drops connections":
            _reset(client)
            return
        with contextlib.suppress(OSError):
            client.settimeout(5)
            client.recv(1 << 16)
            client.sendall(_ANSWER_503)
            client.shutdown(socket.SHUT_WR)
            while client.recv(1 << 16):  # an answer before the end of the request would be lost with a reset
                pass
        client.close()


def _reset(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
