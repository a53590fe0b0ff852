"""Validations of models in the store."""

from __future__ import annotations

import numpy as np

from tasks.records.model import ModelValidation
from tasks.stores.commit import Attempt
from tasks.stores.session_store import SessionStore

_FIGURES = (
    "decision", "decision_reason", "trusted_percent", "q_score", "q_expected", "cc_mask", "resolution_angstrom",
    "map_model_resolution_angstrom", "ramachandran_favoured_percent", "ramachandran_outlier_percent", "clashscore",
)  # fmt: skip


def write_validation(attempt: Attempt, found: ModelValidation) -> None:
    """Write what was found of a model into a product ``validations/<model>``."""
    attempt.write("json", np.frombuffer(found.model_dump_json().encode(), dtype=np.uint8))
    attempt.figures.update({name: getattr(found, name) for name in _FIGURES})


def read_validation(store: SessionStore, model: str) -> ModelValidation:
    """What was found of the model ``models/<model>``.

    Raises
    ------
    StoreError
        Where it is not there, with the reason.
    """
    product = store.product(f"validations/{model}")
    product.done_record(f"validation of {model!r}", "run validate_model")
    return ModelValidation.model_validate_json(product.read()["json"].tobytes())
