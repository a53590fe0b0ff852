"""Boltz: proteins, nucleic acids and ligands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tasks.formats.template import template_mmcif
from tasks.prediction.engine import EngineError, EnginePlace
from tasks.prediction.request import Chain, Request


class Boltz:
    """Boltz-2, ``boltz predict``.

    Source
    ------
    Passaro et al. 2025, and docs/prediction.md of its repository.
    """

    name = "Boltz"

    def command(self, request: Request, place: EnginePlace, folder: Path) -> list[str]:
        """Write ``<name>.yaml``; predict with the whole PAE."""
        if not place.is_server_asked and any(c.kind == "protein" and c.alignment is None for c in request.chains):
            missing = [i + 1 for i, c in enumerate(request.chains) if c.kind == "protein" and c.alignment is None]
            raise EngineError(
                f"Boltz: sequence {', '.join(map(str, missing))} has no alignment; give one with --alignment, or allow"
                " a public server to be asked with --ask-server (it is sent the sequence)"
            )
        document: dict[str, Any] = {"version": 1, "sequences": self._entries(request)}
        if request.templates:
            document["templates"] = [self._template(request, folder / "template.cif")]
        path = folder / f"{request.name}.yaml"
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        options = ["predict", path.name, "--out_dir", "out", "--write_full_pae", "--output_format", "mmcif"]
        options += ["--diffusion_samples", str(request.n_samples), "--seed", str(request.seed)]
        options += ["--accelerator", "gpu" if place.is_gpu else "cpu", "--devices", "1"]
        if place.weights is not None:
            options += ["--cache", str(place.weights)]
        if place.is_server_asked:
            options.append("--use_msa_server")
        return options

    def check_templates(self, out: Path) -> None:
        """Templates that it has read lie beside its other input; versions before 2.1 pass over them in silence."""
        if not any(out.rglob("processed/templates/*.npz")):
            raise EngineError(
                "Boltz: has not read the template that it was shown; expected processed/templates/*.npz in what it"
                " wrote, as of version 2.1; update it"
            )

    def _template(self, request: Request, path: Path) -> dict[str, Any]:
        path.write_bytes(template_mmcif(request.templates, path.stem))
        names = [chain.name for chain in request.templates]
        told: dict[str, Any] = {"cif": str(path.resolve()), "chain_id": names, "template_id": names}
        if request.most_from_template_angstrom is not None:
            told |= {"force": True, "threshold": request.most_from_template_angstrom}
        return told

    def _entries(self, request: Request) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = []
        for part, names in zip(request.parts, request.chain_names()):
            about: dict[str, Any] = {"id": names if len(names) > 1 else names[0]}
            if isinstance(part, Chain):
                about["sequence"] = part.letters
                if part.alignment is not None:
                    about["msa"] = str(part.alignment.resolve())
                entries.append({part.kind: about})
            else:
                about |= {"ccd": part.code} if part.code is not None else {"smiles": part.smiles}
                entries.append({"ligand": about})
        return entries
