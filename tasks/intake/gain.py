"""The gain of a session, once for all of its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.formats import FormatError
from tasks.formats.exposure_file import has_eer_suffix, open_exposure
from tasks.formats.gain_orientation import GainParams, GivenGain, read_oriented_gain
from tasks.intake.rules import ImportRules
from tasks.records.session import StageParams
from tasks.records.source_file import SourceFile
from tasks.stores.commit import Product, Record, fingerprint
from tasks.stores.files.identity import content_hash
from tasks.stores.files.import_records import STAGE
from tasks.stores.files.index import FileIndex, KnownFile
from tasks.stores.products.session_gain import ADDRESS, SessionGain, session_gain, write_gain
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.location import StoreWriteError
from tasks.workers.items import run_items


@dataclass(frozen=True)
class WantedGain:
    """What the recipe says of it."""

    given: GivenGain
    defects: str | None
    eer_upsampling: int

    @property
    def paths(self) -> dict[str, str]:
        """Name of the parameter -> file."""
        both = {"gain": self.given.path, "defects": self.defects}
        return {name: path for name, path in both.items() if path is not None}


def import_gain(
    store: SessionStore, index: FileIndex, files: Sequence[SourceFile], wanted: WantedGain, rules: ImportRules,
    is_scan: bool,
) -> SessionGain | None:  # fmt: skip
    """Bring ``session/gain`` up to date; None where there is none to compare frames with.

    Without ``is_scan`` the files are a few of many: then what they are does not change what the gain was made for.
    """
    product = store.product(ADDRESS)
    record = product.record()
    if not wanted.paths:
        if record is not None and record.details.get("shape"):  # there was one: now there is none
            with product.write(STAGE, rules.version, StageParams(), {}) as attempt:
                attempt.details = {"shape": None}
        return None
    inputs = {name: _hash_reference(index, Path(path), name) for name, path in wanted.paths.items()}
    is_for_eer = any(has_eer_suffix(file.path) for file in files)
    if not is_scan and record is not None and record.inputs == inputs:
        is_for_eer = is_for_eer or bool(record.params.get("is_for_eer"))
    params = GainParams(
        meaning=wanted.given.meaning, rotation_deg=wanted.given.rotation_deg, flip=wanted.given.flip,
        upsampling=wanted.eer_upsampling if is_for_eer else 1, is_for_eer=is_for_eer,
        binning=wanted.given.binning, frame_shape=None,
    )  # fmt: skip
    if is_for_eer or wanted.given.path is None:
        shape = _shape_before(product, record, params, inputs, rules) or _first_shape(files, rules)
        if shape is None:  # every file will be told apart for itself
            return None
        params = params.model_copy(update={"frame_shape": shape})
    if not product.is_current(fingerprint(STAGE, rules.version, params, inputs)):
        for _, result in run_items(
            _make_gain, [ADDRESS], store.url, params, wanted, inputs, rules.version, label="CPU", name="import_gain"
        ):
            if isinstance(result, StoreWriteError):
                raise result
            if result is not None:
                raise FormatError(str(result))
    return session_gain(store)


def _shape_before(
    product: Product, record: Record | None, params: GainParams, inputs: dict[str, str], rules: ImportRules
) -> tuple[int, int] | None:
    """Shape of the frames that the gain was made for, where nothing else has changed since."""
    shape = record.params.get("frame_shape") if record is not None else None
    if not shape:
        return None
    known = int(shape[0]), int(shape[1])
    before = params.model_copy(update={"frame_shape": known})
    return known if product.is_current(fingerprint(STAGE, rules.version, before, inputs)) else None


def _first_shape(files: Sequence[SourceFile], rules: ImportRules) -> tuple[int, int] | None:
    """Shape of the first file that opens."""
    for file in files:
        path = Path(file.path)
        try:
            return open_exposure(path, rules.params_of(file.path, rules.metadata(path)[0])).shape
        except (FormatError, OSError):
            continue
    return None


def _hash_reference(index: FileIndex, path: Path, name: str) -> str:
    try:
        file = SourceFile.of(path)
        known = index.recall(file.path)
        if known is not None and known.is_unchanged(file):
            return known.content_hash
        found = content_hash(path)
    except OSError as error:
        raise FormatError(
            f"{path}: the file given as `{name}` cannot be read ({error.strerror or error}); check path and permissions"
        ) from error
    index.remember(file.path, KnownFile.of_reference(file, found))
    return found


def _make_gain(
    address: str, session_url: str, params: GainParams, wanted: WantedGain, inputs: dict[str, str], version: int
) -> str | None:
    """Write the session's gain and defects, in the orientation of the frames; returns what is wrong with them."""
    product = SessionStore.open(session_url).product(address)
    try:
        with product.write(STAGE, version, params, inputs) as attempt:
            write_gain(attempt, *read_oriented_gain(params, wanted.given.path, wanted.defects))
    except FormatError as error:
        return str(error)
    return None
