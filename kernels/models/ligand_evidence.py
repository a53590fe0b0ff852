"""How well a placed molecule is shown by the density: what its probability of being right is told from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.maps.grid import DensityGrid
from kernels.models.map_fit import voxels_near
from kernels.models.unexplained import AtomEvidence

_NEAR_ANGSTROM = 2.0
_BLOB_SIGMA = 3.0


@dataclass(frozen=True)
class LigandEvidence:
    """Of one pose."""

    gain_per_atom: float
    """Nats by which an atom raises the logarithm of the likelihood, over what it would if it were fully there."""
    lowest_share: float
    """Of the density expected at an atom, the lower quartile over atoms."""
    correlation: float
    """Of the molecule's evidence with that of the map, in the voxels around it and in the piece of density it is in."""
    covered: float
    """Of the density of that piece, the share that lies within 2 Å of an atom."""
    pressure_per_atom: float
    """Nats of clashes."""
    signal: float
    """Of one carbon over its noise: what the map can tell at all."""
    runner_up: float
    """Gain of the best pose that differs by more than 2 Å, as a share of this one's; 0 where there is none."""

    def features(self) -> Tensor:
        """(7,) numbers that a logistic regression weighs."""
        return torch.tensor(
            [
                self.gain_per_atom, self.lowest_share, self.correlation, self.covered,
                min(self.pressure_per_atom, 5.0), min(self.signal, 10.0) / 10, self.runner_up,
            ]
        )  # fmt: skip


def ligand_evidence(
    evidence: AtomEvidence,
    sigma: DensityGrid,
    places: Tensor,
    weights: Tensor,
    gain_nats: float,
    pressure_nats: float,
    runner_up: float,
    blob_voxels: Tensor,
) -> LigandEvidence:
    """Of a pose with atoms at places (atom, 3).

    Parameters
    ----------
    sigma
        `AtomEvidence.sigma` on voxels.
    blob_voxels
        (n, 3) of the piece of density that it was placed in.
    """
    support = evidence.at(places)
    apart = torch.cdist(places, places).float()
    expected = evidence.pair(apart).float() @ weights
    share = support / expected.clamp(min=1e-6)
    whole = float((weights @ evidence.pair(apart).float() @ weights) / 2)
    shown, fitted = _compared(evidence, sigma, places, weights, blob_voxels)
    blob = sigma.to_angstrom(blob_voxels)
    value = sigma.voxels[tuple(blob_voxels.T)].double()
    near = torch.cdist(blob, places).amin(1) < _NEAR_ANGSTROM
    return LigandEvidence(
        gain_per_atom=gain_nats / max(whole, 1e-6),
        lowest_share=float(share.quantile(0.25).clamp(-1, 2)),
        correlation=float(torch.corrcoef(torch.stack([shown, fitted]))[0, 1].nan_to_num()),
        covered=float((value * near).sum() / value.sum().clamp(min=1e-6)),
        pressure_per_atom=pressure_nats / len(places),
        signal=evidence.own**0.5,
        runner_up=runner_up,
    )


def _compared(
    evidence: AtomEvidence, sigma: DensityGrid, places: Tensor, weights: Tensor, blob_voxels: Tensor
) -> tuple[Tensor, Tensor]:
    """(n,) evidence of the map and of the molecule, in all voxels near either."""
    voxel, _, _ = voxels_near(sigma, places, _NEAR_ANGSTROM)
    size = torch.tensor(sigma.voxels.shape)
    blob = (blob_voxels[:, 0] * size[1] + blob_voxels[:, 1]) * size[2] + blob_voxels[:, 2]
    flat = torch.unique(torch.cat([voxel, blob]))
    here = sigma.to_angstrom(torch.stack(torch.unravel_index(flat, sigma.voxels.shape), 1))
    fitted = evidence.pair(torch.cdist(here, places).float()).float() @ weights / evidence.own**0.5
    return sigma.voxels.reshape(-1)[flat].double(), fitted.double()
