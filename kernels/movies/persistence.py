"""What frames of a movie share, and for how long: the weight of every pair of frames in their alignment.

The structure lasts. Water moves on under the beam, so that the ice shows neighbouring frames much that later ones do
not have any more, the finer the shorter: at 5 Å next to all that frames share (McMullan, Vinothkumar & Henderson,
Ultramicroscopy 2015, 158:26). Both are measured here from the movie itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_DIFFUSION_ANGSTROM2 = (0.0, *(2.0 * 1.3**i for i in range(20)))
"""What is tried for the decay's constant: what passes is left with exp(-constant · k²) of itself a frame later."""

_LONGEST_WAVE_ANGSTROM = 500.0
_LEAST_NOISE = 0.05

_SHELLS_PER_REACH = 20


@dataclass(frozen=True)
class Persistence:
    """Power per pixel in shells, and the weights that follow from it."""

    lasting: Tensor
    """(shell,) shared by all frames."""
    passing: Tensor
    """(shell,) shared with the frame ``lag`` later to ``kept ** lag``."""
    kept: Tensor
    """(shell,)"""
    noise: Tensor
    """(shell,) of a frame alone."""

    def covariance(self, n_frames: int) -> Tensor:
        """(lag, shell) shared power of frames that lie ``lag`` apart."""
        lag = torch.arange(n_frames, device=self.kept.device)[:, None]
        return self.lasting + self.passing * self.kept**lag

    def pair_weights(self, n_frames: int) -> tuple[Tensor, Tensor, Tensor]:
        """(shell,) u, v and q: frames ``lag`` apart weigh u + v q^lag in the log-likelihood of their alignment.

        Exactly it is minus the inverse of the frames' covariance matrix beside its diagonal; this is the least
        squares fit to the means of its diagonals, with q from frames without end.
        """
        lag = torch.arange(n_frames, device=self.kept.device)
        distance = (lag[:, None] - lag).abs()
        covariance = self.covariance(n_frames).double().T
        matrix = covariance[:, distance] + torch.diag_embed(self.noise.double()[:, None].expand(-1, n_frames))
        inverse = -torch.linalg.inv(matrix)
        weight = torch.stack([inverse.diagonal(int(k), 1, 2).mean(1) for k in lag[1:]])
        kept = self.kept.double().clamp(1e-4, 1 - 1e-4)
        total = kept + 1 / kept + self.passing.double() / self.noise.double() * (1 / kept - kept)
        decay = 2 / (total + (total.square() - 4).clamp(min=0).sqrt())
        n_pairs = (n_frames - lag[1:, None]).double()
        constant, fading = _two_terms(weight, n_pairs, decay ** lag[1:, None])
        return constant.float(), fading.float(), decay.float()


def fit_persistence(covariance: Tensor, n_values: Tensor, frequency_per_angstrom: Tensor) -> Persistence:
    """Lasting and passing power that explain what aligned frames share.

    Parameters
    ----------
    covariance
        (lag, shell) mean shared power per pixel of frames ``lag`` apart.
    n_values
        (shell,) independent values in a frame.
    frequency_per_angstrom
        (shell,); beyond the last one nothing is known.
    """
    n_frames = len(covariance)
    smooth = _smooth(covariance, n_values)
    lag = torch.arange(1, n_frames, device=covariance.device)[:, None]
    known = (frequency_per_angstrom > 1 / _LONGEST_WAVE_ANGSTROM) & (n_values > 0)
    precision = (n_frames - lag) * n_values / smooth[:1].square().clamp(min=1e-30)
    best, least = None, math.inf
    for constant in _DIFFUSION_ANGSTROM2 if n_frames > 3 else (0.0,):
        kept = torch.exp(-constant * frequency_per_angstrom**2)
        fading = kept**lag
        lasting, passing = _two_terms(smooth[1:], precision, fading)
        sx, sxx = (precision * fading).sum(0), (precision * fading * fading).sum(0)
        alone = ((precision * smooth[1:]).sum(0) / precision.sum(0).clamp(min=1e-30)).clamp(min=0)
        alone_passing = ((precision * smooth[1:] * fading).sum(0) / sxx.clamp(min=1e-30)).clamp(min=0)
        is_passing = (lasting < 0) & (sx > 0)
        lasting, passing = (
            torch.where(passing <= 0, alone, torch.where(is_passing, 0.0, lasting)),
            torch.where(passing <= 0, 0.0, torch.where(is_passing, alone_passing, passing)),
        )
        misfit = float(((precision * (smooth[1:] - lasting - passing * fading).square()).sum(0) * known).sum())
        if misfit < least:
            best, least = (lasting, passing, kept), misfit
    if best is None:
        raise ValueError("the frames' covariance is not finite; check the frames for NaN")
    lasting, passing, kept = best
    noise = torch.maximum(smooth[0] - lasting - passing, _LEAST_NOISE * smooth[0])
    return Persistence(lasting * known, passing * known, kept, noise.clamp(min=1e-12 * float(noise.max()) + 1e-30))


def _two_terms(values: Tensor, weight: Tensor, fading: Tensor) -> tuple[Tensor, Tensor]:
    """(shell,) u and v of the least squares fit of u + v · fading to (lag, shell) values; v = 0 if fading is even."""
    weight = weight.expand_as(values)
    total = weight.sum(0).clamp(min=1e-30)
    mean_value, mean_fading = (weight * values).sum(0) / total, (weight * fading).sum(0) / total
    away = fading - mean_fading
    spread = (weight * away * away).sum(0) / total
    slope = (weight * away * values).sum(0) / total / spread.clamp(min=1e-30)
    slope = torch.where(spread > 1e-4 * (mean_fading.square() + spread), slope, torch.zeros_like(slope))
    return mean_value - slope * mean_fading, slope


def _smooth(values: Tensor, weight: Tensor) -> Tensor:
    """(lag, shell) weighted means of neighbouring shells, the more of them the finer.

    Chance agreement of frames in single shells would else be taken for signal, and hold the frames where they are.
    """
    n = values.shape[-1]
    shell = torch.arange(n, device=values.device)
    reach = (shell // _SHELLS_PER_REACH).clamp(min=1)
    first, last = (shell - reach).clamp(min=0), (shell + reach + 1).clamp(max=n)

    def mean(x: Tensor) -> Tensor:
        running = torch.nn.functional.pad(x.double().cumsum(-1), (1, 0))
        return running[..., last] - running[..., first]

    return (mean(values * weight) / mean(weight).clamp(min=1e-9)).float()
