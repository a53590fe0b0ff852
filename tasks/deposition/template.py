"""A depositor's file to fill in: what this session does not know, and no more."""

from __future__ import annotations

import uuid
from pathlib import Path

from tasks.deposition.exposures import session_facts
from tasks.deposition.lineage import find_model, model_lineage
from tasks.deposition.names import detector_name, microscope_name
from tasks.deposition.params import DepositStructureParams
from tasks.formats.pdbx import pdbx_model
from tasks.stores.session_store import SessionStore

_HEAD = """\
# What only you know of session {session}; everything else comes from its store. Lines without a value count as missing,
# those behind a # may stay away.
title:                       # of the entry, 10 letters or more
keywords:                    # class of the PDB first: METAL BINDING PROTEIN, ferritin
release: HPUB                # REL at once, HPUB with the paper, HOLD after a year
authors:                     # in their order
  - family_name:
    initials:                # M.S.
    # orcid: 0000-0000-0000-0000
contact: &contact
  first_name:
  last_name:
  email:
  organization:
  # organization_type: academic, commercial, government or other
  # town:
  country:                   # two letters: DE, US
  orcid:
principal_investigator: *contact   # or the same lines again
grants: []                   # or a list of
  # - organization:
  #   number:
  #   country:
sample:
  name:
  # type: COMPLEX, RIBOSOME, VIRUS or ORGANELLE OR CELLULAR COMPONENT
  organism:                  # Homo sapiens
  taxonomy_id:               # NCBI's: 9606
  # expression_host: Escherichia coli
  # expression_host_taxonomy_id: 562
  buffer_ph:
  # concentration_mg_per_ml:
"""
_MOLECULE = """\
    - name:                  # of {letters}…, {n} residues, chain {chains}
      # uniprot: accession
      # organism: where it is not the sample's, with taxonomy_id:
"""
_SPECIMEN = """\
specimen:
  cryogen: ETHANE
  # plunger: FEI VITROBOT MARK IV
  # humidity_percent: 100
  # chamber_temperature_k: 277
  # grid_material: GOLD
  # grid_type:
"""


def write_template(store: SessionStore, path: Path, params: DepositStructureParams) -> None:
    """Write the file; it appears under its name when it is whole.

    Raises
    ------
    ValueError
        Where there is a file of this name already.
    """
    if path.exists():
        raise ValueError(f"{path}: is there already; give another name, so that nothing of it is lost")
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        partial.write_text(_text(store, params))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _text(store: SessionStore, params: DepositStructureParams) -> str:
    parts = [_HEAD.format(session=store.session.name)]
    name = find_model(store, params.model) if params.has_pdb else None
    if name is not None:
        model = model_lineage(store, name)
        entities = pdbx_model(model.mmcif, f"models/{name}", model.sequences).entities
        parts.append("  molecules:                 # one for each kind of chain\n")
        parts += [
            _MOLECULE.format(letters=one.letters[:12], n=len(one.letters), chains=", ".join(one.chains))
            for one in entities
            if one.is_polymer
        ]
    parts.append(_SPECIMEN)
    unknown = _unknown(store)
    if unknown:
        parts.append("instrument:                  # what the microscope's files do not tell\n")
        parts += [f"  {name}:\n" for name in unknown]
    return "".join(parts)


def _unknown(store: SessionStore) -> list[str]:
    """Fields of `tasks.records.deposition.Instrument` that the session cannot fill."""
    groups = [group for group, _ in session_facts(store).groups]
    found = []
    if not all(microscope_name(group.microscope) for group in groups) or not groups:
        found.append("microscope")
    if not all(detector_name(group.detector) for group in groups) or not groups:
        found.append("detector")
    if not groups or any(group.dose_electrons_per_angstrom2 is None for group in groups):
        found.append("dose_electrons_per_angstrom2")
    return found if groups else [*found, "voltage_kv", "spherical_aberration_mm", "n_particles"]
