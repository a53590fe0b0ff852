"""What only the depositor of a session knows; everything else that a deposition needs is in the store."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints


def _checked_orcid(orcid: str) -> str:
    """The last character of an ORCID is a check sum (ISO 7064 11,2)."""
    digits = orcid.replace("-", "")
    total = 0
    for digit in digits[:-1]:
        total = (total + int(digit)) * 2
    expected = "0123456789X"[(12 - total % 11) % 11]
    if digits[-1] != expected:
        raise ValueError(f"{orcid} is no ORCID: its last character should be {expected}; copy it again")
    return orcid


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255)]
Name = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^[^0-9!\"£$%^&*()]+$", max_length=60)]
Country = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]
Orcid = Annotated[
    str, StringConstraints(pattern=r"^(\d{4}-){3}\d{3}[\dX]$"), AfterValidator(_checked_orcid)
]  # fmt: skip


class _Told(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Author(_Told):
    """One of the authors of the entry."""

    family_name: Name
    initials: Annotated[str, StringConstraints(pattern=r"^[A-Z](\.?-?[A-Z])*\.?$", max_length=20)]
    """Of the given names: ``AB`` or ``A.B.``"""
    orcid: Orcid | None = None


class Person(_Told):
    """Somebody whom the archives write to."""

    first_name: Name
    last_name: Name
    email: Annotated[str, StringConstraints(pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$")]
    organization: Text
    organization_type: Literal["academic", "commercial", "government", "other"] = "academic"
    country: Country
    """Two letters, ISO 3166."""
    town: Name | None = None
    orcid: Orcid
    salutation: Literal["Dr.", "Prof.", "Mr.", "Ms.", "Mrs."] = "Dr."


class Grant(_Told):
    """Who paid for the work."""

    organization: Text
    number: Text
    country: Country


class Molecule(_Told):
    """A kind of chain, named for the archives; its sequence is the session's."""

    name: Text
    organism: Text | None = None
    """Where it differs from the sample's."""
    taxonomy_id: int | None = Field(default=None, ge=1)
    uniprot: Annotated[str, StringConstraints(pattern=r"^[A-Z0-9]{6,10}$")] | None = None
    """Accession of its entry, ``P02794``."""


class Sample(_Told):
    """What was looked at."""

    name: Text
    type: Literal["COMPLEX", "RIBOSOME", "VIRUS", "ORGANELLE OR CELLULAR COMPONENT"] = "COMPLEX"
    organism: Text
    """Scientific name: ``Homo sapiens``."""
    taxonomy_id: int = Field(ge=1)
    """NCBI's: 9606."""
    expression_host: Text | None = None
    """Scientific name; without it the sample is taken for one from its natural source."""
    expression_host_taxonomy_id: int | None = Field(default=None, ge=1)
    buffer_ph: float = Field(ge=0, le=14)
    concentration_mg_per_ml: float | None = Field(default=None, gt=0)
    molecules: tuple[Molecule, ...] = ()
    """One for each sequence of the model, in the order of the sequences."""


class Specimen(_Told):
    """How it was frozen."""

    cryogen: Literal["ETHANE", "ETHANE-PROPANE", "PROPANE", "NITROGEN", "HELIUM", "METHANE", "OTHER"] = "ETHANE"
    plunger: Text | None = None
    """``FEI VITROBOT MARK IV``, ``LEICA EM GP``: as the dictionary names it."""
    humidity_percent: float | None = Field(default=None, ge=0, le=100)
    chamber_temperature_k: float | None = Field(default=None, gt=0)
    grid_material: Text | None = None
    grid_type: Text | None = None


class Instrument(_Told):
    """What the microscope's own files did not tell; told twice and differently is an error."""

    microscope: Text | None = None
    """``FEI TITAN KRIOS``, ``TFS KRIOS``, ``JEOL CRYO ARM 300``: as the dictionary names it."""
    detector: Text | None = None
    """``GATAN K3 (6k x 4k)``, ``FEI FALCON IV (4k x 4k)``."""
    electron_source: Literal["FIELD EMISSION GUN", "LAB6", "TUNGSTEN HAIRPIN", "OTHER"] = "FIELD EMISSION GUN"
    dose_electrons_per_angstrom2: float | None = Field(default=None, gt=0)
    """Of a whole exposure."""
    voltage_kv: float | None = Field(default=None, ge=20, le=1500)
    """Of a map of another program, whose exposures nobody saw."""
    spherical_aberration_mm: float | None = Field(default=None, ge=0, le=20)
    n_particles: int | None = Field(default=None, ge=1)


class DepositionFile(_Told):
    """The file of the depositor."""

    title: Annotated[str, StringConstraints(strip_whitespace=True, min_length=10, max_length=255)]
    keywords: Text
    """Of the structure, the class of the PDB first: ``METAL BINDING PROTEIN, ferritin``."""
    release: Literal["REL", "HPUB", "HOLD"] = "HPUB"
    """At once, when the paper is published, or after a year."""
    authors: tuple[Author, ...] = Field(min_length=1)
    contact: Person
    principal_investigator: Person
    grants: tuple[Grant, ...]
    """``[]`` where nobody is to be named."""
    sample: Sample
    specimen: Specimen = Specimen()
    instrument: Instrument = Instrument()
    contour_level: float | None = None
    """Of the map; without it, where it encloses a third of the volume of the model, or of the mask without a model."""
