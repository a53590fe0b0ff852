"""Where an item computes."""

import torch


def device() -> torch.device:
    """Where an item computes: the accelerator of its worker, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
