"""What the import of one session does with every file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tasks.formats import FormatError
from tasks.formats.exposure_file import FileParams
from tasks.formats.gain_orientation import GivenGain
from tasks.formats.microscope_metadata import read_metadata
from tasks.records.microscope_metadata import MicroscopeMetadata
from tasks.stores.commit import fingerprint
from tasks.stores.files.import_records import STAGE
from tasks.stores.products import session_gain
from tasks.stores.products.session_gain import SessionGain


@dataclass(frozen=True)
class ImportRules:
    """How files are read and what their fingerprints are made of; travels to the workers."""

    version: int
    """Of the stage."""
    params_of: Callable[[str, MicroscopeMetadata], FileParams]
    """Parameters of the file at a path, of which the microscope's own files say so much; a function of a module."""
    mirror: Path | None
    """Folder of the microscope's own files, where the movies lie elsewhere."""
    given_gain: GivenGain
    gain: SessionGain | None = None
    """None before it is up to date, and where there is none."""

    def with_gain(self, gain: SessionGain | None) -> ImportRules:
        return replace(self, gain=gain)

    def params_without_metadata(self, path: str) -> FileParams:
        """Parameters of a file that is not read."""
        return self.params_of(path, MicroscopeMetadata())

    def metadata(self, path: Path) -> tuple[MicroscopeMetadata, str]:
        """What the microscope says of a file, and what is wrong with its files."""
        try:
            return read_metadata(path, self.mirror), ""
        except FormatError as error:
            return MicroscopeMetadata(), str(error)

    def fingerprint_done(self, params: FileParams, content: str) -> str:
        """Of a file that is an exposure: a gain that it was checked with is no input."""
        return fingerprint(STAGE, self.version, params, {"file": content})

    def fingerprint_failed(self, params: FileParams, content: str, digest: str) -> str:
        return fingerprint(STAGE, self.version, params, self.inputs_failed(content, digest))

    def inputs_failed(self, content: str, digest: str) -> dict[str, str]:
        """What the reason of a failure may depend on: content, gain, and the metadata of this digest."""
        inputs = {"file": content}
        if self.gain is not None:
            inputs[session_gain.ADDRESS] = self.gain.fingerprint
        if digest:
            inputs["metadata"] = digest
        return inputs
