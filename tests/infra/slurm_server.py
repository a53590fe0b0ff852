"""A Slurm cluster of one node from Debian's packages, with a GPU that is none."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.infra.processes import Programs, free_ports, program, require_root

_CONFIGURATION = """ClusterName=test
SlurmctldHost={node}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={home}/munge.socket
CredType=cred/munge
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/slurmd.pid
SlurmctldPort={controller}
SlurmdPort={daemon}
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
KillWait=5
NodeName={node} NodeAddr=127.0.0.1 CPUs=2 RealMemory=8000 Gres=gpu:1 State=UNKNOWN
PartitionName=cpu Nodes={node} Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes={node} MaxTime=INFINITE State=UP
"""


@dataclass(frozen=True)
class SlurmServer:
    """A running cluster; ``environment`` lets Slurm's commands find it."""

    home: Path

    @property
    def environment(self) -> dict[str, str]:
        return {"SLURM_CONF": str(self.home / "slurm.conf")}

    def command(self, *arguments: str) -> str:
        environment = {**os.environ, **self.environment}
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout.strip()

    def jobs(self) -> dict[str, tuple[str, str]]:
        """Number -> name and state of every job that waits or runs."""
        lines = self.command("squeue", "-h", "-o", "%i %j %T").splitlines()
        return {number: (name, state) for number, name, state in (line.split() for line in lines)}


@contextmanager
def slurm_server(home: Path) -> Iterator[SlurmServer]:
    """Munge, controller and node daemon, all with files in ``home``; jobs left at the end are cancelled."""
    require_root()
    munged, slurmctld, slurmd = (program(n, "slurm-wlm and munge") for n in ("munged", "slurmctld", "slurmd"))
    node = socket.gethostname().split(".")[0]
    controller, daemon = free_ports(2)
    for folder in ("state", "spool"):
        (home / folder).mkdir(parents=True)
    (home / "slurm.conf").write_text(_CONFIGURATION.format(node=node, home=home, controller=controller, daemon=daemon))
    (home / "gres.conf").write_text(f"NodeName={node} Name=gpu File=/dev/null\n")
    (home / "munge.key").write_bytes(os.urandom(128))
    (home / "munge.key").chmod(0o600)
    server = SlurmServer(home)
    programs = Programs(home / "logs")
    # --force: the folders of a test lie below one that everybody may write to
    munge = [munged, "--foreground", "--force", "--num-threads=2"]
    munge += [f"--{what}-file={home}/munge.{what}" for what in ("key", "pid", "log", "seed")]
    munge += [f"--socket={home}/munge.socket"]
    try:
        programs.start("munged", munge)
        programs.wait("munge", (home / "munge.socket").exists, 30)
        programs.start("slurmctld", [slurmctld, "-D", "-f", str(home / "slurm.conf")], server.environment)
        programs.start("slurmd", [slurmd, "-D", "-N", node, "-f", str(home / "slurm.conf")], server.environment)
        programs.wait("Slurm", lambda: _is_idle(server), 90)
        yield server
    finally:
        for number in _jobs_left(server):
            server.command("scancel", "--signal=KILL", "--full", number)
            server.command("scancel", number)
        programs.stop()


def _is_idle(server: SlurmServer) -> bool:
    try:
        return server.command("sinfo", "-h", "-N", "-o", "%t").splitlines() == ["idle", "idle"]
    except (RuntimeError, subprocess.TimeoutExpired):
        return False


def _jobs_left(server: SlurmServer) -> list[str]:
    try:
        return list(server.jobs())
    except (RuntimeError, subprocess.TimeoutExpired):
        return []
