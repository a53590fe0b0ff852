"""ColabFold: AlphaFold 2 for proteins and their complexes."""

from __future__ import annotations

import json
from pathlib import Path

from tasks.formats.template import template_mmcif
from tasks.prediction.engine import EngineError, EnginePlace
from tasks.prediction.request import Request


class ColabFold:
    """``colabfold_batch``.

    Source
    ------
    Mirdita et al. 2022, Nature Methods 19:679.
    """

    name = "ColabFold"

    def command(self, request: Request, place: EnginePlace, folder: Path) -> list[str]:
        """Write a FASTA file, or take the alignment of a single chain; five models at most, the best first."""
        other = sorted({c.kind for c in request.chains} - {"protein"})
        if other or request.ligands:
            found = [*other, *(["ligands"] if request.ligands else [])]
            raise EngineError(f"ColabFold: predicts proteins alone, found {' and '.join(found)}; take Boltz for these")
        chains = [c for c in request.chains for _ in range(c.copies)]
        aligned = [c.alignment for c in chains if c.alignment is not None]
        if aligned and len(chains) == 1:
            path = folder / f"{request.name}.a3m"
            path.write_text(aligned[0].read_text())
        elif aligned:
            raise EngineError(
                f"ColabFold: takes one alignment for a whole complex, found {len(aligned)} for {len(chains)} chains;"
                " leave them out and allow a public server to be asked with --ask-server, or take Boltz"
            )
        elif not place.is_server_asked:
            raise EngineError(
                "ColabFold: there is no alignment; give one with --alignment, or allow a public server to be asked"
                " with --ask-server (it is sent the sequences)"
            )
        else:
            path = folder / f"{request.name}.fasta"
            path.write_text(f">{request.name}\n{':'.join(c.letters for c in chains)}\n")
        # of the networks for one chain the last three read no templates
        most = 2 if request.templates and len(chains) == 1 else 5
        n_models = min(most, request.n_samples)
        options = [path.name, "out", "--num-models", str(n_models), "--random-seed", str(request.seed)]
        if request.templates:
            self._write_templates(request, folder / "templates")
            options += ["--templates", "--custom-template-path", "templates"]
        if place.weights is not None:
            options += ["--data", str(place.weights)]
        return options

    def check_templates(self, out: Path) -> None:
        """It goes on without templates where its search does not find them, and lists those that it has found."""
        lists = list(out.glob("*_template_domain_names.json"))
        if not any(name for path in lists for names in json.loads(path.read_text()).values() for name in names):
            raise EngineError(
                "ColabFold: has not found the sequence in the template that it was shown; expected its name in"
                " *_template_domain_names.json; look whether hhsearch and kalign are in its environment"
            )

    def _write_templates(self, request: Request, folder: Path) -> None:
        """One file for each sequence, of the first of its copies: chains are searched one by one.

        Names of files are of four letters and digits, small ones, as codes of the archive.
        """
        if request.most_from_template_angstrom is not None:
            raise EngineError(
                "ColabFold: cannot be held to its template; leave `most_from_template_angstrom` out, or take Boltz"
            )
        folder.mkdir()
        first = {chain.letters: chain for chain in reversed(request.templates)}
        for number, chain in enumerate(first.values()):
            name = f"t{number:03d}"
            (folder / f"{name}.cif").write_bytes(template_mmcif([chain], name, has_all_residues=True))
