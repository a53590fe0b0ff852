"""A verdict followed at once: a domain that swings, seen, refined by itself, and built in the map that holds it.

All chains of 280 to 420 residues of structures_bm5 that the residue network was not trained on, cut in two where their
domains touch least; the smaller part swings about the hinge, in each particle by an angle of its own, spread evenly
over ±12°. 1B6C is the case that all this was written with, 1OC0 told that chance decided about outliers
(`choose_model`), nothing was changed for the others; 1OC0 and 1WQ1 are cut through what is packed. 600 images of 96 px
of 1.4 Å are projected from the atoms (B 70 Å²), with CTF and white noise, signal to noise 0.06; the consensus is of the
true poses of the larger domain. All that follows is the flow `model` with the sequence and ``act_on_verdict="refine"``:
nothing tells it what moves. Residues count that are one-to-one within 2 Å of the true Cα in the middle of the swing,
which is where maps show the domain. Models before and after are compared in the joined map inside of one mask, with the
half that nothing was built in (`compare_rounds`); resolutions of the part are those of `refine_part`, inside its mask,
by halves. Intervals are of 1,000 bootstrap samples of residues, 95 %. Time is that on the clock, on this machine as
busy as it is.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

import torch
from torch import Tensor

from flows.model import model
from flows.model_recipe import ModelRecipe
from flows.sole_use import MAPS, sole_use
from kernels.models.atomic_model import AtomicModel
from kernels.scores import matched_points
from tasks.build_model import BuildModelParams
from tasks.model_refinement.params import RefineModelParams
from tasks.records.verdict import SessionVerdict
from tasks.sharpen_map import SharpenMapParams, sharpen_map
from tasks.stores.products.map_store import density_grid
from tasks.stores.products.model_store import read_model
from tasks.stores.products.rounds_store import read_rounds
from tasks.stores.products.verdict_store import read_verdict
from tasks.stores.session_store import SessionStore
from tests.benchmarks.estimates import Line, Section, share, single
from tests.benchmarks.flexible_fitting import chain_of
from tests.truth.consensus import write_consensus
from tests.truth.monomers import unpacked_monomers
from tests.truth.swinging_protein import SwingingProtein, swinging_protein

CHAINS = ("1B6C_l", "2YVJ_r", "1OC0_r", "1WQ1_r")
_N_PARTICLES, _SWING_DEG, _SIGNAL_TO_NOISE = 600, 12.0, 0.06
_BOX, _PIXEL_ANGSTROM = 96, 1.4
_RADIUS_ANGSTROM = 2.0
_BEFORE = "first"
_DEFINITION = __doc__ or ""


def acted(folder: Path, data: Path, name: str) -> Section:
    """One session from particles to the model that the followed verdict led to; the services have to run."""
    folder.mkdir(parents=True, exist_ok=True)
    chain = chain_of(data / "structures_bm5" / f"{name}_b-matched.pdb.gz")
    truth = swinging_protein(chain, _N_PARTICLES, _SWING_DEG, _BOX, _PIXEL_ANGSTROM, _SIGNAL_TO_NOISE)
    store = SessionStore.create(str(folder / "swinging.zarr"), "swinging")
    write_consensus(store, truth.imaged, truth.rotation, truth.shift, truth.diameter_angstrom)
    (sequence,) = truth.model.sequences.values()
    recipe = ModelRecipe(
        build_model=BuildModelParams(sequences=(sequence,)),
        refine_model=RefineModelParams(monomer_library=str(unpacked_monomers(data, folder))),
        act_on_verdict="refine",
    )
    began = time.monotonic()
    with sole_use(store.url, MAPS):
        sharpen_map(store.url, SharpenMapParams())
    reports = model(store.url, recipe)
    minutes, peak = (time.monotonic() - began) / 60, max(r.peak_memory_bytes for r in reports)
    lines = [
        *_of_verdict(store, truth, read_verdict(store, _BEFORE)),
        *_of_models(store, truth),
        Line("map to followed verdict", f"{len(truth.moves)} residues", single(minutes), "min", digits=1),
    ]
    return Section(f"a verdict followed: {name}", _DEFINITION, tuple(lines), sum(r.cpu_seconds for r in reports), peak)


def _of_verdict(store: SessionStore, truth: SwingingProtein, verdict: SessionVerdict) -> list[Line]:
    """What was found to be weak, and what its own refinement made of it."""
    where = f"{int(truth.moves.sum())} of {len(truth.moves)} residues swing"
    is_told = verdict.decision == "refine the map here"
    lines = [Line("verdict: refine the map here", where, single(float(is_told)), "of 1", 1, digits=0)]
    if verdict.weak_parts:
        grid = density_grid(store, verdict.map)
        values = torch.from_numpy(store.product(f"verdicts/{_BEFORE}").read()[verdict.weak_parts[0].mask])
        alpha = truth.model.positions("CA")[:, 0]
        inside = grid.with_voxels(values).values_at(alpha) > 0.5
        lines += [
            Line("residues that swing inside of its mask", where, share(inside[truth.moves]), "%", digits=0),
            Line("residues that do not", where, share(inside[~truth.moves]), "%", digits=0),
        ]
    part = store.product("maps/part").record_if_done()
    if part is not None:
        told = part.figures
        before, after, gain, turn = (
            float(told[name] or math.inf)
            for name in ("whole_resolution_angstrom", "resolution_angstrom", "fsc_gain", "turn_rms_deg")
        )
        lines += [
            Line("resolution of the part in the whole", where, single(before), "Å", digits=2),
            Line("the same by itself", where, single(after), "Å", digits=2),
            Line("gain of its FSC", where, single(gain)),
            Line("turn found (rms)", f"{truth.swing_rms_deg:.1f}° planted", single(turn), "°", digits=1),
        ]
    return lines


def _of_models(store: SessionStore, truth: SwingingProtein) -> list[Line]:
    """The model before and the one after, if there is one, against the truth and against the free half."""
    action = read_verdict(store, "chosen").action
    lines = []
    names = {"before": _BEFORE}
    if action is not None and action.model is not None:
        names["after"] = action.model
    for name, residues in (("that swing", truth.moves), ("that do not", ~truth.moves)):
        for when, of in names.items():
            found = _found(read_model(store, of), truth.model)[residues]
            where = f"{len(found)} residues {name}"
            lines.append(Line(f"residues within 2 Å, {when}", where, share(found), "%", digits=0))
    if action is not None and action.model is not None:
        models = (*_models_before(store), action.model)
        rounds = {told.name: told.fsc_free for told in read_rounds(store, models, "joined").rounds}
        before = store.product(f"models/{_BEFORE}").done_record("the first choice").figures["best_round"]
        for when, of in (("before", str(before)), ("after", action.model)):
            lines.append(Line(f"free FSC in the joined map, {when}", of, single(rounds[of] or 0.0), digits=4))
    is_kept = action is not None and action.is_kept
    lines.append(Line("model of the action kept", "", single(float(is_kept)), "of 1", 1, digits=0))
    return lines


def _models_before(store: SessionStore) -> tuple[str, ...]:
    record = store.product(f"models/{_BEFORE}").done_record("the first choice")
    return tuple(told["name"] for told in record.details["rounds"])


def _found(model_found: AtomicModel, truth: AtomicModel) -> Tensor:
    """(true residue,) whether a residue of the model stands for it."""
    alpha = model_found.take_residues(model_found.amino_acid >= 0).positions("CA")[:, 0]
    alpha = alpha[alpha.isfinite().all(-1)]
    return matched_points(truth.positions("CA")[:, 0], alpha, _RADIUS_ANGSTROM) >= 0
