"""Models built de novo, and the same merged with a docked prediction, in the real maps up to 3.5 Å.

The prediction is the deposited model bent, or with a domain that swung about a hinge, by 2 Å RMSD, with one residue in
six in stretches that bulge, swing or are shifted along the chain (`tasks.docking.perturbed`,
`tasks.verdict.wrong_stretches`), in a frame of its own; two of each. It is docked, cut where its PAE says so, bent
onto the de novo model, and merged with it (`dock_model`, `merge_models`); nothing is refined afterwards, and where
nothing can be docked the prediction is laid on the de novo model by its sequence. Residues count that are one-to-one
within 2 Å of the deposited Cα. Of the same predictions, laid on the de novo model, it is asked which residues are
wrong (lDDT to the deposited model below 0.6; right from 0.75 on): ROC-AUC of `probability_wrong`. Intervals are of
1,000 bootstrap samples of residues, 95 %. The maps are test data; coefficients were fitted on simulated maps of other
proteins.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from flows.sole_use import MODELS, sole_use
from kernels.models.atomic_model import AtomicModel
from kernels.models.disagreement import local_distance_agreement, probability_wrong
from kernels.scores import area_under_curve, matched_points
from tasks.dock_model import DockModelParams, dock_model
from tasks.docking.perturbed import bent, hinged
from tasks.formats.prediction import Prediction
from tasks.merge_models import MergeModelsParams, merge_models
from tasks.records.prediction import PredictionSource
from tasks.records.session import StageParams, StageReport
from tasks.stores.products.map_store import density_grid, map_mates
from tasks.stores.products.model_store import read_model
from tasks.stores.products.prediction_store import read_prediction, write_predictions
from tasks.stores.session_store import SessionStore
from tasks.validation.reliability_fit import protein_to_plant_in
from tasks.verdict.comparing import compared
from tasks.verdict.disagreement_fit import RIGHT_LDDT, SHARE_WRONG, WRONG_LDDT
from tasks.verdict.wrong_stretches import with_wrong_stretches
from tests.benchmarks.estimates import Line, estimate, share
from tests.truth.real_maps import RealMap, apoferritin, vp6

_RADIUS_ANGSTROM = 2.0
_MOVED_ANGSTROM = 2.0
_N_PREDICTIONS = 4
_CASES: tuple[tuple[str, Callable[[Path], RealMap]], ...] = (("apoferritin", apoferritin), ("VP6", vp6))


class _Seeded(StageParams):
    """What tells one prediction from another."""

    seed: int


def lines(folder: Path, data: Path) -> list[Line]:
    """Of the sessions that `tests.benchmarks.models` left in a folder."""
    told = []
    wrong, chance = [], []
    for name, read in _CASES:
        url = str(folder / f"{name}.zarr")
        if not SessionStore.exists(url):
            continue
        truth = protein_to_plant_in(read(data).model)
        store = SessionStore.open(url)
        alone = _found(read_model(store, "chosen"), truth)
        hybrid = []
        for seed in range(_N_PREDICTIONS):
            _predicted(store, truth, seed)
            with sole_use(url, MODELS):
                hybrid.append(_found(_merged(store), truth))
            own_wrong, own_chance = _calls(store, truth)
            wrong.append(own_wrong)
            chance.append(own_chance)
        fewest = min(hybrid, key=lambda found: int(found.sum()))
        where = f"{name}, {len(truth.residues)} residues"
        told += [
            Line("residues within 2 Å, de novo", where, share(alone), "%", digits=0),
            Line("merged with a prediction", where, share(torch.stack(hybrid).double().mean(0)), "%", digits=0),
            Line("fewest of four predictions", where, share(fewest), "%", float(100 * alone.double().mean()), digits=0),
        ]
    if wrong:
        is_wrong, told_wrong = torch.cat(wrong), torch.cat(chance)

        def figure(chosen: Tensor) -> float:
            return area_under_curve(told_wrong[chosen], is_wrong[chosen])

        where = f"{len(is_wrong)} residues, {int(is_wrong.sum())} wrong"
        told.append(Line("wrong regions of predictions, ROC-AUC", where, estimate(figure, len(is_wrong)), reach=0.92))
    return told


def _found(model: AtomicModel, truth: AtomicModel) -> Tensor:
    """(true residue,) whether a residue of the model stands for it."""
    alpha = model.positions("CA")[:, 0]
    alpha = alpha[alpha.isfinite().all(-1)]
    return matched_points(truth.positions("CA")[:, 0], alpha, _RADIUS_ANGSTROM) >= 0


def _predicted(store: SessionStore, truth: AtomicModel, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    moved = (bent if seed % 2 else hinged)(truth, _MOVED_ANGSTROM, generator)
    partly = with_wrong_stretches(moved.prediction, SHARE_WRONG, generator).prediction
    with store.product("predictions/perturbed").write("predict_structure", 1, _Seeded(seed=seed), {}) as attempt:
        write_predictions(attempt, [Prediction(partly, PredictionSource(engine="perturbed"))])


def _merged(store: SessionStore) -> AtomicModel:
    docked = dock_model(store.url, DockModelParams(map="imported", predictions=("perturbed",)))
    placed = "predictions/perturbed" if docked.skipped else "docked"
    _made(merge_models(store.url, MergeModelsParams(traced="chosen", placed=placed, map="imported")))
    return read_model(store, "merged")


def _calls(store: SessionStore, truth: AtomicModel) -> tuple[Tensor, Tensor]:
    """(residue,) whether the prediction is wrong there, and the probability that is told; unclear ones left out."""
    prediction = read_prediction(store, "perturbed").structure
    grid = density_grid(store, "imported")
    built = read_model(store, "chosen")
    resolution = 2.001 * grid.voxel_size_angstrom
    found = compared(prediction, built, grid, resolution, map_mates(store, "imported")).compared
    lddt = local_distance_agreement(prediction.model.positions("CA")[:, 0], truth.positions("CA")[:, 0])
    clear = (lddt < WRONG_LDDT) | (lddt > RIGHT_LDDT)
    return lddt[clear] < WRONG_LDDT, probability_wrong(found)[clear]


def _made(report: StageReport) -> None:
    for reason in (*report.failed.values(), *report.skipped.values()):
        raise RuntimeError(f"{report.stage}: {reason}")
