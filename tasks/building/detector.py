"""The trained detection network, where an item computes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from importlib.resources import as_file, files
from pathlib import Path

import torch
from safetensors.torch import load_file

from kernels.networks.residue_detector import ResidueDetector
from tasks.formats import FormatError
from tasks.workers.device import device

WEIGHTS = "residue_detector.safetensors"
_TILE_STEP_ANGSTROM = 48.0
_SHARE_OF_UNIT = 4.0
"""How much larger the box is in which a unit of a symmetric map lies, in units of its share of the map."""
_REMEDY = "train the network with the flow train_network, or install the project with its weights"


def detector(path: str | None = None) -> ResidueDetector:
    """The network with the weights that come with the project, or with those of a training of one's own.

    Raises
    ------
    FormatError
        Where there are no weights, or they are those of another network.
    """
    return _detector(path, str(device()))


@lru_cache(maxsize=2)
def digest_of_weights(path: str | None = None) -> str:
    """SHA-256 of the file of these weights; it is the same for as long as this process lives.

    Raises
    ------
    FormatError
        Where there are none.
    """
    if path is None:
        return sha256((files("kernels.networks") / "weights" / WEIGHTS).read_bytes()).hexdigest()
    try:
        return sha256(Path(path).read_bytes()).hexdigest()
    except FileNotFoundError as error:
        raise _no_weights(path) from error


@lru_cache(maxsize=2)
def _detector(path: str | None, place: str) -> ResidueDetector:
    if path is None:
        with as_file(files("kernels.networks") / "weights" / WEIGHTS) as packaged:
            return _with_weights(str(packaged), place)
    return _with_weights(path, place)


def _with_weights(path: str, place: str) -> ResidueDetector:
    network = ResidueDetector()
    try:
        network.load_state_dict(load_file(path))
    except FileNotFoundError as error:
        raise _no_weights(path) from error
    except Exception as error:  # safetensors and torch raise errors of several kinds
        raise FormatError(f"{path}: holds no weights of this network ({error}); {_REMEDY}") from error
    network.to(torch.device(place), memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return network.eval()


def cost_of_looking(sides_angstrom: Sequence[float], n_turns: int, n_copies: int = 1) -> tuple[int, float]:
    """Memory in bytes and CPU-seconds of showing the network a map.

    Parameters
    ----------
    sides_angstrom
        Of the map's box.
    n_copies
        That its symmetry makes of each part; a box about one of them is looked at.
    """
    share = min(1.0, _SHARE_OF_UNIT / n_copies)
    n_tiles = max(1.0, share * math.prod(math.ceil(side / _TILE_STEP_ANGSTROM) for side in sides_angstrom))
    return round(370e6 + 60 * share * math.prod(sides_angstrom)), 0.22 * n_turns * n_tiles


def _no_weights(path: str) -> FormatError:
    return FormatError(f"{path}: there are no weights of the detection network; {_REMEDY}")
