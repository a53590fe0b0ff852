"""The recipe that a session is processed with, kept in its store: later runs need only be told what changes."""

from __future__ import annotations

from flows.recipe import Recipe
from tasks.records.source_folder import SourceFolder
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.location import StoreError

RECIPE_ADDRESS = "session/recipe"


def remember_recipe(session_url: str, recipe: Recipe) -> None:
    """Keep the recipe in the session's store."""
    product = SessionStore.open(session_url).product(RECIPE_ADDRESS)
    record = product.record()
    if record is None or record.params != recipe.model_dump(mode="json") or product.is_inherited:
        with product.write("recipe", 1, recipe, {}):
            pass


def recall_recipe(session_url: str) -> Recipe:
    """The recipe that the session was last processed with; StoreError where it never was."""
    record = SessionStore.open(session_url).product(RECIPE_ADDRESS).record()
    if record is None:
        raise StoreError(f"store {session_url}: no recipe is kept with it; process it once with a recipe given")
    return Recipe.model_validate(record.params, context={"is_kept": True})  # a running session is not turned away


def with_source(recipe: Recipe, source: SourceFolder) -> Recipe:
    """What the recipe leaves open comes from the folder that the session follows."""
    found = {"gain": source.gain, "defects": source.defects, "metadata_folder": source.mirror}
    given = recipe.import_session
    missing = {name: place for name, place in found.items() if getattr(given, name) is None}
    return recipe.model_copy(update={"import_session": given.model_copy(update=missing)})
