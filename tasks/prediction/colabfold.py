"""ColabFold: AlphaFold 2 for proteins and their complexes."""

from __future__ import annotations

from pathlib import Path

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
        options = [path.name, "out", "--num-models", str(min(5, request.n_samples)), "--random-seed", str(request.seed)]
        if place.weights is not None:
            options += ["--data", str(place.weights)]
        return options
