"""A store with the records of a processed session and hardly any pixels, for what is removed from it and what stays."""

from __future__ import annotations

import numpy as np

from tasks.records.session import StageParams
from tasks.stores.session_store import SessionStore

STAGES = {
    "import_session": ((), "micrograph"),
    "correct_motion": (("import_session",), "micrograph"),
    "estimate_ctf": (("correct_motion",), "power_spectrum"),
    "curate_exposures": (("estimate_ctf", "correct_motion"), None),
    "pick_particles": (("curate_exposures", "estimate_ctf", "correct_motion"), "score"),
    "extract_particles": (("curate_exposures", "estimate_ctf", "correct_motion", "pick_particles"), "image"),
}
"""Stage of an exposure -> stages that it reads, and one of its arrays."""
SETS = {
    "particles/extracted": ("extract_particles", (), "pick_score"),
    "classes/2d": ("classify_2d", ("particles/extracted",), "class_average"),
    "particles/selected": ("classify_2d", ("particles/extracted",), "pick_score"),
    "maps/initial": ("build_initial_map", ("particles/selected",), "map"),
    "maps/refined": ("refine_map", ("particles/selected", "maps/initial"), "map"),
    "maps/sharpened": ("sharpen_map", ("maps/refined",), "map"),
}
"""Product of the session -> its stage, what it reads, and one of its arrays."""
_SHAPES = {"micrograph": (30, 40), "power_spectrum": (12, 7), "score": (5,), "pick_score": (5,), "image": (2, 8, 8)}
_SHAPES |= {"class_average": (2, 8, 8), "map": (8, 8, 8)}


class VariedParams(StageParams):
    """Stands in for the parameters of any stage."""

    variant: int = 0


def put_exposure_stage(store: SessionStore, exposure: str, stage: str, variant: int = 0, kind: str = "movie") -> None:
    """Commit a product as its stage would, from what the store has now."""
    sources, array = STAGES[stage]
    inputs = store.fingerprints([f"exposures/{exposure}/{source}" for source in sources])
    address = f"exposures/{exposure}/{stage}"
    _put(store, address, stage, inputs, array, variant, {"exposure": {"kind": kind}} if not sources else {})


def put_set(store: SessionStore, address: str, variant: int = 0) -> None:
    stage, sources, array = SETS[address]
    addresses = list(sources)
    if not sources:
        stacks = [store.exposure_product(exposure, stage) for exposure in store.exposure_ids()]
        addresses = [stack.address for stack in stacks if (r := stack.record()) is not None and r.state == "done"]
    _put(store, address, stage, store.fingerprints(addresses), array, variant, {})


def put_scratch(store: SessionStore, stage: str, name: str, source: str) -> str:
    address = f"scratch/{stage}/0123456789abcdef/{name}"
    _put(store, address, stage, store.fingerprints([source]), "map", 0, {})
    return address


def _put(store, address, stage, inputs, array, variant, details) -> None:
    with store.product(address).write(stage, 1, VariedParams(variant=variant), inputs) as attempt:
        attempt.details |= details
        if array is not None:
            dtype = np.float16 if array == "image" else np.float32
            attempt.write(array, np.full(_SHAPES[array], variant, dtype))


def put_session(store: SessionStore, exposures: list[str]) -> None:
    """A session processed to its end."""
    for exposure in exposures:
        for stage in STAGES:
            put_exposure_stage(store, exposure, stage)
    for address in SETS:
        put_set(store, address)
