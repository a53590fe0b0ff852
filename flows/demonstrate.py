"""A simulated session from movies to a map and a model, and how well it was solved."""

from __future__ import annotations

from prefect import flow
from pydantic import BaseModel

from flows.model import model
from flows.model_recipe import ModelRecipe
from flows.process_session import process_session
from flows.recipe import Recipe
from flows.services import dask_address
from flows.settings import Settings
from tasks.compare_with_truth import compare_with_truth
from tasks.records.comparison import Comparison
from tasks.records.session import StageReport
from tasks.simulate_session import SimulateSessionParams, simulate_session
from tasks.workers.connection import connect


class Demonstration(BaseModel):
    """What a demonstration did, and how its results compare with the truth."""

    reports: list[StageReport]
    comparisons: list[Comparison]


@flow(name="demonstrate")
def demonstrate(
    session_folder: str,
    session_url: str,
    simulation: SimulateSessionParams,
    recipe: Recipe,
    model_recipe: ModelRecipe | None = None,
) -> Demonstration:
    """Simulate a session into ``session_folder``, process it into ``session_url``, compare it with its truth.

    With a recipe for it, an atomic model is built into the map as well.
    """
    with connect(dask_address(Settings())):
        simulated = simulate_session(session_folder, simulation)
    reports = process_session(session_url, session_folder, recipe)
    if model_recipe is not None:
        reports = [*reports, *model(session_url, model_recipe)]
    return Demonstration(reports=[simulated, *reports], comparisons=compare_with_truth(session_url, session_folder))
