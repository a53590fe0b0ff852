"""What a detection network would tell of known chains: a simulated truth for tracing and threading.

Errors here have causes that the fitted models know nothing of: a local quality that drifts along a chain and spoils
places, vectors, types and confidence together, side chains that fade, duplicates on side chains, false chains, and
stretches whose direction is told the wrong way round.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.models.atomic_model import AtomicModel
from kernels.models.detections import ProteinDetections
from kernels.models.residues import AMINO_ACID_LETTERS
from kernels.specimen.cage import cage_chains

LOOK_ALIKES = ("VTIC", "LDNI", "EQKMR", "FYHW", "GAS", "STPCV", "KR", "MLI", "HNQ")
"""Side chains that look alike in a map."""
SIZE = dict(zip(AMINO_ACID_LETTERS, (1, 7, 4, 4, 2, 5, 5, 0, 6, 4, 4, 5, 4, 7, 3, 2, 3, 10, 8, 3)))
"""Heavy atoms of a side chain."""
LONGEST_UNSEEN = 40
"""Residues of a loop that a file's numbers skip; a longer jump is another domain or a tag."""


@dataclass(frozen=True)
class KnownChain:
    """A chain with the whole of its sequence, and the residues of it that can be seen."""

    name: str
    sequence: str
    position: Tensor
    """(residue,) rising index into the sequence."""
    alpha_angstrom: Tensor
    """(residue, 3)"""
    backbone_offset_angstrom: Tensor
    """(residue, 3, 3) to N, C, O"""


@dataclass(frozen=True)
class DetectorNoise:
    """How good the detector is."""

    missing: float = 0.1
    """Share of residues that it does not see."""
    false: float = 0.2
    """False candidates per true one."""
    position_angstrom: float = 0.6
    """RMS error of a Cα."""
    angle_deg: float = 20.0
    """Typical error of the directions to the neighbours."""
    wrong_direction: float = 0.05
    """Share of vectors that point anywhere."""
    reversed_stretch: float = 0.02
    """Share of residues in stretches whose direction is told the wrong way round."""
    top1: float = 0.45
    """Share of residues whose likeliest type is the right one."""


EASY = DetectorNoise(0.05, 0.1, 0.4, 10.0, 0.02, 0.0, 0.6)
TYPICAL = DetectorNoise()
HARD = DetectorNoise(0.2, 0.4, 0.8, 30.0, 0.1, 0.02, 0.35)


def known_chains(model: AtomicModel, seed: int = 0, shortest: int = 10) -> list[KnownChain]:
    """Protein chains of a model; residues that its numbers skip get types by chance, since the file has none.

    Chains whose residues of the same number have the same type are copies, and get one sequence.
    """
    generator = torch.Generator().manual_seed(seed)
    place = model.positions("CA", "N", "C", "O")
    rows = [row for row in _runs(model, place) if len(row) >= shortest]
    types: list[dict[int, int]] = []  # of each protein, by number
    protein = []
    for row in rows:
        own = {number: int(model.amino_acid[i]) for i, number in row}
        for which, known in enumerate(types):
            same = [known[k] == a for k, a in own.items() if k in known]
            if len(same) > 0.8 * min(len(own), len(known)) and sum(same) > 0.95 * len(same):
                known.update({k: a for k, a in own.items() if k not in known})
                protein.append(which)
                break
        else:
            protein.append(len(types))
            types.append(own)
    sequences = []
    for known in types:
        filler = torch.randint(20, (max(known) - min(known) + 1,), generator=generator).tolist()
        letters = [known.get(min(known) + k, any_) for k, any_ in enumerate(filler)]
        sequences.append("".join(AMINO_ACID_LETTERS[a] for a in letters))
    chains = []
    for row, which in zip(rows, protein):
        index = torch.tensor([i for i, _ in row])
        position = torch.tensor([number for _, number in row]) - min(types[which])
        alpha = place[index, 0]
        offset = place[index, 1:] - alpha[:, None]
        chains.append(KnownChain(model.residues[row[0][0]].chain, sequences[which], position, alpha, offset))
    return chains


def _runs(model: AtomicModel, place: Tensor) -> list[list[tuple[int, int]]]:
    """Residues of each chain with their numbers, cut where numbers fall back or jump further than residues reach."""
    is_whole = (model.amino_acid >= 0) & ~place.isnan().any(-1).any(-1)
    rows: list[list[tuple[int, int]]] = []
    before: int | None = None
    for i in torch.nonzero(is_whole).squeeze(1).tolist():
        about = model.residues[i]
        goes_on = False
        if before is not None and model.residues[before].chain == about.chain:
            same_number = about.insertion_code != "" and about.number == model.residues[before].number
            step = 1 if same_number else about.number - model.residues[before].number
            apart = float((place[i, 0] - place[before, 0]).norm())
            goes_on = 0 < step <= LONGEST_UNSEEN and apart <= 3.8 * step + 1.0
        if goes_on:
            rows[-1].append((i, rows[-1][-1][1] + step))
        else:
            rows.append([(i, about.number)])
        before = i
    return rows


def cage_subunits(n: int) -> list[KnownChain]:
    """The first subunits of the simulated cage: copies of one chain of 156 residues, side by side."""
    chains = []
    for k, subunit in enumerate(cage_chains()[:n]):
        rows = [[i for i, name in enumerate(subunit.names) if name == atom] for atom in ("CA", "N", "C", "O")]
        place = subunit.coordinates_angstrom[torch.tensor(rows)]  # (atom, residue, 3)
        position = torch.arange(len(subunit.sequence))
        offset = (place[1:] - place[0]).transpose(0, 1)
        chains.append(KnownChain(f"{k}", subunit.sequence, position, place[0], offset))
    return chains


def simulated_detections(chains: Sequence[KnownChain], noise: DetectorNoise, seed: int) -> ProteinDetections:
    """Candidates of a detector with this noise."""
    generator = torch.Generator().manual_seed(seed)
    alpha = torch.cat([c.alpha_angstrom for c in chains])
    offset = torch.cat([c.backbone_offset_angstrom for c in chains])
    n = len(alpha)
    quality = torch.cat([_drifting(len(c.position), generator) for c in chains])
    ahead, back = (torch.cat([_to_neighbour(c, step) for c in chains]) for step in (1, -1))
    types = torch.tensor([AMINO_ACID_LETTERS.index(c.sequence[p]) for c in chains for p in c.position.tolist()])
    types_seen = _profiles(types, quality, noise.top1, generator)
    structure = torch.cat([_secondary_structure(c.alpha_angstrom) for c in chains])

    spoil = (-0.35 * quality).exp()
    error = torch.randn(n, 3, generator=generator, dtype=torch.float64) * spoil[:, None]
    error *= noise.position_angstrom / error.square().sum(1).mean().sqrt()
    place = alpha + error
    reach = [_aimed(v - 0.7 * error, spoil, noise, generator) for v in (ahead, back)]
    turned = torch.cat([_stretches(len(c.position), noise.reversed_stretch, generator) for c in chains])
    ahead, back = torch.where(turned[:, None], reach[1], reach[0]), torch.where(turned[:, None], reach[0], reach[1])
    offset = torch.where(turned[:, None, None], offset[:, [1, 0, 2]], offset)
    offset = _aimed(offset.reshape(-1, 3), spoil.repeat_interleave(3), noise, generator).reshape(-1, 3, 3)
    seen = torch.rand(n, generator=generator) >= _at_rate(-1.2 * quality, noise.missing)
    confidence = torch.sigmoid(1.6 + 0.8 * quality + 0.9 * torch.randn(n, generator=generator))
    true = (place, confidence, offset, ahead, back, types_seen, structure)
    false = _false_candidates(true, alpha, round(noise.false * n), noise, generator)
    fields = [torch.cat([t[seen].double(), f.double()]) for t, f in zip(true, false)]
    order = _suppressed(fields[0], fields[1], 1.7)
    place, confidence, offset, ahead, back, types_seen, structure = (f[order] for f in fields)
    return ProteinDetections(
        place.float(), confidence.float(), offset.float(), ahead.float(), back.float(), types_seen.float(),
        structure.float(),
    )  # fmt: skip


def _drifting(n: int, generator: torch.Generator) -> Tensor:
    """(n,) unit normal values that change over some eight residues, and a little from one to the next."""
    noise = torch.randn(n + 40, generator=generator, dtype=torch.float64)
    kernel = torch.exp(-(torch.arange(-20, 21).double() ** 2) / 32)
    slow = torch.nn.functional.conv1d(noise[None, None], (kernel / kernel.norm())[None, None])[0, 0]
    return (slow + 0.5 * torch.randn(n, generator=generator, dtype=torch.float64)) / math.sqrt(1.25)


def _at_rate(logit: Tensor, rate: float) -> Tensor:
    """Probabilities whose logits differ as given and whose mean is the rate."""
    low, high = -20.0, 20.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if float(torch.sigmoid(logit + middle).mean()) < rate else (low, middle)
    return torch.sigmoid(logit + low)


def _to_neighbour(chain: KnownChain, step: int) -> Tensor:
    """(residue, 3) to the next or previous Cα; anywhere where the sequence does not go on."""
    vector = torch.roll(chain.alpha_angstrom, -step, 0) - chain.alpha_angstrom
    far = vector.norm(dim=1) > 4.5
    return torch.where(far[:, None], 3.8 * vector / vector.norm(dim=1, keepdim=True), vector)


def _aimed(vector: Tensor, spoil: Tensor, noise: DetectorNoise, generator: torch.Generator) -> Tensor:
    """Vectors with errors of angle and length, some of them pointing anywhere."""
    length = vector.norm(dim=1, keepdim=True)
    sideways = torch.randn(vector.shape, generator=generator, dtype=torch.float64) * math.radians(noise.angle_deg)
    aimed = vector / length + sideways * spoil[:, None] / math.sqrt(2)
    wrong = torch.rand(len(vector), generator=generator) < noise.wrong_direction
    aimed[wrong] = torch.randn(int(wrong.sum()), 3, generator=generator, dtype=torch.float64)
    stretch = 1 + 0.06 * torch.randn(len(vector), 1, generator=generator, dtype=torch.float64)
    return aimed / aimed.norm(dim=1, keepdim=True) * length * stretch


def _stretches(n: int, rate: float, generator: torch.Generator) -> Tensor:
    """(n,) whether a residue lies in one of the stretches of some six that cover this share."""
    starts = torch.rand(n, generator=generator) < rate / 6
    return (
        torch.nn.functional.conv1d(starts.double()[None, None], torch.ones(1, 1, 6).double(), padding=5)[0, 0, :n] > 0
    )


def look_alike() -> Tensor:
    """(20, 20) how alike two side chains look: 1 for the same, less with every difference."""
    size = torch.tensor([float(SIZE[a]) for a in AMINO_ACID_LETTERS])
    alike = -0.12 * (size[:, None] - size[None]).abs() - 0.3
    for group in LOOK_ALIKES:
        index = torch.tensor([AMINO_ACID_LETTERS.index(a) for a in group])
        alike[index[:, None], index[None]] += 0.45
    return alike.fill_diagonal_(1.0)


def _profiles(types: Tensor, quality: Tensor, top1: float, generator: torch.Generator) -> Tensor:
    """(n, 20) probabilities, too sure of themselves, whose likeliest type is right at the given rate."""
    n = len(types)
    alike = look_alike().double()
    faded = torch.rand(n, generator=generator) < 0.2 * torch.sigmoid(-quality)
    small = torch.tensor([AMINO_ACID_LETTERS.index(a) for a in "GAS"])
    shown = torch.where(faded, small[torch.randint(3, (n,), generator=generator)], types)
    noise = torch.randn(n, 20, generator=generator, dtype=torch.float64)
    low, high = 0.0, 30.0
    logits = noise
    for _ in range(40):
        middle = (low + high) / 2
        logits = middle * (0.25 * quality).exp()[:, None] * alike[shown] + noise
        low, high = (middle, high) if float((logits.argmax(1) == types).double().mean()) < top1 else (low, middle)
    return torch.softmax(1.3 * logits, 1)


def _secondary_structure(alpha: Tensor) -> Tensor:
    """(n, 3) helix, strand, coil from the distance over three residues."""
    n = len(alpha)
    reach = torch.full((n,), 7.0, dtype=torch.float64)
    if n > 3:
        reach[1 : n - 2] = (alpha[3:] - alpha[:-3]).norm(dim=1)
    return torch.softmax(torch.stack([2 - (reach - 5.2).abs() * 2, reach * 0.8 - 7, torch.zeros(n)], 1), 1)


def _false_candidates(
    true: tuple[Tensor, ...], alpha: Tensor, n_false: int, noise: DetectorNoise, generator: torch.Generator
) -> tuple[Tensor, ...]:
    """Near true ones (on a side chain, as a duplicate), in chains of noise, and alone."""
    place, _, _, ahead, back, types, structure = true
    n_near, n_chain = round(0.45 * n_false), round(0.3 * n_false)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def unit(n: int) -> Tensor:
        v = normal(n, 3)
        return v / v.norm(dim=1, keepdim=True)

    origin = torch.randint(len(place), (n_false,), generator=generator)
    aside = unit(n_false) * (1.6 + 1.2 * torch.rand(n_false, 1, generator=generator, dtype=torch.float64))
    where = place[origin] + aside
    next_, previous = (
        ahead[origin] - 0.6 * aside + 1.2 * normal(n_false, 3),
        back[origin] - 0.6 * aside + 1.2 * normal(n_false, 3),
    )
    walk_start = alpha[origin] + unit(n_false) * 12.0
    i = n_near
    while i < n_near + n_chain:  # walks of some ten steps around the molecule
        length = min(int(torch.randint(3, 16, (1,), generator=generator)), n_near + n_chain - i)
        steps = [unit(1)[0]]
        for _ in range(length - 1):
            turned = steps[-1] + 0.9 * normal(3)
            steps.append(turned / turned.norm())
        path = walk_start[i] + 3.8 * torch.stack(steps).cumsum(0)
        where[i : i + length] = path
        next_[i : i + length] = _aimed(3.8 * torch.stack([*steps[1:], steps[-1]]), torch.ones(length), noise, generator)
        previous[i : i + length] = _aimed(-3.8 * torch.stack(steps), torch.ones(length), noise, generator)
        i += length
    where[i:] = walk_start[i:] + 4.0 * normal(n_false - i, 3)
    next_[i:], previous[i:] = 3.8 * unit(n_false - i), 3.8 * unit(n_false - i)
    confidence = torch.sigmoid(0.1 + 1.1 * normal(n_false))
    backbone = torch.stack([1.46 * unit(n_false), 1.52 * unit(n_false), 2.4 * unit(n_false)], 1)
    profile = torch.softmax(1.5 * normal(n_false, 20), 1)
    profile[:n_near] = 0.5 * profile[:n_near] + 0.5 * types[origin[:n_near]]
    return where, confidence, backbone, next_, previous, profile, structure[origin]


def _suppressed(place: Tensor, confidence: Tensor, radius: float) -> Tensor:
    """Indices by falling confidence, without those that lie near a surer one."""
    order = confidence.argsort(descending=True, stable=True)
    near = torch.cdist(place[order], place[order]) < radius
    kept = torch.ones(len(order), dtype=torch.bool)
    for i in range(len(order)):
        if kept[i]:
            kept[i + 1 :] &= ~near[i, i + 1 :]
    return order[kept]
