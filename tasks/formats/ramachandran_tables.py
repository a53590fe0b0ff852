"""Ramachandran tables of MolProbity, as cctbx has them compiled in."""

from __future__ import annotations

import subprocess
import sys
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from kernels.models.ramachandran import KINDS, N_CELLS, STEP_DEG

_PROGRAM = f"""
import sys
import boost_adaptbx.boost.python as boost
import numpy as np
tables = boost.import_ext("mmtbx_validation_ramachandran_ext").rama_eval()
angles = [-179.0 + {STEP_DEG} * i for i in range({N_CELLS})]
values = [tables.get_score(kind, phi, psi) for kind in range({len(KINDS)}) for phi in angles for psi in angles]
sys.stdout.buffer.write(np.array(values, "<f8").tobytes())
"""
_TIMEOUT_S = 300


class MissingTablesError(RuntimeError):
    """The package that holds the tables is not there, or does not work."""


@lru_cache(maxsize=1)
def ramachandran_tables() -> Tensor:
    """(kind, phi, psi) shares for `kernels.models.ramachandran.ramachandran_scores`.

    cctbx runs in a process of its own: in one that has loaded torch it crashes (2025.11 beside torch 2.13).

    Raises
    ------
    MissingTablesError
        Where cctbx-base is not installed or fails.

    Source
    ------
    Top8000, Williams et al., Protein Sci. 2018, 27:293.
    """
    try:
        found = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingTablesError(f"cctbx, which holds the Ramachandran tables, did not answer: {error}") from error
    expected = len(KINDS) * N_CELLS**2 * 8
    if found.returncode or len(found.stdout) != expected:
        lines = found.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {found.returncode}"]
        raise MissingTablesError(
            f"the Ramachandran tables could not be read from cctbx ({lines[-1]}); install it with `pip install"
            " cctbx-base`"
        )
    values = np.frombuffer(found.stdout, "<f8").reshape(len(KINDS), N_CELLS, N_CELLS)
    return torch.from_numpy(values.copy())
