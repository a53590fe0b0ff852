"""A model over its map, as a picture and as what the 3D view shows of the map."""

from __future__ import annotations

from kernels.maps.grid import DensityGrid
from kernels.models.atomic_model import AtomicModel
from kernels.models.residue_places import places_of_residues
from tasks.plots import models as model_plots
from tasks.plots.model_view import MapCut, ResidueColumn
from tasks.plots.style import png
from tasks.report.contents import Contents
from tasks.report.model_columns import is_followed
from tasks.report.model_map import around_model, map_cut, near_only, sigma_of
from tasks.stores.products.map_store import density_grid


def density_around(
    contents: Contents, map_name: str | None, model: AtomicModel
) -> tuple[DensityGrid | None, MapCut | None, str]:
    """The map around the model, the same for the page, or why there is none."""
    if map_name is None:
        return None, None, "There is no map to show with the model."
    grid = density_grid(contents.store, map_name)
    try:
        part = around_model(grid, model)
        return part, map_cut(part, model, sigma_of(part, model), map_name, grid.voxel_size_angstrom), ""
    except ValueError as error:
        return None, None, f"The map {map_name} is not shown: {error}."


def still_picture(
    contents: Contents, key: str, name: str, model: AtomicModel, part: DensityGrid | None, column: ResidueColumn | None
) -> str:
    """The backbone over the density of `density_around`, coloured by a column."""
    places = places_of_residues(model).numpy()
    figure = model_plots.trace_in_map(
        places,
        is_followed(model, places),
        column.values if column else None,
        f"{column.label} / {column.unit}" if column and column.unit else column.label if column else "",
        (column.worst, column.best) if column else (0, 1),
        near_only(part, model).numpy() if part else None,
        part.voxel_size_angstrom if part else 1.0,
        part.origin_angstrom.tolist() if part else (0, 0, 0),
    )
    coloured = f", coloured by {column.label}" if column else ""
    return contents.show(key, png(figure), f"Backbone of the model {name} over its map along three axes{coloured}")
