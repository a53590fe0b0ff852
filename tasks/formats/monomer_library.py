"""The library of monomers that geometry restraints come from: where it lies, and what it holds."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import gemmi
import torch

from kernels.models.atomic_model import AtomicModel

_NEEDED = ("ener_lib.cif", "list/mon_lib_list.cif")
"""Beside the monomers: types of atoms, and links between monomers."""
_LINK_LIST_OF_OLD = "mon_lib_list.cif"
_REMEDY = (
    "install CCP4 and set CLIBD_MON to its lib/data/monomers, or clone https://github.com/MonomerLibrary/monomers and"
    " give its folder as `monomer_library`"
)


class MonomerLibraryError(ValueError):
    """No library, an incomplete one, or one without a monomer that a model has."""


def find_monomer_library(given: Path | str | None = None) -> Path:
    """Folder of a CCP4-style monomer library.

    The given one; else ``$CLIBD_MON``, CCP4's (``$CCP4``), and those that Coot or Debian's ``refmac-dictionary``
    install, of which the first that is complete is taken.

    Raises
    ------
    MonomerLibraryError
        Where there is none that is complete.
    """
    if given is not None:
        lacking = _lacking(Path(given))
        if lacking:
            raise MonomerLibraryError(f"{given}: is no monomer library: {lacking}; {_REMEDY}")
        return Path(given)
    places = list(_places())
    problems = []
    for place in places:
        lacking = _lacking(place)
        if not lacking:
            return place
        if place.is_dir():
            problems.append(f"{place}: {lacking}")
    found = "; ".join(problems) or f"looked in {', '.join(str(p) for p in places)}"
    raise MonomerLibraryError(f"no monomer library with restraints was found ({found}); {_REMEDY}")


def _places() -> Iterable[Path]:
    if os.environ.get("CLIBD_MON"):
        yield Path(os.environ["CLIBD_MON"])
    if os.environ.get("CCP4"):
        yield Path(os.environ["CCP4"]) / "lib/data/monomers"
    for place in ("/usr/share/coot/lib/data/monomers", "/usr/share/refmac/monomers"):
        yield Path(place)


def _lacking(folder: Path) -> str:
    """What a folder lacks of a library; empty where it lacks nothing."""
    if not folder.is_dir():
        return "there is no such folder"
    missing = [name for name in _NEEDED if not (folder / name).is_file()]
    if missing == [_NEEDED[1]] and (folder / _LINK_LIST_OF_OLD).is_file():
        missing = []
    return f"it has no {' and no '.join(missing)}" if missing else ""


def require_monomers(library: Path, model: AtomicModel, others: Iterable[str] = ()) -> None:
    """Raise MonomerLibraryError where a residue of the model, or one of its atoms, is not in the library.

    Residues of the names ``others`` have restraints of their own.
    """
    model = model.take_residues(torch.tensor([about.name not in set(others) for about in model.residues]))
    missing: dict[str, str] = {}
    atoms: dict[str, set[str]] = {}
    for about in model.residues:
        if about.name in atoms or about.name in missing:
            continue
        path = library / gemmi.MonLib().path(about.name)
        if path.is_file():
            atoms[about.name] = _atom_names(path, about.name)
        else:
            missing[about.name] = str(about)
    if missing:
        first = ", ".join(f"{name} (at {where})" for name, where in list(missing.items())[:5])
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise MonomerLibraryError(
            f"{library}: has no restraints for {first}{more}; make them, for instance with AceDRG, and put"
            " them there, or leave these residues out of the model"
        )
    for name, residue in zip(model.names, model.residue.tolist()):
        about = model.residues[residue]
        if name not in atoms[about.name] and name != "OXT":
            raise MonomerLibraryError(
                f"{about} has an atom {name}, which {about.name} of {library} has not; it has"
                f" {' '.join(sorted(atoms[about.name]))}; rename the atom or the residue"
            )


def _atom_names(path: Path, monomer: str) -> set[str]:
    try:
        block = gemmi.cif.read(str(path)).find_block(f"comp_{monomer}")
        names = [gemmi.cif.as_string(name) for name in block.find_values("_chem_comp_atom.atom_id")] if block else []
    except (OSError, ValueError, RuntimeError) as error:
        raise MonomerLibraryError(f"{path}: cannot be read ({error}); install the monomer library again") from error
    if not names:
        raise MonomerLibraryError(f"{path}: lists no atoms of {monomer}; install the monomer library again")
    return set(names)
