"""Predicted structures in the store: the best of a run first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from kernels.models.predicted_structure import PredictedStructure
from tasks.formats.prediction import Prediction
from tasks.formats.structure import mmcif_of, parse_mmcif
from tasks.records.prediction import PredictionSource
from tasks.stores.commit import Attempt
from tasks.stores.session_store import SessionStore


def write_predictions(attempt: Attempt, predictions: Sequence[Prediction]) -> None:
    """Write the predictions of one run, at least one, into a product ``predictions/<name>``."""
    told = []
    for rank, prediction in enumerate(predictions):
        structure = prediction.structure
        attempt.write(f"mmcif_{rank}", np.frombuffer(mmcif_of(structure.model), dtype=np.uint8))
        attempt.write(f"plddt_{rank}", structure.plddt.numpy().astype(np.float32))
        if structure.pae_angstrom is not None:
            attempt.write(f"pae_{rank}", structure.pae_angstrom.numpy().astype(np.float16))
        told.append({"source": prediction.source.model_dump(mode="json"), "ptm": structure.ptm, "iptm": structure.iptm})
    best = predictions[0].structure
    attempt.details["predictions"] = told
    attempt.figures.update(
        engine=predictions[0].source.engine,
        n_predictions=len(predictions),
        n_residues=best.model.n_residues,
        n_chains=len({residue.chain for residue in best.model.residues}),
        plddt=round(float(best.plddt.mean()), 1),
        has_pae=best.pae_angstrom is not None,
    )
    if best.ptm is not None:
        attempt.figures["ptm"] = round(best.ptm, 3)
    if best.iptm is not None:
        attempt.figures["iptm"] = round(best.iptm, 3)


def read_prediction(store: SessionStore, name: str, rank: int = 0) -> Prediction:
    """One prediction of ``predictions/<name>``.

    Raises
    ------
    StoreError
        Where it is not there, with the reason.
    ValueError
        Where the run has fewer.
    """
    product = store.product(f"predictions/{name}")
    told = product.done_record(f"prediction {name!r}", "run predict_structure").details["predictions"]
    if not 0 <= rank < len(told):
        raise ValueError(
            f"predictions/{name}: has {len(told)} predictions, not one of rank {rank}; take 0 for the best"
        )
    reader = product.read()
    pae = torch.from_numpy(reader[f"pae_{rank}"].astype(np.float32)) if f"pae_{rank}" in reader else None
    structure = PredictedStructure(
        parse_mmcif(reader[f"mmcif_{rank}"].tobytes(), f"predictions/{name}"),
        torch.from_numpy(reader[f"plddt_{rank}"]),
        pae,
        told[rank]["ptm"],
        told[rank]["iptm"],
    )
    return Prediction(structure, PredictionSource.model_validate(told[rank]["source"]))
