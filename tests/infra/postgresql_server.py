"""A PostgreSQL cluster of its own from Debian's packages, that can be stopped and started in a test."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.infra.processes import free_port, require_root


@dataclass(frozen=True)
class PostgresqlServer:
    """A running cluster with an empty database ``prefect``."""

    programs: Path
    data: Path
    port: int

    @property
    def url(self) -> str:
        return f"postgresql://vitriflow:secret@127.0.0.1:{self.port}/prefect"

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.data} -c fsync=off"
        self._as_postgres("pg_ctl", "-D", str(self.data), "-l", str(self.data / "log"), "-w", "-o", options, "start")

    def stop(self) -> None:
        """As a restart of the service does: connections are cut, nothing is waited for."""
        self._as_postgres("pg_ctl", "-D", str(self.data), "-m", "fast", "-w", "stop")

    def query(self, sql: str, database: str = "prefect") -> str:
        """Rows as text."""
        command = ["psql", "-h", str(self.data), "-p", str(self.port), "-d", database, "-tAqc", sql]
        return self._as_postgres(*command)

    def _as_postgres(self, program: str, *arguments: str) -> str:
        command = ["runuser", "-u", "postgres", "--", str(self.programs / program), *arguments]
        done = subprocess.run(
            command, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120
        )
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout.decode(errors='replace')}")
        return done.stdout.decode().strip()


@contextmanager
def postgresql_server() -> Iterator[PostgresqlServer]:
    """A server in a folder of its own; skips where PostgreSQL is not installed."""
    require_root()
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[4]))
    if not found:
        pytest.skip("PostgreSQL is absent; `bash infra/test-servers.sh` installs it where apt can")
    # not below tmp_path: pytest closes that to other users each time that one more pytest starts on the machine
    home = Path(tempfile.mkdtemp(prefix="postgresql-"))
    data = home / "data"
    data.mkdir()
    home.chmod(0o711)
    account = pwd.getpwnam("postgres")
    os.chown(data, account.pw_uid, account.pw_gid)
    data.chmod(0o700)
    server = PostgresqlServer(found[-1].parent, data, free_port())
    try:
        server._as_postgres("initdb", "-D", str(data), "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
        # a password asked for over TCP, as at a facility
        (data / "pg_hba.conf").write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
        server.start()
        server.query("create role vitriflow login password 'secret'", "postgres")
        server.query("create database prefect owner vitriflow", "postgres")
        yield server
    finally:
        if (data / "postmaster.pid").exists():
            server.stop()
        shutil.rmtree(home, ignore_errors=True)
