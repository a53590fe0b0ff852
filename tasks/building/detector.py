"""The trained networks that find residues and read their side chains, where an item computes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import sha256
from importlib.resources import as_file, files
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from kernels.maps.grid import DensityGrid
from kernels.networks.detection import MapDetections, detect
from kernels.networks.residue_detector import ResidueDetector
from kernels.networks.side_chain_reader import SideChainReader
from kernels.networks.side_chain_reading import with_side_chains_read
from tasks.formats import FormatError
from tasks.workers.device import device

WEIGHTS, READER_WEIGHTS = "residue_detector.safetensors", "side_chain_reader.safetensors"
_TILE_STEP_ANGSTROM = 48.0
_SHARE_OF_UNIT = 4.0
"""How much larger the box is in which a unit of a symmetric map lies, in units of its share of the map."""
_REMEDY = "train the networks with the flow train_network, or install the project with its weights"

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class ResidueNetworks:
    """What maps are shown to: one network finds residues, the other says what they are."""

    detector: ResidueDetector
    reader: SideChainReader | None
    """None where none was trained for this detector: amino acids are what the detector says."""

    def detect(
        self, grid: DensityGrid, n_turns: int = 4, is_wanted: Callable[[Tensor], Tensor] | None = None
    ) -> MapDetections:
        """Candidates for residues in a sharpened map, as `kernels.networks.detection.detect`."""
        found = detect(self.detector, grid, n_turns, is_wanted=is_wanted)
        if self.reader is None:
            return found
        return replace(found, protein=with_side_chains_read(self.reader, grid, found.protein))


def residue_networks(path: str | None = None) -> ResidueNetworks:
    """The networks with the weights that come with the project, or with those of a training of one's own.

    Parameters
    ----------
    path
        Weights of the detection network; those of the reader are looked for beside it.

    Raises
    ------
    FormatError
        Where there are no weights, or they are those of another network.
    """
    beside = None if path is None else _reader_beside(path)
    has_reader = path is None or beside is not None
    reader = _loaded(SideChainReader, READER_WEIGHTS, beside, str(device())) if has_reader else None
    return ResidueNetworks(detector(path), reader)


def detector(path: str | None = None) -> ResidueDetector:
    """The detection network by itself; weights and errors as for `residue_networks`."""
    return _loaded(ResidueDetector, WEIGHTS, path, str(device()))


@lru_cache(maxsize=2)
def digest_of_weights(path: str | None = None) -> str:
    """SHA-256 of the files of these weights; it is the same for as long as this process lives.

    Raises
    ------
    FormatError
        Where there are none.
    """
    try:
        if path is None:
            folder = files("kernels.networks") / "weights"
            content = [(folder / name).read_bytes() for name in (WEIGHTS, READER_WEIGHTS)]
        else:
            beside = _reader_beside(path)
            content = [Path(file).read_bytes() for file in (path, beside) if file is not None]
    except FileNotFoundError as error:
        raise _no_weights(error.filename) from error
    return sha256(b"".join(content)).hexdigest()


def _reader_beside(path: str) -> str | None:
    """Weights of the reader that was trained for a detector's; None where there are none."""
    reader = Path(path).parent / READER_WEIGHTS
    return str(reader) if reader.exists() else None


@lru_cache(maxsize=4)
def _loaded(kind: type[Network], packaged: str, path: str | None, place: str) -> Network:
    if path is None:
        with as_file(files("kernels.networks") / "weights" / packaged) as own:
            return _with_weights(kind(), str(own), place)
    return _with_weights(kind(), path, place)


def _with_weights(network: Network, path: str, place: str) -> Network:
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
    return FormatError(f"{path}: there are no weights of this network; {_REMEDY}")
