"""The atomic model: in its map in 3D, residue by residue, what wants a look, and the models before it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from kernels.maps.grid import DensityGrid
from kernels.models.atomic_model import AtomicModel
from tasks.plots import page
from tasks.plots.model_view import ModelView, view_html, view_scripts
from tasks.plots.profile import residue_profile
from tasks.records.model import ModelValidation
from tasks.report.contents import Contents, figures_line, made_in, validation_record
from tasks.report.maps import MAP_NAMES
from tasks.report.model_columns import Region, columns_of, regions_of
from tasks.report.model_history import history, rounds_of, told_figures, validation_summary
from tasks.report.model_picture import density_around, still_picture
from tasks.report.model_placement import placement_tables
from tasks.report.verdict_columns import verdict_columns
from tasks.report.words import plural, time_words
from tasks.stores.commit import Record
from tasks.stores.products.map_store import density_grid
from tasks.stores.products.model_store import mmcif_bytes, read_model, read_placement
from tasks.stores.products.validation_store import read_validation

_SHOWN_REGIONS = 60
_BUILDERS = ("build_model", "dock_model")


def model_section(contents: Contents) -> str:
    """The newest model and its map."""
    models = made_in(contents, "models")
    if not models:
        return page.section("model", "Model", page.not_yet("no model has been built"))
    name, record = models[-1]
    model = read_model(contents.store, name)
    validation = _validation(contents, name, record)
    map_name = _map_of(contents, record)
    columns = columns_of(model, _built(contents, model, record), validation, _local_resolution(contents, map_name))
    columns += verdict_columns(contents.store, model)
    part, cut, reason = density_around(contents, map_name, model)
    coloured = next((c for c in columns if not c.is_expected and not c.classes), None)
    view = ModelView(
        mmcif_bytes(contents.store, name), f"{contents.store.session.name}-{name}.cif", model.residues, columns, cut
    )
    section = page.section(
        "model",
        "Model",
        page.paragraph(_facts(model, name, record), "meta"),
        validation_summary(validation) if validation else figures_line(told_figures(record)),
        page.paragraph(cut.words if cut else reason, "note"),
        view_html(view, still_picture(contents, "model", name, model, part, coloured)),
        residue_profile(model.residues, columns),
        _regions(model, regions_of(model, validation, columns)),
        placement_tables(read_placement(contents.store, name)) if record.stage == "place_ligands" else "",
        rounds_of(name, record),
        history(models),
    )
    contents.scripts = view_scripts()  # last: a section that fails has nothing for them to show
    return section


def _facts(model: AtomicModel, name: str, record: Record) -> str:
    chains = len({residue.chain for residue in model.residues})
    words = f"{plural(model.n_residues, 'residue')} in {plural(chains, 'chain')}, {plural(len(model), 'atom')}"
    n_copies = record.figures.get("n_copies")
    if n_copies is not None:
        words += f", one of {n_copies} copies by symmetry, which its mmCIF names as the assembly"
    return f"{name}: {words} · {record.stage}, {time_words(record.written_at)}"


def _validation(contents: Contents, name: str, record: Record) -> ModelValidation | None:
    return read_validation(contents.store, name) if validation_record(contents, name, record) else None


def _built(contents: Contents, model: AtomicModel, record: Record) -> AtomicModel | None:
    """The model, or the one that it was made from, as far as one of them has 100 times its confidence as B-factors."""
    if record.stage in _BUILDERS:
        return model
    name = _built_name(contents, record)
    return None if name is None else read_model(contents.store, name)


def _built_name(contents: Contents, record: Record) -> str | None:
    """What a model was made from in the beginning, by refinement and rounds of rebuilding."""
    for address, fingerprint in record.inputs.items():
        source = contents.record(address) if address.startswith("models/") else None
        if source is None or source.fingerprint != fingerprint:
            continue
        if source.stage in _BUILDERS:
            return address.removeprefix("models/")
        if (name := _built_name(contents, source)) is not None:
            return name
    return None


def _map_of(contents: Contents, record: Record) -> str | None:
    """The map that the model was made from, or else the best one there is."""
    read = [name for name in (record.params.get("map"), *MAP_NAMES) if f"maps/{name}" in record.inputs]
    return next((n for n in (*read, *MAP_NAMES) if contents.record(f"maps/{n}") is not None), None)


def _local_resolution(contents: Contents, map_name: str | None) -> DensityGrid | None:
    reader = contents.read(f"maps/{map_name}") if map_name else None
    if map_name is None or reader is None or "local_resolution" not in reader:
        return None
    return density_grid(contents.store, map_name, "local_resolution")


def _regions(model: AtomicModel, regions: Sequence[Region]) -> str:
    if not regions:
        return ""
    longest = sorted(regions, key=lambda r: (r.first - r.last, r.first))[:_SHOWN_REGIONS]
    lines = []
    for region in sorted(longest, key=lambda r: r.first):
        first, last = model.residues[region.first], model.residues[region.last]
        n = region.last - region.first + 1
        words = str(first) if n == 1 else f"{first} to {last.name}{last.number}{last.insertion_code}"
        link = page.residue_link(region.first, region.last, words)
        lines.append(f"<li>{link} · {escape(region.words)} · {plural(n, 'residue')}</li>")
    left = f", the longest {len(longest)} of {len(regions)}" if len(longest) < len(regions) else ""
    return f'<h3>Regions that want a look{left}</h3><ul class="regions">{"".join(lines)}</ul>'
