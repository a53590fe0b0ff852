"""Which of many possible placements stand together best, all bodies and copies at once."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array
from torch import Tensor

_SECONDS = 20.0
"""After which the best choice found so far is taken."""


def chosen(score: Tensor, is_conflict: Tensor, group: Tensor, most: Tensor) -> Tensor:
    """Rising indices of the placements with the largest sum of scores of which no two are in conflict.

    Parameters
    ----------
    score
        (placement,) what each explains; what is not positive is never chosen.
    is_conflict
        (placement, placement)
    group
        (placement,) int64, what each is a copy of.
    most
        (group,) copies of each that may be chosen, infinite where that is not known.

    An integer programme, exact but for what takes more than 20 s.
    """
    rows = torch.nonzero(score > 0).squeeze(1)
    if len(rows) == 0:
        return rows
    n = len(rows)
    first, second = torch.nonzero(torch.triu(is_conflict[rows][:, rows], 1), as_tuple=True)
    n_pairs = len(first)
    pair = torch.arange(n_pairs)
    limited = torch.nonzero(most.isfinite()).squeeze(1)
    member, which = torch.nonzero(group[rows][:, None] == limited, as_tuple=True)
    row = torch.cat([pair, pair, n_pairs + which]).numpy()
    column = torch.cat([first, second, member]).numpy()
    n_rows = n_pairs + len(limited)
    upper = np.concatenate([np.ones(n_pairs), most[limited].double().numpy()])
    matrix = coo_array((np.ones(len(row)), (row, column)), shape=(n_rows, n)).tocsr()
    found = milp(
        -score[rows].double().numpy(),
        integrality=np.ones(n),
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(matrix, -np.inf, upper)] if n_rows else [],
        options={"time_limit": _SECONDS},
    )
    if found.x is None:
        raise RuntimeError(f"no choice among {n} placements was found: {found.message}")
    return rows[torch.from_numpy(found.x > 0.5)]
