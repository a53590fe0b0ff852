"""Layers that the networks of the project are made of."""

from __future__ import annotations

from torch import Tensor, nn


class Residual(nn.Module):
    """Two convolutions whose answer is added to what they were given; (batch, width, z, y, x) stays as large."""

    def __init__(self, width: int) -> None:
        super().__init__()
        last = nn.BatchNorm3d(width)
        self.body = nn.Sequential(
            nn.Conv3d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm3d(width),
            nn.SiLU(),
            nn.Conv3d(width, width, 3, padding=1, bias=False),
            last,
        )
        nn.init.zeros_(last.weight)  # a block begins as the identity

    def forward(self, features: Tensor) -> Tensor:
        return nn.functional.silu(features + self.body(features))
