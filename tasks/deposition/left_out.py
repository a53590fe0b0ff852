"""What a bundle does not hold, in words: parts that were left out, and facts that nobody told and nobody asks for."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.deposition.gathered import Gathered
from tasks.deposition.params import DepositStructureParams


def left_out(of: Gathered, params: DepositStructureParams) -> list[str]:
    """A line each; none of it keeps the archives from taking the bundle."""
    return [*_parts(of, params), *_facts(of)]


def _parts(of: Gathered, params: DepositStructureParams) -> Iterator[str]:
    if not params.has_pdb:
        yield "no model: the part for the PDB was left out"
    if not params.has_empiar:
        yield "no images: the part for EMPIAR was left out"
        return
    for images in ("movies", "micrographs", "particles"):
        if images not in params.image_sets:
            yield f"no {images} for EMPIAR"
    if "movies" in params.image_sets and params.are_movies_linked:
        yield "movies are links to where they were imported from; keep them there until they are sent"


def _facts(of: Gathered) -> Iterator[str]:
    imaging = [one.imaging for one in of.imaging]
    untold = {
        "date": of.facts.first_day,
        "magnification": all(one.magnification for one in imaging),
        "exposure time": all(one.exposure_time_s for one in imaging),
    }
    if lacking := [name for name, value in untold.items() if not value]:
        yield f"the microscope's files do not tell {', '.join(lacking)}"
    specimen, molecules = of.told.specimen.model_dump(), of.told.sample.molecules
    blank = [f"specimen.{name}" for name, value in specimen.items() if value is None]
    blank += [f"sample.molecules[{i}].uniprot" for i, one in enumerate(molecules, 1) if one.uniprot is None]
    blank += [f"authors[{i}].orcid" for i, one in enumerate(of.told.authors, 1) if one.orcid is None]
    if blank:
        yield f"the depositor's file may tell, and does not: {', '.join(blank)}"
