"""What a user named as being in the sample: told apart, read, and made ready before anything long runs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gemmi

from kernels.models.ligand_template import LigandTemplate
from tasks.formats import FormatError
from tasks.formats.chem_comp import dictionary_text, read_dictionary, template_of
from tasks.formats.molecules import dictionary_of, embedded, molecule_of_smiles, read_molecule, template_of_molecule
from tasks.formats.monomer_library import MonomerLibraryError, find_monomer_library
from tasks.ligands.params import PlaceLigandsParams

_CODE = re.compile(r"[A-Z0-9]{1,5}")
_FILES = {".cif": "dictionary", ".sdf": "molecule", ".mol": "molecule"}
_FREE_CODES = ("LIG", "DRG", "INH", *(f"{i:02d}" for i in range(1, 100)))
"""That the PDB never gives to a molecule of its own."""
_REMEDY = "give `--ligand FILE` with a restraint CIF, SDF or MOL file, or `--ligand SMILES`"


@dataclass(frozen=True, eq=False)
class RequestedLigand:
    """A molecule with its restraints."""

    told: str
    """What the user named."""
    template: LigandTemplate
    dictionary: str | None
    """CIF file of restraints that the monomer library does not have; None where it has them."""


def read_requested(told: Sequence[str], library: Path | None) -> list[RequestedLigand]:
    """All that was named, each as what it looks like: a file by its ending, a code of the library, else SMILES.

    Raises
    ------
    FormatError
        Which names the ligand and says what to do.
    """
    taken: set[str] = set()
    found = []
    for one in told:
        made = _read(one.strip(), library, taken)
        taken.add(made.template.code)
        found.append(made)
    return found


def require_readable(params: PlaceLigandsParams) -> None:
    """Raise FormatError for a ligand that cannot be read, and MonomerLibraryError for a library that is none."""
    if params.ligands:
        read_requested(params.ligands, library_of(params))


def library_of(params: PlaceLigandsParams) -> Path | None:
    """Folder of the monomer library; None where none was named and none is found."""
    try:
        return find_monomer_library(params.monomer_library)
    except MonomerLibraryError:
        if params.monomer_library is not None:
            raise
        return None


def _read(told: str, library: Path | None, taken: set[str]) -> RequestedLigand:
    path = Path(told).expanduser()
    kind = _FILES.get(path.suffix.lower())
    if kind is not None:
        if not path.is_file():
            raise FormatError(f"ligand {told}: there is no such file; correct the path, or {_REMEDY}")
        if kind == "dictionary":
            molecule = read_dictionary(path)
            return RequestedLigand(told, template_of(molecule), dictionary_text(molecule))
        return _made(told, read_molecule(path), taken)
    if _CODE.fullmatch(told):
        entry = None if library is None else library / gemmi.MonLib().path(told)
        if entry is not None and entry.is_file():
            return RequestedLigand(told, template_of(read_dictionary(entry)), None)
        where = "no monomer library was found" if library is None else f"{library} has no restraints for it"
        if len(told) > 2 and not set(told) <= set("BCNOPSFI"):  # CCO and the like are SMILES as well
            raise FormatError(f"ligand {told}: {where}; {_REMEDY}")
    return _made(told, molecule_of_smiles(told), taken)


def _made(told: str, molecule: Any, taken: set[str]) -> RequestedLigand:
    code = next(code for code in _FREE_CODES if code not in taken)
    made = embedded(molecule, f"ligand {told}")
    return RequestedLigand(told, template_of_molecule(made, code), dictionary_text(dictionary_of(made, code)))
