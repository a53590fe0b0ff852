"""Networks are trained by a flow like any other, so that anyone can repeat it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow

from tasks.building.detector import WEIGHTS
from tasks.train_residue_detector import TrainResidueDetectorParams, train_residue_detector
from tasks.train_side_chain_reader import TrainSideChainReaderParams, train_side_chain_reader


@flow(name="train_network")
def train_network(folder: str, params: TrainResidueDetectorParams) -> dict[str, Any]:
    """Train the detection network; called again with the same folder, it goes on from the last checkpoint.

    Parameters
    ----------
    folder
        Gets checkpoints, weights and the record of the training.
    params
        Structures and pace.

    Returns
    -------
    Scores on held-out clusters, by resolution.
    """
    return train_residue_detector(folder, params)


@flow(name="train_side_chains")
def train_side_chains(folder: str, params: TrainSideChainReaderParams) -> dict[str, Any]:
    """Train the network that reads side chains; called again with the same folder, it goes on.

    Where the folder holds a detection network and the parameters name none, it is that one's residues that are read.

    Parameters
    ----------
    folder
        Gets checkpoints, weights and the record of the training.
    params
        Structures and pace.

    Returns
    -------
    Scores on held-out clusters, by resolution.
    """
    own = Path(folder) / WEIGHTS
    if params.detector is None and own.exists():
        params = params.model_copy(update={"detector": str(own)})
    return train_side_chain_reader(folder, params)
