"""Categories of the model: molecules and their sources, refinement, programs, and how it was judged."""

from __future__ import annotations

from collections.abc import Mapping

from tasks.deposition.gathered import Gathered
from tasks.deposition.lineage import ModelLineage, programs_of
from tasks.deposition.people import Rows
from tasks.formats.pdbx import Entity, PdbxModel, Value
from tasks.records.deposition import Molecule
from tasks.records.model import ModelValidation
from tasks.records.prediction import PredictionSource

_METHOD = "ELECTRON MICROSCOPY"


def model_categories(of: Gathered, model: ModelLineage, pdbx: PdbxModel, resolution_angstrom: float) -> dict[str, Rows]:
    """What is told of the model beside its atoms."""
    polymers = [entity for entity in pdbx.entities if entity.is_polymer]
    named = dict(zip((entity.id for entity in polymers), of.told.sample.molecules))
    judged = model.validation
    assert judged is not None
    found: dict[str, Rows] = {
        "exptl": [{"entry_id": of.entry_id, "method": _METHOD}],
        "entity": [_entity(of, entity, named.get(entity.id)) for entity in pdbx.entities],
        "refine": [
            {
                "entry_id": of.entry_id,
                "pdbx_refine_id": _METHOD,
                "ls_d_res_high": round(resolution_angstrom, 2),
                "B_iso_mean": round(pdbx.b_factor_mean_angstrom2, 2),
                "details": f"refined with {model.refining_program or 'vitriflow, in real space'}",
            }
        ],
        "em_3d_fitting": [
            {
                "entry_id": of.entry_id,
                "id": 1,
                "method": "built de novo" if model.is_de_novo else "built from a predicted structure",
                "ref_protocol": "AB INITIO MODEL" if model.is_de_novo else "FLEXIBLE FIT",
                "ref_space": "RECIPROCAL" if model.refining_program else "REAL",
                "target_criteria": "likelihood of the half maps" if model.refining_program else "likelihood of the map",
                "overall_b_value": round(pdbx.b_factor_mean_angstrom2, 2),
                "details": validation_words(judged),
            }
        ],
        "software": _programs(model),
    }
    if model.predictions:
        found["em_3d_fitting_list"] = [
            {"id": i, "3d_fitting_id": 1, "details": _prediction_words(p)}
            for i, p in enumerate(model.predictions, start=1)
        ]
    restraints = _restraints(model)
    if restraints:
        found["refine_ls_restr"] = restraints
    sources = [_source(of, entity, named[entity.id]) for entity in polymers]
    found["entity_src_nat" if of.told.sample.expression_host is None else "entity_src_gen"] = sources
    references = [_reference(i, entity, named[entity.id]) for i, entity in enumerate(polymers, 1)]
    known = [row for row in references if row["pdbx_db_accession"] is not None]
    if known:
        found["struct_ref"] = known
    return found


def with_chains(judged: ModelValidation, new_chains: Mapping[str, str]) -> ModelValidation:
    """The validation with chains named as in the file that is deposited."""
    renamed = {
        name: tuple(
            one.model_copy(update={"chain": new_chains.get(one.chain, one.chain)}) for one in getattr(judged, name)
        )
        for name in ("residues", "regions")
    }
    return judged.model_copy(update=renamed)


def validation_words(judged: ModelValidation) -> str:
    """The figures that a reader of the entry asks for, in a line."""
    parts = [
        f"Q-score {judged.q_score:.3f} (expected {judged.q_expected:.3f})",
        f"CC in the model's mask {judged.cc_mask:.3f}",
        f"map-model FSC 0.5 at {judged.map_model_resolution_angstrom:.2f} A",
        f"clashscore {judged.clashscore:.1f}",
    ]
    for name, value in (
        ("mean FSC with the half map refined against", judged.fsc_work),
        ("with the other one", judged.fsc_free),
    ):
        if value is not None:
            parts.append(f"{name} {value:.3f}")
    for name, value in (
        ("Ramachandran favoured", judged.ramachandran_favoured_percent),
        ("Ramachandran outliers", judged.ramachandran_outlier_percent),
        ("rotamer outliers", judged.rotamer_outlier_percent),
    ):
        if value is not None:
            parts.append(f"{name} {value:.1f} %")
    return "; ".join(parts)


def _entity(of: Gathered, entity: Entity, molecule: Molecule | None) -> dict[str, Value]:
    is_natural = of.told.sample.expression_host is None or entity.kind == "water"
    return {
        "id": entity.id,
        "type": "polymer" if entity.is_polymer else entity.kind,
        "src_method": ("nat" if is_natural else "man") if entity.is_polymer or entity.kind == "water" else "syn",
        "pdbx_description": molecule.name if molecule is not None else entity.letters.lower().replace("hoh", "water"),
        "formula_weight": round(entity.weight_dalton, 3),
        "pdbx_number_of_molecules": entity.n_molecules,
    }


def _source(of: Gathered, entity: Entity, molecule: Molecule) -> dict[str, Value]:
    sample = of.told.sample
    organism = molecule.organism or sample.organism
    taxonomy = molecule.taxonomy_id or sample.taxonomy_id
    if sample.expression_host is None:
        return {
            "entity_id": entity.id,
            "pdbx_src_id": 1,
            "pdbx_organism_scientific": organism,
            "pdbx_ncbi_taxonomy_id": taxonomy,
        }
    return {
        "entity_id": entity.id,
        "pdbx_src_id": 1,
        "pdbx_gene_src_scientific_name": organism,
        "pdbx_gene_src_ncbi_taxonomy_id": taxonomy,
        "pdbx_host_org_scientific_name": sample.expression_host,
        "pdbx_host_org_ncbi_taxonomy_id": sample.expression_host_taxonomy_id,
    }


def _reference(number: int, entity: Entity, molecule: Molecule) -> dict[str, Value]:
    return {
        "id": number,
        "entity_id": entity.id,
        "db_name": "UNP",
        "db_code": molecule.uniprot,
        "pdbx_db_accession": molecule.uniprot,
    }


def _prediction_words(source: PredictionSource) -> str:
    words = f"predicted with {' '.join(filter(None, (source.engine, source.version)))}"
    return words if source.template is None else f"{words}, a model of an earlier round as its template"


def _programs(model: ModelLineage) -> Rows:
    own = programs_of(model.ancestors) or None
    name, _, version = (model.refining_program or f"vitriflow {own or ''}").partition(" ")
    return [
        {"pdbx_ordinal": 1, "classification": "model building", "name": "vitriflow", "version": own, "type": "program"},
        {
            "pdbx_ordinal": 2,
            "classification": "refinement",
            "name": name,
            "version": version or None,
            "type": "program",
        },
    ]


def _restraints(model: ModelLineage) -> Rows:
    refinement = model.refinement
    value = refinement.figures.get("angle_rmsd_deg") if refinement is not None else None
    if not isinstance(value, int | float):
        return []
    return [{"pdbx_refine_id": _METHOD, "type": "r_angle_refined_deg", "dev_ideal": value}]
