"""A session with a simulated map and models in it, without running a stage."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from kernels.models.atomic_model import AtomicModel, joined
from kernels.models.disagreement import PREDICTION
from tasks.records.density_map import DensityMap
from tasks.records.docking import Docking, FoundSymmetry, NotPlaced, PlacedBody
from tasks.records.model import ModelValidation, Region, ResidueValidation
from tasks.records.session import StageParams
from tasks.records.verdict import Disagreement, MissingData, SessionVerdict, WeakPart
from tasks.stores.products.docking_store import write_docking
from tasks.stores.products.map_store import density_grid, describe
from tasks.stores.products.model_store import write_model
from tasks.stores.products.validation_store import write_validation
from tasks.stores.products.verdict_store import write_verdict
from tasks.stores.session_store import SessionStore
from tests.truth.model_maps import simulated_maps
from tests.truth.peptides import helix

SEQUENCES = ("AEKLFSWTRDMHEVQNKAGLIKYCDAELRK", "GSLEEARKWIDTLMKQAEEFNRHS")
DOUBTFUL = slice(9, 15)
"""Residues of the first chain that the model is not sure of."""


@dataclass(frozen=True, eq=False)
class Modelled:
    """What was written."""

    model: AtomicModel
    """The newest; B-factors are 100 times the confidence."""
    confidence: torch.Tensor
    """(residue,)"""


def two_helices() -> AtomicModel:
    """Two helices side by side, the second one numbered from 101."""
    first, second = (helix(sequence, chain) for sequence, chain in zip(SEQUENCES, "AB"))
    renamed = tuple(replace(residue, number=residue.number + 100) for residue in second.residues)
    away = first.coordinates_angstrom.mean(0) - second.coordinates_angstrom.mean(0)
    moved = replace(second, residues=renamed).at(second.coordinates_angstrom + away + torch.tensor([0.0, 0.0, 11.0]))
    return joined([first, moved])


def fill_with_models(store: SessionStore, resolution_angstrom: float = 3.0) -> Modelled:
    """``maps/imported``, and ``models/built`` before ``models/built_2``, with figures of both."""
    model = two_helices()
    maps = simulated_maps(model, resolution_angstrom, padding_angstrom=7.0)
    with store.product("maps/imported").write("import_map", 1, StageParams(), {}) as attempt:
        attempt.write("map", maps.sharpened.voxels.numpy().astype(np.float32))
        z, y, x = maps.sharpened.origin_angstrom.tolist()
        about = DensityMap(
            name="imported", kind="imported", pixel_size_angstrom=maps.sharpened.voxel_size_angstrom, symmetry="C1",
            resolution_angstrom=resolution_angstrom, origin_angstrom=(z, y, x),
        )  # fmt: skip
        describe(attempt, about)
    confidence = torch.linspace(0.7, 0.95, model.n_residues)
    confidence[DOUBTFUL] = 0.2
    model = replace(model, b_factor_angstrom2=100 * confidence[model.residue])
    for i, name in enumerate(("built", "built_2")):
        inputs = {"maps/imported": "fingerprint"}
        with store.product(f"models/{name}").write("build_model", 1, StageParams(), inputs) as attempt:
            write_model(attempt, model, name)
            attempt.figures.update(mean_confidence=0.7 + 0.1 * i, clashscore=12.0 - 5 * i)
    return Modelled(model, confidence)


def validation_of(modelled: Modelled) -> ModelValidation:
    """A validation that distrusts what the model is not sure of, and says nothing of the last residue."""
    rows = [
        ResidueValidation(
            chain=residue.chain, number=residue.number, insertion_code=residue.insertion_code, name=residue.name,
            local_resolution_angstrom=3.0 + 0.01 * i, q_score=round(0.7 * share, 3), q_backbone=0.6, q_side_chain=0.5,
            q_expected=0.587, correlation=round(0.9 * share, 3), phi_deg=-63.0, psi_deg=-42.0, omega_deg=180.0,
            ramachandran="favoured" if share > 0.5 else "allowed", ramachandran_share=0.5, rotamer_deg=1.0,
            is_rotamer_outlier=False, cbeta_angstrom=0.01, worst_bond_sigma=0.5, worst_angle_sigma=0.5, n_clashes=0,
            side_chain_fit=0.1, register_shift=-1.0, probability=round(share, 3),
            verdict="trust" if share > 0.5 else "rebuild",
        )
        for i, (residue, share) in enumerate(zip(modelled.model.residues, modelled.confidence.tolist()))
    ]  # fmt: skip
    first, last = (str(modelled.model.residues[i].number) for i in (DOUBTFUL.start, DOUBTFUL.stop - 1))
    region = Region(
        chain="A", first=first, last=last, n_residues=DOUBTFUL.stop - DOUBTFUL.start, verdict="rebuild",
        probability=0.2, reasons=("density fits another sequence",),
    )  # fmt: skip
    return ModelValidation(
        n_residues=len(rows), n_atoms=len(modelled.model), resolution_angstrom=3.0, resolution_source="given",
        map_model_resolution_angstrom=3.14, fsc_map=0.81, fsc_work=None, fsc_free=None, cc_mask=0.78, cc_box=0.7,
        cc_peaks=0.7, q_score=0.55, q_expected=0.587, ramachandran_favoured_percent=89.0,
        ramachandran_outlier_percent=0.0, rotamer_outlier_percent=0.0, clashscore=7.0, n_cbeta_outliers=0,
        n_cis_peptides=0, n_twisted_peptides=0, n_bond_outliers=0, n_angle_outliers=0, trusted_percent=88.9,
        decision="rebuild", decision_reason="88.9 % of the residues are trusted, expected 90",
        regions=(region,), residues=tuple(rows[:-1]),
    )  # fmt: skip


def refine_and_validate(store: SessionStore, modelled: Modelled) -> ModelValidation:
    """``models/refined`` in three rounds, of which the second was taken, and ``validations/refined``."""
    refined = replace(modelled.model, b_factor_angstrom2=40 + 0.1 * torch.arange(len(modelled.model)).float())
    built = store.product("models/built_2").record()
    sources = {"maps/imported": "x", "models/built_2": built.fingerprint if built else ""}
    with store.product("models/refined").write("refine_model", 1, StageParams(), sources) as attempt:
        write_model(attempt, refined, "refined")
        attempt.details["rounds"] = [
            {"name": "built_1", "surprise": 900.0, "clashscore": 21.0},
            {"name": "refined", "surprise": 700.5, "clashscore": 7.0, "angle_rmsd_deg": 1.7},
            {"name": "repaired_1", "surprise": 950.0, "clashscore": 9.0, "angle_rmsd_deg": 1.8},
        ]
        attempt.figures.update(clashscore=7.0, best_round="refined")
    found = validation_of(modelled)
    record = store.product("models/refined").record()
    inputs = {"models/refined": record.fingerprint if record else "", "maps/imported": "x"}
    with store.product("validations/refined").write("validate_model", 1, StageParams(), inputs) as attempt:
        write_validation(attempt, found)
    return found


DISAGREEMENTS = (
    Disagreement(
        chain="A", first="10", last="15", n_residues=6, side="prediction", why="the density fits the prediction better",
        lddt=0.31, plddt=88.0, built_probability=0.2, predicted_probability=0.93, of_model=("A/10-15",),
    ),
    Disagreement(
        chain="B", first="130", last="137", n_residues=8, side="not built", why="nothing was built", lddt=None,
        plddt=91.0, built_probability=None, predicted_probability=0.9,
    ),
)  # fmt: skip
WEAK = slice(36, 48)
"""Residues, all of the second chain, that the map shows less well."""


def judge_refined(store: SessionStore, modelled: Modelled) -> SessionVerdict:
    """``verdicts/refined`` of what `refine_and_validate` made, beside a prediction."""
    sides = np.zeros(modelled.model.n_residues, dtype=np.int8)
    sides[DOUBTFUL] = PREDICTION
    sides[-1] = -1
    first, last = (modelled.model.residues[i].number for i in (WEAK.start, WEAK.stop - 1))
    weak = WeakPart(
        mask="mask_1", residues=(f"B/{first}-{last}",), n_residues=WEAK.stop - WEAK.start, resolution_angstrom=4.4,
        rest_angstrom=3.1,
    )  # fmt: skip
    missing = MissingData(
        n_particles=1360, resolution_angstrom=3.0, forecast="2.8 Å (2.6 to 3.0) with 44 exposures", evenness=0.35,
        seldom_share=0.2, weakest_direction=(1.0, 0.0, 0.0), views="views are uneven (0.35 of 1)",
    )  # fmt: skip
    found = SessionVerdict(
        model="refined", map="imported", prediction="alpha", decision="rebuild here",
        reason="the map speaks for the prediction at 14 residues: A/10-15, B/130-137", resolution_angstrom=3.0,
        goal_angstrom=2.5, rebuild=("A/10-15", "B/130-137 of the prediction"), weak_parts=(weak,),
        disagreements=DISAGREEMENTS, missing=missing,
    )  # fmt: skip
    addresses = ["models/refined", "validations/refined", "maps/imported"]
    params = JudgedParams(model="refined")
    with store.product("verdicts/refined").write("judge_session", 2, params, store.fingerprints(addresses)) as attempt:
        attempt.write("side", sides)
        near = density_grid(store, "imported").voxels > 0
        attempt.write("mask_1", near.numpy().astype(np.float32))
        write_verdict(attempt, found)
    return found


class JudgedParams(StageParams):
    """Stands in for those of `judge_session`."""

    model: str | None


def dock_two(store: SessionStore, modelled: Modelled) -> Docking:
    """``models/docked``: the two helices as copies of one structure, and what was asked for in vain."""
    bodies = [
        PlacedBody(
            source="helix.pdb", copy_number=i + 1, part="whole", chains=(chain,), first=f"{chain}/ALA1", last="end",
            n_residues=n, rotation=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), shift_angstrom=(0.0, 0.0, 0.0),
            correlation=0.71 - 0.1 * i, contrast=0.22, z_score=9.0, share_inside=0.98, probability=0.97 - 0.2 * i,
            overlap=0.0, over_mirrored=0.18, is_from_symmetry=i == 1,
        )
        for i, (chain, n) in enumerate(zip("AB", map(len, SEQUENCES)))
    ]  # fmt: skip
    found = Docking(
        map="imported", resolution_angstrom=3.0, placed=tuple(bodies), n_untrusted=7,
        not_placed=(NotPlaced(source="lid<1>", part="part 2 of 2", n_copies=1, n_residues=40, reason="no place fits"),),
        symmetry=(
            FoundSymmetry(
                source="helix.pdb", name="C2", axis=(1.0, 0.0, 0.0), centre_angstrom=(0.0, 0.0, 0.0), n_copies=2,
                error_angstrom=0.4, n_completed=1,
            ),
        ),
    )  # fmt: skip
    probability = torch.tensor([97.0 if r.chain == "A" else 77.0 for r in modelled.model.residues])
    docked = replace(modelled.model, b_factor_angstrom2=probability[modelled.model.residue])
    inputs = store.fingerprints(["maps/imported"])
    with store.product("models/docked").write("dock_model", 1, StageParams(), inputs) as attempt:
        write_model(attempt, docked, "docked")
        write_docking(attempt, found)
    return found
