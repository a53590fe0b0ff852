"""Peak memory of one item of a stage, measured in a process of its own as a worker would run it."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

from flows.services import MALLOC_ENVIRONMENT
from tasks.records.forecast import Need

_STATUS = Path("/proc/self/status")


def peak_memory_bytes(function: str, *arguments: str) -> int:
    """What ``module:function(*arguments)`` takes at its peak beyond what the process has once all is imported."""
    command = [sys.executable, "-m", "tests.truth.peak_memory", function, *arguments]
    environment = {**os.environ, **MALLOC_ENVIRONMENT, "OMP_NUM_THREADS": "1"}
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if found.returncode:
        raise RuntimeError(f"{function} ended with {found.returncode}; the end of its words: {found.stderr[-2000:]}")
    return int(found.stdout.split()[-1])


def assert_foreseen(need: Need, found_bytes: int) -> None:
    """The item took about what was said, or down to half of it; peaks scatter by a tenth (``pytest -rP``)."""
    ratio = need.memory_bytes / found_bytes
    print(f"{need.stage}: foreseen {need.memory_bytes / 1e6:.0f} MB, found {found_bytes / 1e6:.0f}: {ratio:.2f}")
    assert 0.9 <= ratio <= 2.2, need.stage


def _resident(name: str) -> int:
    return next(int(line.split()[1]) * 1024 for line in _STATUS.read_text().splitlines() if line.startswith(name))


if __name__ == "__main__":
    module, _, function_name = sys.argv[1].partition(":")
    function = getattr(importlib.import_module(module), function_name)
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    function(*sys.argv[2:])
    print(_resident("VmHWM") - before)
