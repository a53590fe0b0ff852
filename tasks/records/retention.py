"""How long products are kept, and what a sweep removed."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

ProductClass = Literal[
    "imported_movies",
    "micrographs",
    "power_spectra",
    "picks",
    "particle_stacks",
    "particle_sets",
    "classes",
    "maps",
    "predictions",
    "detections",
    "models",
    "validations",
    "verdicts",
    "comparisons",
    "scratch",
    "leftover_attempts",
]
"""What a store holds, in the order in which it is made; a product of no class is never removed."""

PRODUCT_CLASSES: tuple[ProductClass, ...] = get_args(ProductClass)

Rule = Annotated[str, Field(pattern=r"^(forever|\d{1,5} days?)$")]
"""``forever``, or ``30 days`` after the session's last activity."""
RuleUntilUsed = Annotated[str, Field(pattern=r"^(forever|until used|\d{1,5} days?)$")]
"""The same, or ``until used``: until the product made from it is committed."""


class RetentionPolicy(BaseModel):
    """How long each class of product is kept. What another product still has to be made from is kept in any case."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    imported_movies: RuleUntilUsed = "forever"
    """Frames as imported; used when their motion is corrected."""
    micrographs: RuleUntilUsed = "forever"
    """Motion corrected, or imported as such; used when their particles are extracted or they were rejected."""
    power_spectra: Rule = "forever"
    """Spectra and fit curves; the fitted CTF itself stands in the record and stays."""
    picks: Rule = "forever"
    particle_stacks: Rule = "forever"
    """The images; coordinates, CTF and poses are particle sets."""
    particle_sets: Rule = "forever"
    classes: Rule = "forever"
    maps: Rule = "forever"
    predictions: Rule = "forever"
    """Structures of engines and files; an engine need not give the same one again."""
    detections: Rule = "forever"
    """What the network finds in a map; it is asked again where the next round needs it."""
    models: Rule = "forever"
    validations: Rule = "forever"
    verdicts: Rule = "forever"
    """With the masks of weak parts."""
    comparisons: Rule = "forever"
    scratch: RuleUntilUsed = "30 days"
    """Sums and states of single iterations; used when the product they were made for is committed."""
    leftover_attempts: Rule = "2 days"
    """Attempts that no record names: superseded, or of a stage that was killed. Counted from the attempt's newest
    file, so choose more than the longest item takes."""

    is_kept_for_failed: bool = True
    """What a failed item was to be made from is kept, so that it can be run again."""

    def days(self, product_class: ProductClass) -> int | None:
        """Days that a class is kept, None where its rule is another one."""
        words = str(getattr(self, product_class)).split()
        return int(words[0]) if words[0].isdigit() else None

    def is_until_used(self, product_class: ProductClass) -> bool:
        return bool(getattr(self, product_class) == "until used")


class Expiry(BaseModel):
    """Left in the record of a product that was removed; the record's fingerprint still says what it was."""

    model_config = ConfigDict(frozen=True)

    at: str
    """ISO 8601, UTC."""
    rule: str
    """For instance ``imported_movies: 30 days``."""
    attempt: str
    """Folder that held it; a removal that was interrupted is finished there."""
    is_wanted: bool = False
    """Whether the next run is to make it again."""


class SweptItem(BaseModel):
    """Files that a sweep removed, would remove, or leaves where they are although they expired."""

    address: str
    """Of the product."""
    attempt: str
    product_class: ProductClass
    n_files: int
    n_bytes: int
    reason: str
    """Rule by which it goes, or why it stays."""


class SweepReport(BaseModel):
    """What one sweep of one session did; a dry run says what it would do."""

    session: str
    url: str
    is_dry_run: bool
    last_activity: str = ""
    """ISO 8601, UTC."""
    n_products: int = 0
    """Commit records that were read."""
    removed: list[SweptItem] = []
    held: list[SweptItem] = []
    """Expired, and kept since something still needs it."""
    n_already_expired: int = 0
    refused: str | None = None
    """Why the session was left alone."""

    @property
    def n_bytes(self) -> int:
        return sum(item.n_bytes for item in self.removed)

    def bytes_by_class(self) -> dict[ProductClass, int]:
        """Class -> bytes that go; classes that lose nothing are left out."""
        found: dict[ProductClass, int] = {}
        for item in self.removed:
            found[item.product_class] = found.get(item.product_class, 0) + item.n_bytes
        return {name: found[name] for name in PRODUCT_CLASSES if name in found}
