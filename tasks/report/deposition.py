"""A deposition as an artifact: what the bundle holds, what it lacks, or why there is none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tasks.deposition.bundle import DEPOSITION, read_manifest
from tasks.deposition.information import MissingInformationError
from tasks.records.secrets import redacted
from tasks.report.artifacts import artifact_key, show_markdown
from tasks.report.words import markdown_table, markdown_text, plural, time_words
from tasks.stores.session_store import SessionStore

_PARTS = {
    "emdb": "EMDB: map, half maps, masks, FSC, picture, header",
    "pdb": "PDB: model with all of the metadata, validation",
    "empiar": "EMPIAR: images and their description",
}
_COLUMNS = ("part", "files", "GB", "of which links")


def show_deposition(session_url: str) -> None:
    """``<session>-deposition``: the newest bundle of the session."""
    store = SessionStore.open(session_url)
    about = store.product(DEPOSITION).done_record("the deposition", "run deposit_structure").details["deposition"]
    folder, name = Path(about["folder"]), store.session.name
    text = deposition_markdown(name, folder, read_manifest(folder))
    show_markdown(artifact_key(name, "deposition"), text, f"{markdown_text(name)}: a bundle is ready")


def show_refusal(session_url: str, error: Exception) -> None:
    """``<session>-deposition``: all that is missing, or what else stood against a bundle."""
    name = SessionStore.open(session_url).session.name
    words = f"{markdown_text(name)}: nothing was deposited"
    show_markdown(artifact_key(name, "deposition"), refusal_markdown(name, error), words)


def deposition_markdown(name: str, folder: Path, manifest: Mapping[str, Any]) -> str:
    """Where the bundle lies, its parts, what was checked, and what it does not hold."""
    density, model = manifest["map"], manifest["model"]
    of = f"maps/{density['name']} at {density['resolution_angstrom']:.2f} Å" + (f", models/{model}" if model else "")
    return "\n\n".join(
        [
            f"# {markdown_text(name)}: a bundle is ready",
            markdown_text(f"{manifest['title']}. Of {of}; written {time_words(manifest['written_at'])} to"),
            f"`{folder}`",
            "## What it holds",
            markdown_table(_COLUMNS, _rows(manifest["files"])),
            "## What was checked",
            _bullets(manifest["checks"]),
            "## What it lacks",
            _bullets(manifest["left_out"] or ["nothing"]),
        ]
    )


def refusal_markdown(name: str, error: Exception) -> str:
    """What is to be written or mended, or the one reason."""
    problems = error.problems if isinstance(error, MissingInformationError) else (redacted(str(error)),)
    title = f"# {markdown_text(name)}: nothing was deposited"
    return "\n\n".join([title, f"{plural(len(problems), 'thing')} to mend, then run it again:", _bullets(problems)])


def _rows(files: list[Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    for part, words in _PARTS.items():
        own = [row for row in files if row["name"].startswith(f"{part}/")]
        if own:
            n_links = sum("link_to" in row for row in own)
            yield words, str(len(own)), f"{sum(row['bytes'] for row in own) / 1e9:.3f}", str(n_links)


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {markdown_text(line)}" for line in lines)
