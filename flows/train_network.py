"""Networks are trained by a flow like any other, so that anyone can repeat it."""

from __future__ import annotations

from typing import Any

from prefect import flow

from tasks.train_residue_detector import TrainResidueDetectorParams, train_residue_detector


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
