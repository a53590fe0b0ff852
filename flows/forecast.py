"""What a session will need, stage by stage, before the first of them starts."""

from __future__ import annotations

from collections.abc import Iterable

from flows.recipe import Recipe
from tasks import (
    build_initial_map,
    classify_2d,
    correct_motion,
    diagnose_gain,
    estimate_ctf,
    extract_particles,
    forecast_resolution,
    import_session,
    pick_particles,
    refine_map,
    sharpen_map,
)
from tasks.records.forecast import Need, Outline
from tasks.records.session import StageReport
from tasks.report.needs import show_needs
from tasks.stores.products.outline import session_outline
from tasks.stores.session_store import SessionStore
from tasks.stores.upkeep.costs import read_costs, with_costs


def needs_of(recipe: Recipe, about: Outline) -> list[Need]:
    """Of every stage that computes, in the order in which `process_session` runs them."""
    box, output_box = extract_particles.sides(about.pixel_size_angstrom, recipe.extract_particles)
    about = about.with_particles(recipe.extract_particles.diameter_angstrom, box, output_box)
    movies = [
        diagnose_gain.need(about, recipe.import_session.gain is not None),
        correct_motion.need(about, recipe.correct_motion),
    ]
    return [
        import_session.need(about, recipe.import_session),
        *(movies if about.n_frames > 1 else []),
        estimate_ctf.need(about, recipe.estimate_ctf),
        pick_particles.need(about, recipe.pick_particles),
        extract_particles.need(about, recipe.extract_particles),
        classify_2d.need(about, recipe.classify_2d),
        build_initial_map.need(about, recipe.build_initial_map),
        refine_map.need(about, recipe.refine_map),
        sharpen_map.need(about, recipe.sharpen_map),
        forecast_resolution.need(about, recipe.forecast_resolution),
    ]


def outline_of(place: str, recipe: Recipe) -> Outline:
    """Of a session that has exposures, or of a folder with files of which the header of the largest is read."""
    if SessionStore.exists(place):
        return session_outline(SessionStore.open(place))
    found = import_session.outline_of_folder(place, recipe.import_session)
    if found is None:
        raise ValueError(f"{place}: no header of the largest files can be read; give a session or a folder of movies")
    return found


def show_forecast(session_url: str, recipe: Recipe, reports: Iterable[StageReport]) -> None:
    """The needs of the whole session as a table in the Prefect UI, by what its stages have cost so far."""
    store = SessionStore.open(session_url)
    show_needs(store.session.name, needs_of(recipe, session_outline(store)), with_costs(read_costs(store), reports))
