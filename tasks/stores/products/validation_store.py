"""Validations of models in the store."""

from __future__ import annotations

from tasks.records.model import ModelValidation
from tasks.stores.commit import Attempt
from tasks.stores.products.json_records import read_record, write_record
from tasks.stores.session_store import SessionStore

_FIGURES = (
    "decision", "decision_reason", "trusted_percent", "q_score", "q_expected", "cc_mask", "resolution_angstrom",
    "map_model_resolution_angstrom", "ramachandran_favoured_percent", "ramachandran_outlier_percent", "clashscore",
)  # fmt: skip


def write_validation(attempt: Attempt, found: ModelValidation) -> None:
    """Write what was found of a model into a product ``validations/<model>``."""
    write_record(attempt, found)
    attempt.figures.update({name: getattr(found, name) for name in _FIGURES})


def read_validation(store: SessionStore, model: str) -> ModelValidation:
    """What was found of the model ``models/<model>``.

    Raises
    ------
    StoreError
        Where it is not there, with the reason.
    """
    return read_record(store, f"validations/{model}", ModelValidation, f"validation of {model!r}", "validate_model")
