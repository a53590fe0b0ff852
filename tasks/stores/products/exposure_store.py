"""What the store knows of single exposures."""

from __future__ import annotations

import torch

from kernels.movies.motion import Motion
from tasks.records.exposure import Exposure, ExposureCtf
from tasks.stores.commit import Product, Reader
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.location import StoreError


def exposure(store: SessionStore, exposure_id: str) -> Exposure:
    """The exposure as its import recorded it."""
    record = store.exposure_product(exposure_id, "import_session").record()
    if record is None or record.state != "done":
        raise StoreError(f"exposure {exposure_id}: not imported ({record.reason if record else 'unknown id'})")
    return Exposure.model_validate(record.details["exposure"])


def is_imported(store: SessionStore, exposure_id: str) -> bool:
    """Whether the exposure's import was done."""
    return store.exposure_product(exposure_id, "import_session").record_if_done() is not None


SUMMED = "a micrograph; it was summed before it came here"


def is_summed(store: SessionStore, exposure_id: str) -> bool:
    """Whether the exposure was imported as a micrograph, so that stages of movies skip it: it is `SUMMED`."""
    record = store.exposure_product(exposure_id, "import_session").record()
    if record is None or record.state != "done":
        return False
    return Exposure.model_validate(record.details["exposure"]).kind == "micrograph"


def micrograph_address(store: SessionStore, exposure_id: str) -> str:
    """Address of the product that holds the exposure's micrograph: motion corrected, or imported as one."""
    kind = exposure(store, exposure_id).kind
    return f"exposures/{exposure_id}/{'correct_motion' if kind == 'movie' else 'import_session'}"


def micrograph(store: SessionStore, exposure_id: str) -> Reader:
    """Product with an array ``micrograph``; movies also have ``unweighted_micrograph``."""
    return store.product(micrograph_address(store, exposure_id)).read()


def exposure_ctf(store: SessionStore, exposure_id: str) -> ExposureCtf:
    """The fitted CTF of an exposure."""
    product: Product = store.exposure_product(exposure_id, "estimate_ctf")
    record = product.record()
    if record is None or record.state != "done":
        raise StoreError(f"exposure {exposure_id}: no CTF ({record.reason if record else 'estimate_ctf has not run'})")
    return ExposureCtf.model_validate(record.details["ctf"])


def exposure_motion(store: SessionStore, exposure_id: str) -> Motion:
    """The motion that was fitted to a movie, in pixels of its frames."""
    about = exposure(store, exposure_id)
    reader = store.exposure_product(exposure_id, "correct_motion").read()
    pixel_size = about.optics.pixel_size_angstrom
    return Motion(
        torch.from_numpy(reader["global_shift_angstrom"]) / pixel_size,
        torch.from_numpy(reader["local_control_angstrom"]) / pixel_size,
        about.shape,
        int(reader.attributes["reference_frame"]),
    )
