"""Categories of people, sample and specimen: what the depositor told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from tasks.deposition.gathered import Gathered
from tasks.deposition.names import country_name
from tasks.formats.pdbx import Entity, Value
from tasks.records.deposition import Author, Person

T = TypeVar("T")
Rows = Sequence[Mapping[str, Value]]


def people_categories(of: Gathered, today: str) -> dict[str, Rows]:
    """Authors, contacts, grants, title and the state of the entry."""
    told, entry = of.told, of.entry_id
    authors = [(archive_name(author), author.orcid) for author in told.authors]
    return {
        "struct": [{"entry_id": entry, "title": told.title}],
        "struct_keywords": [
            {"entry_id": entry, "pdbx_keywords": told.keywords.split(",")[0].strip(), "text": told.keywords}
        ],
        "audit_author": [
            {"name": name, "pdbx_ordinal": i, "identifier_ORCID": orcid} for i, (name, orcid) in _numbered(authors)
        ],
        "citation": [
            {"id": "primary", "title": told.title, "journal_abbrev": "To Be Published", "unpublished_flag": "Y"}
        ],
        "citation_author": [
            {"citation_id": "primary", "name": name, "ordinal": i, "identifier_ORCID": orcid}
            for i, (name, orcid) in _numbered(authors)
        ],
        "pdbx_contact_author": [_contact(i, person, role) for i, (person, role) in _numbered(_contacts(of))],
        "pdbx_audit_support": [
            {
                "ordinal": i,
                "funding_organization": grant.organization,
                "grant_number": grant.number,
                "country": country_name(grant.country),
            }
            for i, grant in _numbered(told.grants)
        ],
        "em_author_list": [{"ordinal": i, "author": name} for i, (name, _) in _numbered(authors)],
        "em_admin": [
            {
                "entry_id": entry,
                "title": told.title,
                "current_status": "PROC",
                "deposition_date": today,
                "last_update": today,
                "deposition_site": "PDBE",
                "replace_existing_entry_flag": "NO",
            }
        ],
        "em_depui": [
            {
                "entry_id": entry,
                "depositor_hold_instructions": told.release,
                "macromolecule_description": "YES" if told.sample.molecules else "NO",
                "obsolete_instructions": "NO",
                "same_authors_as_pdb": "YES",
                "same_title_as_pdb": "YES",
            }
        ],
    }


def sample_categories(of: Gathered, polymers: Sequence[Entity]) -> dict[str, Rows]:
    """The assembly, where it comes from, and how it was frozen."""
    sample, specimen, entry = of.told.sample, of.told.specimen, of.entry_id
    is_natural = sample.expression_host is None
    found: dict[str, Rows] = {
        "em_entity_assembly": [
            {
                "id": 1,
                "parent_id": 0,
                "name": sample.name,
                "type": sample.type,
                "source": "NATURAL" if is_natural else "RECOMBINANT",
                "entity_id_list": ", ".join(entity.id for entity in polymers) or None,
            }
        ],
        "em_entity_assembly_naturalsource": [
            {"id": 1, "entity_assembly_id": 1, "organism": sample.organism, "ncbi_tax_id": sample.taxonomy_id}
        ],
        "em_experiment": [
            {
                "entry_id": entry,
                "id": 1,
                "aggregation_state": "PARTICLE",
                "reconstruction_method": "SINGLE PARTICLE",
                "entity_assembly_id": 1,
            }
        ],
        "em_specimen": [
            {
                "id": 1,
                "experiment_id": 1,
                "concentration": sample.concentration_mg_per_ml,
                "embedding_applied": "NO",
                "shadowing_applied": "NO",
                "staining_applied": "NO",
                "vitrification_applied": "YES",
            }
        ],
        "em_buffer": [{"id": 1, "specimen_id": 1, "pH": sample.buffer_ph}],
        "em_vitrification": [
            {
                "entry_id": entry,
                "id": 1,
                "specimen_id": 1,
                "cryogen_name": specimen.cryogen,
                "instrument": specimen.plunger,
                "humidity": specimen.humidity_percent,
                "chamber_temperature": specimen.chamber_temperature_k,
            }
        ],
    }
    if of.pdbx is not None:
        found["em_entity_assembly_molwt"] = [
            {
                "id": 1,
                "entity_assembly_id": 1,
                "value": round(of.pdbx.weight_dalton / 1e6, 5),
                "units": "MEGADALTONS",
                "experimental_flag": "NO",
            }
        ]
    if not is_natural:
        found["em_entity_assembly_recombinant"] = [
            {
                "id": 1,
                "entity_assembly_id": 1,
                "organism": sample.expression_host,
                "ncbi_tax_id": sample.expression_host_taxonomy_id,
            }
        ]
    if specimen.grid_material is not None or specimen.grid_type is not None:
        found["em_sample_support"] = [
            {"id": 1, "specimen_id": 1, "grid_material": specimen.grid_material, "grid_type": specimen.grid_type}
        ]
    return found


def archive_name(author: Author) -> str:
    """``Chang, Y.W.``"""
    letters = author.initials.replace(".", "").split("-")
    return f"{author.family_name}, {'-'.join(''.join(f'{c}.' for c in part) for part in letters)}"


def _contacts(of: Gathered) -> list[tuple[Person, str]]:
    told = of.told
    leader = (told.principal_investigator, "principal investigator/group leader")
    is_same = told.contact.email == told.principal_investigator.email
    return [leader] if is_same else [(told.contact, "responsible scientist"), leader]


def _contact(number: int, person: Person, role: str) -> dict[str, Value]:
    return {
        "id": number,
        "name_salutation": person.salutation,
        "name_first": person.first_name,
        "name_last": person.last_name,
        "email": person.email,
        "country": country_name(person.country),
        "city": person.town,
        "address_1": person.organization,
        "role": role,
        "organization_type": person.organization_type,
        "identifier_ORCID": person.orcid,
    }


def _numbered(rows: Sequence[T]) -> list[tuple[int, T]]:
    return list(enumerate(rows, start=1))
