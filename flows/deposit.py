"""A session handed to the archives, and what its bundle holds and lacks shown in the Prefect UI."""

from __future__ import annotations

from prefect import flow

from flows.sole_use import EXPOSURES, MAPS, MODELS, sole_use
from tasks.deposit_structure import deposit_structure
from tasks.deposition.params import DepositStructureParams
from tasks.report.deposition import show_deposition, show_refusal

_EVERYTHING = DepositStructureParams()


@flow(name="deposit", flow_run_name="deposit {session_url}")
def deposit(session_url: str, about: str, folder: str = "", params: DepositStructureParams = _EVERYTHING) -> list[str]:
    """Write a bundle for EMDB, the PDB and EMPIAR, and return its files; where something lacks, nothing is written.

    Parameters
    ----------
    session_url
        Store of the session: a folder, or ``s3://bucket/prefix``.
    about
        YAML file, on the machine that runs the flow, with what only the depositor knows; one to fill in is written by
        ``vitriflow deposit SESSION --template FILE``.
    folder
        New folder for the bundle. Left empty, the next one beside the store: ``<store>-bundle-1``, ``-2`` …; where
        nothing has changed since the last bundle, that one is kept.
    params
        What is deposited.

    Raises what `deposit_structure` does.
    """
    with sole_use(session_url, EXPOSURES, MAPS, MODELS):
        try:
            files = deposit_structure(session_url, folder, about, params)
        except Exception as error:  # an operator sees why in the same place
            show_refusal(session_url, error)
            raise
        show_deposition(session_url)
    return files
