"""The hand of a map from the way its helices wind."""

import torch

from kernels.models.helix_hand import HelixHand, helix_hand
from kernels.models.internal_coordinates import backbone_coordinates


def alphas(phi_deg: float, psi_deg: float, n: int = 40) -> torch.Tensor:
    """(n, 3) Cα, (z, y, x), of a regular chain of L-amino acids."""
    torsions = torch.tensor([phi_deg, psi_deg], dtype=torch.float64).deg2rad().expand(n, 2)
    return backbone_coordinates(torsions)[:, 1].flip(-1)


def test_an_alpha_helix_winds_to_the_right_and_its_mirror_image_to_the_left():
    helix = alphas(-63, -42)
    confidence = torch.full((40,), 0.9)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    found = helix_hand(helix[order], confidence)
    assert abs(found.n_right - 37 * 0.9**4) < 0.01 and found.n_left == 0
    assert found.is_told and not found.is_wrong
    mirrored = helix_hand(helix * torch.tensor([1.0, 1, -1]), confidence)
    assert (mirrored.n_left, mirrored.n_right) == (found.n_right, 0)
    assert mirrored.is_wrong and str(mirrored) == "24 of 24 helical places wind to the left"


def test_helices_with_errors_of_detection_still_tell():
    noise = torch.randn(40, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = helix_hand(alphas(-63, -42) + 0.3 * noise, torch.full((40,), 0.9))
    assert found.is_told and not found.is_wrong


def test_strands_and_nothing_tell_no_hand():
    assert not helix_hand(alphas(-120, 130), torch.ones(40)).is_told
    assert not helix_hand(torch.zeros(0, 3), torch.zeros(0)).is_told
    assert not HelixHand(12, 10).is_told
