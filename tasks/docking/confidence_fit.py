"""Write `kernels.models.placement_coefficients` from proteins placed in simulated maps, right ones and wrong ones.

    python -m tasks.docking.confidence_fit FOLDER N PROGRESS

A map of 3 to 10 Å is simulated of each of N complexes (files ``<name>_l_…`` and ``<name>_r_…`` in one frame). One of
its chains is offered as a prediction would be, bent or as the half of one with a hinge, and so is a chain of another
cluster. The two best poses of each count; right are those within 4 Å RMSD of that protein or of a copy of it
(`tasks.docking.equal_residues`). Complexes with a chain of a cluster that `tasks.training.structures` holds out are not
fitted; how they fare is printed. What was offered is kept in the file PROGRESS, line by line: another run goes on after
it, and with another program it has to begin with another file.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from kernels.models import placement_coefficients
from kernels.models.atomic_model import AtomicModel, joined
from kernels.models.docking import fitting_field, mirrored_poses, searched
from kernels.models.placement_evidence import FEATURES, contour_of, placement_evidence
from kernels.models.rigid_body import RigidBody
from kernels.scores import area_under_curve, expected_calibration_error
from tasks.docking.domains import FEWEST_RESIDUES
from tasks.docking.equal_residues import rmsd_to_copies
from tasks.docking.perturbed import bent, hinged
from tasks.formats.structure import read_structure
from tasks.training.structures import TrainingStructure, read_structures
from tasks.validation.reliability_fit import coefficient_lines
from tasks.validation.simulated_map import simulate_map

RESOLUTIONS_ANGSTROM = (3.0, 10.0)
RIGHT_ANGSTROM = 4.0
_FEWEST, _MOST, _MOST_OF_COMPLEX = 60, 300, 600
"""Residues."""
_N_FITTED, _N_TAKEN = 40, 2
_BENT_ANGSTROM, _HINGED_ANGSTROM = (1.0, 3.0), (4.0, 9.0)
_RIDGE = 3e-3


@dataclass(frozen=True, eq=False)
class Complex:
    """A structure of several chains that share a frame."""

    name: str
    model: AtomicModel
    clusters: frozenset[str]
    is_held_out: bool

    def chains(self) -> list[AtomicModel]:
        """Those of a size that is offered."""
        found = []
        for name in dict.fromkeys(r.chain for r in self.model.residues):
            chain = self.model.take_residues(torch.tensor([r.chain == name for r in self.model.residues]))
            if _FEWEST <= chain.n_residues <= _MOST:
                found.append(chain)
        return found


@dataclass(frozen=True, eq=False)
class Offered:
    """The best poses of one prediction in one map."""

    name: str
    features: Tensor
    """(pose, feature)"""
    rmsd_angstrom: Tensor
    """(pose,) infinite for a protein that is not there."""
    is_there: bool
    is_held_out: bool
    resolution_angstrom: float


def complexes(folder: Path) -> list[Complex]:
    """Those of files of both partners, in the order of a hash of their names."""
    parts: dict[str, list[TrainingStructure]] = defaultdict(list)
    for structure in read_structures([folder]):
        parts[Path(structure.name).name.split("_")[0]].append(structure)
    found = []
    for name, partners in sorted(parts.items(), key=lambda item: sha256(item[0].encode()).hexdigest()):
        models = [read_structure(folder / Path(p.name).name) for p in partners]
        named = [
            replace(m, residues=tuple(replace(r, chain=f"{i}{r.chain}") for r in m.residues))
            for i, m in enumerate(models)
        ]
        whole = joined(named)
        polymer = whole.take_residues((whole.amino_acid >= 0) | (whole.base >= 0))
        if polymer.n_residues <= _MOST_OF_COMPLEX:
            clusters = frozenset(p.cluster for p in partners)
            found.append(Complex(name, polymer, clusters, any(p.is_held_out for p in partners)))
    return found


def perturbed(chain: AtomicModel, generator: torch.Generator) -> AtomicModel:
    """What a prediction of a chain offers: all of a bent one, or a part of one with a hinge, or all of it."""

    def between(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    if float(torch.rand((), generator=generator)) < 0.5:
        found = bent(chain, between(*_BENT_ANGSTROM), generator)
        taken = torch.ones(chain.n_residues, dtype=torch.bool)
    else:
        found = hinged(chain, between(*_HINGED_ANGSTROM), generator)
        taken = found.part == int(torch.randint(2, (), generator=generator))
        if int(taken.sum()) < FEWEST_RESIDUES or float(torch.rand((), generator=generator)) < 0.3:
            taken = torch.ones(chain.n_residues, dtype=torch.bool)
    return found.prediction.model.take_residues(taken)


def placed(case: Complex, chain: AtomicModel, is_there: bool, resolution: float, generator: torch.Generator) -> Offered:
    """The best poses of a perturbed chain in a map of a complex."""
    grid = simulate_map(case.model, resolution, generator)
    offered = perturbed(chain, generator)
    body = RigidBody.of_model(offered)
    field = fitting_field(grid, resolution)
    poses = searched(grid, field, body, _N_FITTED, _N_FITTED)
    best = poses.take(torch.arange(min(_N_TAKEN, len(poses))))
    mirrored = mirrored_poses(grid, field, body)
    found = placement_evidence(field, contour_of(field), body, best, poses, mirrored)
    moved = [offered.at(best.placed(offered.coordinates_angstrom, i, body.middle_angstrom)) for i in range(len(best))]
    truth = case.chains() if is_there else []
    rmsd = torch.tensor([rmsd_to_copies(one, truth) for one in moved], dtype=torch.float64)
    return Offered(case.name, found.features(), rmsd, is_there, case.is_held_out, resolution)


def offered_chains(cases: Sequence[Complex], number: int) -> Iterator[Offered]:
    """A right chain and a wrong one, which both are held out or both not, in the map of one of the complexes."""
    case = cases[number]
    generator = torch.Generator().manual_seed(number)
    low, high = RESOLUTIONS_ANGSTROM
    # more of the coarse ones, in which wrong proteins fit better
    resolution = low + (high - low) * ((number * 0.6180339887) % 1) ** 0.5
    own = case.chains()
    strangers = [c for c in cases if c.is_held_out == case.is_held_out and not c.clusters & case.clusters]
    wrong = strangers[number % len(strangers)].chains() if strangers else []
    for chains, is_there in ((own, True), (wrong, False)):
        if chains:
            chain = chains[number % len(chains)]
            one = placed(case, chain, is_there, resolution, generator)
            words = ", ".join(f"{r:.1f}" for r in one.rmsd_angstrom.tolist())
            print(f"{case.name} {resolution:.1f} Å, {chain.n_residues} residues: {words}", flush=True)
            yield one


def offered_so_far(progress: Path) -> list[Offered]:
    """What an earlier run has kept."""
    lines = progress.read_text().splitlines() if progress.exists() else []
    found = []
    for told in map(json.loads, lines):
        for name in ("features", "rmsd_angstrom"):
            told[name] = torch.tensor(told[name], dtype=torch.float64)
        found.append(Offered(**told))
    return found


def keep(progress: Path, offered: Offered) -> None:
    """One more line."""
    told = {name: v.tolist() if isinstance(v, Tensor) else v for name, v in vars(offered).items()}
    with progress.open("a") as file:
        file.write(json.dumps(told) + "\n")


def fit(offered: Sequence[Offered]) -> tuple[Tensor, Tensor, Tensor, float]:
    """Mean and scale of the features, weights and constant of the regression; right and wrong poses weigh the same."""
    features = torch.cat([o.features for o in offered])
    right = torch.cat([o.rmsd_angstrom for o in offered]) <= RIGHT_ANGSTROM
    mean, scale = features.mean(0), features.std(0).clamp(min=1e-6)
    scaled = (features - mean) / scale
    share = torch.where(right, 0.5 / right.double().mean(), 0.5 / (~right).double().mean())
    weight = torch.zeros(scaled.shape[1], dtype=torch.float64, requires_grad=True)
    constant = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, constant], max_iter=300, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            scaled @ weight + constant, right.double(), weight=share
        )
        loss = loss + _RIDGE * weight.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return mean, scale, weight.detach(), float(constant.detach())


def report(offered: Sequence[Offered], coefficients: tuple[Tensor, Tensor, Tensor, float]) -> list[str]:
    """Lines that say how well right poses are told from wrong ones."""
    mean, scale, weight, constant = coefficients
    probability = [torch.sigmoid(((o.features - mean) / scale) @ weight + constant) for o in offered]
    right = torch.cat([o.rmsd_angstrom for o in offered]) <= RIGHT_ANGSTROM
    every = torch.cat(probability)
    lines = [
        f"{len(every)} poses, {int(right.sum())} right: ROC-AUC {area_under_curve(every, right):.4f}, expected"
        f" calibration error {expected_calibration_error(every, right):.4f}"
    ]
    for low, high in ((3.0, 7.0), (7.0, 10.0)):
        inside = [low <= o.resolution_angstrom < high for o in offered]
        there = [
            bool(((p > 0.5) & (o.rmsd_angstrom <= RIGHT_ANGSTROM)).any())
            for p, o, i in zip(probability, offered, inside)
            if i and o.is_there
        ]
        wrong = [bool((p > 0.5).any()) for p, o, i in zip(probability, offered, inside) if i and not o.is_there]
        lines.append(
            f"{low:g} to {high:g} Å: {sum(there)} of {len(there)} proteins placed right with a probability above 0.5,"
            f" {sum(wrong)} of {len(wrong)} wrong proteins placed"
        )
    return lines


def main(folder: str, n: int, progress: Path) -> None:
    """Fit on what is not held out, report on what is, and write the coefficients."""
    torch.set_num_threads(1)
    cases = [case for case in complexes(Path(folder)) if case.chains()]
    done = {one.name for one in offered_so_far(progress)}
    for number, case in enumerate(cases[:n]):
        if case.name in done:
            continue
        for one in list(offered_chains(cases, number)):
            keep(progress, one)
    finish(offered_so_far(progress))


def finish(offered: Sequence[Offered]) -> None:
    """Fit, report and write, of chains that were offered."""
    coefficients = fit([o for o in offered if not o.is_held_out])
    for name, value in zip(FEATURES, coefficients[2].tolist()):
        print(f"{value:8.3f}  {name}")
    for which, part in (("fitted", False), ("held out", True)):
        some = [o for o in offered if o.is_held_out == part]
        if some:
            print(f"{which}: " + "\n  ".join(report(some, coefficients)))
    text = [
        '"""Coefficients of `kernels.models.placement_confidence`, written by `tasks.docking.confidence_fit`."""',
        "",
        "from __future__ import annotations",
        "",
        "# fmt: off",
        *coefficient_lines(*coefficients),
        "",
    ]
    Path(placement_coefficients.__file__).write_text("\n".join(text))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
