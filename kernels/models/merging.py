"""A traced model and placed predictions of the same molecule, joined residue by residue by what the map says of each.

Every chain of a prediction is a row of columns, one for each number of its sequence. A column can be filled by the
traced residue that stands there in the same register, by the predicted one, by the predicted one bent onto the traced
ones around it, or by nothing; the best way through the columns counts how probable each residue is and what it costs
to change from one source to another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kernels.models.atomic_model import AtomicModel, joined
from kernels.models.mates import Mates
from kernels.models.reliability import logits
from kernels.models.residue_places import chains_and_numbers, registers, representatives, residue_kinds
from kernels.models.superposition import superposition

SOURCES = ("traced", "predicted", "bent")
"""Where a residue of a merged model is from."""
TRACED, PREDICTED, BENT = range(3)
_N_SOURCES = len(SOURCES)
_REACH_ANGSTROM = 15.0
"""Between a predicted residue and the traced one that stands for it, where a domain has moved."""
_PLACE_ANGSTROM = 3.0
"""Cα that are nearer to each other may stand for the same residue, whatever their letters."""
_FEWEST_ALIKE = 6
"""Votes for a traced chain to be one of the prediction."""
_BELL_ANGSTROM = 7.0
"""Within it traced residues bend a predicted one with them."""
_N_NEAR = 96
"""Traced residues that a predicted one can go along with."""
_N_ROUNDS, _AGREEING_ANGSTROM = 3, 1.0
_OWN_WEIGHT = 0.02
"""Of the prediction's own place: it stays where nothing traced is near."""
_OVERLAP_ANGSTROM = 2.5
"""Cα that are nearer to each other are readings of the same density."""
_SHORTEST_STEP_ANGSTROM, _LONGEST_STEP_ANGSTROM = 2.6, 4.7
"""From one Cα to the next, that a refinement can bring to 3.8 Å, or to the 2.9 Å of a cis peptide."""
LEAST_PREDICTED, _LEAST_TRACED = 0.3, 0.02
"""Probabilities from which residues are taken: predicted ones where nothing was traced, and all where something was."""
_CHANGE_NATS, _BREAK_NATS, _LEAVE_NATS = 1.0, 4.0, 1.0
"""Costs of another source, of a gap in the chain between two residues in a row, and of leaving residues out."""
_TOUCHING_ANGSTROM = 2.2


@dataclass(frozen=True, eq=False)
class Reading:
    """A model of the map, and how probable each of its residues is."""

    model: AtomicModel
    probability: Tensor
    """(residue,) NaN where it is not known, which counts as even."""

    @property
    def logit(self) -> Tensor:
        """(residue,) float64"""
        return logits(self.probability)


@dataclass(frozen=True, eq=False)
class Register:
    """Which residue of a prediction each traced residue stands for."""

    chain: Tensor
    """(traced residue,) index of the prediction's chain, -1 for none."""
    number: Tensor
    """(traced residue,) in that chain, which the prediction itself may lack."""
    match: Tensor
    """(traced residue,) index of the predicted residue, -1 where there is none."""
    is_alike: Tensor
    """(traced residue,) whether it can stand in for it: their letters are the same, or the prediction has none."""


@dataclass(frozen=True, eq=False)
class MergedModel:
    """One model of several sources."""

    model: AtomicModel
    source: Tensor
    """(residue,) int64 index into `SOURCES`."""
    probability: Tensor
    """(residue,) as that source's own."""
    n_left_out: int
    """Predicted residues that the map does not support."""
    n_replaced: int
    """Traced residues that gave way to predicted ones."""


def beside(traced: AtomicModel, predicted: AtomicModel, mates: Mates) -> AtomicModel:
    """A traced unit whose every chain is moved to the copy in which most of it stands where the prediction does."""
    chain, _ = chains_and_numbers(traced)
    copies = mates.of(representatives(traced))
    near = torch.stack([_distance(copy, representatives(predicted)).amin(1) < _PLACE_ANGSTROM for copy in copies])
    votes = torch.zeros(len(mates), int(chain.max()) + 1).index_add_(1, chain, near.float())
    operation = votes.argmax(0)[chain][traced.residue]
    return traced.at(mates.moved(operation, traced.coordinates_angstrom))


def register(traced: AtomicModel, predicted: AtomicModel, is_placed: bool = True) -> Register:
    """What traced residues stand for.

    A traced chain belongs to the chain and the register of the prediction for which most of its residues vote: those
    of the same letter within 15 Å, and those within 3 Å; of a prediction that is not placed in the map, all of the same
    letter.

    Memory: 40 bytes a pair of residues.
    """
    chain_t, number_t = chains_and_numbers(traced)
    chain_p, number_p = chains_and_numbers(predicted)
    kind_t, kind_p = residue_kinds(traced), residue_kinds(predicted)
    same = (kind_t[:, None] == kind_p) & (kind_t >= 0)[:, None]
    apart = _distance(representatives(traced), representatives(predicted))
    near = [same & (apart < _REACH_ANGSTROM), apart < _PLACE_ANGSTROM] if is_placed else [same]
    votes = torch.cat([torch.nonzero(some) for some in near])
    width, lowest = int(number_p.max() - number_p.min()) + 1, int(number_p.min())
    index = torch.full((int(chain_p.max()) + 1, width), -1)
    index[chain_p, number_p - lowest] = torch.arange(len(number_p))
    found = torch.full((2, traced.n_residues), -1)
    told, count = registers((votes[:, 0], votes[:, 1]), (chain_t, number_t), (chain_p, number_p))
    for chain in torch.unique(told[:, 0]).tolist():
        ours = torch.where(told[:, 0] == chain, count, 0)
        if int(ours.max()) >= _FEWEST_ALIKE:
            _, copy, offset = told[ours.argmax()].tolist()
            own = (chain_t == chain) & (kind_t >= 0)
            found[0, own], found[1, own] = copy, number_t[own] + offset
    column = (found[1] - lowest).clamp(0, width - 1)
    is_known = (found[0] >= 0) & (column == found[1] - lowest)
    match = torch.where(is_known, index[found[0].clamp(min=0), column], -1)
    is_alike = (found[0] >= 0) & ((match < 0) | (kind_p[match.clamp(min=0)] == kind_t))
    return Register(found[0], found[1], match, is_alike)


def laid_on(predicted: AtomicModel, traced: Reading, match: Tensor) -> AtomicModel:
    """A prediction as one body on the traced residues that stand for its own (traced residue,)."""
    places, targets = representatives(predicted), representatives(traced.model)
    known = (match >= 0) & targets.isfinite().all(-1) & places[match.clamp(min=0)].isfinite().all(-1)
    weight = torch.sigmoid(traced.logit[known])
    rotation, shift = superposition(places[match[known]], targets[known], weight)
    return predicted.at(predicted.coordinates_angstrom @ rotation + shift)


def bent_onto(predicted: AtomicModel, traced: Reading, match: Tensor) -> AtomicModel:
    """A prediction whose every residue goes along with the traced residues that stand for those around it.

    Each residue gets a rotation and a shift of its own, which lay the backbones of residues around it on the traced
    ones, weighted by a bell of the distance and by how probable those are, and again without those that do not come to
    lie where they should; far from all of them it stays. Memory: 30 kB a residue.
    """
    rows = torch.nonzero(match >= 0).squeeze(1)
    fixed, own = _frames(traced.model)[rows], _frames(predicted)
    moving = own[match[rows]]
    whole = (moving.isfinite() & fixed.isfinite()).flatten(1).all(1)
    if int(whole.sum()) < 3:
        return predicted
    rows, moving, fixed = rows[whole], moving[whole], fixed[whole]
    centre = representatives(predicted)
    apart, near = _distance(centre, moving[:, 1]).topk(min(_N_NEAR, len(rows)), largest=False)
    weight = torch.exp(-(apart**2) / (2 * _BELL_ANGSTROM**2)) * torch.sigmoid(traced.logit[rows])[near]
    stay = torch.where(own.isfinite(), own, centre[:, None])
    points = torch.cat([moving[near].flatten(1, 2), stay], 1)
    targets = torch.cat([fixed[near].flatten(1, 2), stay], 1)
    staying = weight.new_full((len(centre), 3), _OWN_WEIGHT)
    off = weight.new_zeros(len(rows))
    for _ in range(_N_ROUNDS):
        agreeing = weight / (1 + (off[near] / _AGREEING_ANGSTROM) ** 2)
        rotation, shift = superposition(points, targets, torch.cat([agreeing.repeat_interleave(3, 1), staying], 1))
        off = ((own @ rotation + shift)[match[rows], 1] - fixed[:, 1]).norm(dim=-1)
    place = predicted.coordinates_angstrom[:, None] @ rotation[predicted.residue] + shift[predicted.residue]
    return predicted.at(place[:, 0])


def merged(
    traced: Reading, predicted: Reading, bent: Reading, found: Register, name_of: Callable[[int], str]
) -> MergedModel:
    """The best of a traced model and of a placed prediction.

    Parameters
    ----------
    traced
        What was built de novo.
    predicted, bent
        The placed prediction, and the same bent onto the traced residues.
    name_of
        Names for chains: 0, 1 … to A, B …

    Traced residues that stand for none of the prediction stay, except where they read the same density as a predicted
    stretch that is more probable; ligands and waters stay where nothing that was not traced stands in their place.
    """
    everything = joined([traced.model, predicted.model, bent.model])
    logit, alpha = torch.cat([r.logit for r in (traced, predicted, bent)]), representatives(everything)
    n = traced.model.n_residues
    is_polymer = residue_kinds(traced.model) >= 0
    is_rival = is_polymer & ~found.is_alike
    stays, is_beaten = _rivals(traced, is_rival, logit[n:].reshape(2, -1).amax(0), alpha)
    logit[n:][is_beaten.repeat(2)] = -torch.inf
    chain, number, candidates = _columns(traced, predicted.model, found)
    state = _best_way(chain, number, candidates, logit, alpha)
    is_filled = state < _N_SOURCES
    row = candidates.gather(1, state.clamp(max=_N_SOURCES - 1)[:, None]).squeeze(1)[is_filled]
    is_free = (_distance(alpha[:n], alpha[row]) > _OVERLAP_ANGSTROM).all(1)
    foreign = everything.coordinates_angstrom[torch.isin(everything.residue, row[row >= n])]
    is_clear = torch.ones(n, dtype=torch.bool)
    own = traced.model
    if len(foreign):
        touches = _distance(own.coordinates_angstrom, foreign).amin(1) < _TOUCHING_ANGSTROM
        is_clear[own.residue[touches]] = False
    also = torch.nonzero(torch.where(is_polymer, stays & is_free, is_clear)).squeeze(1)
    chosen = torch.cat([row, also])
    model = _named(everything.in_order(chosen), predicted.model, chain[is_filled], number[is_filled], name_of)
    source = torch.cat([state[is_filled], torch.zeros(len(also), dtype=torch.int64)])
    chance = torch.cat([r.probability.double() for r in (traced, predicted, bent)])[chosen]
    n_kept = int(is_polymer[row[row < n]].sum()) + int(is_polymer[also].sum())
    n_left_out = int((~is_filled & (candidates[:, 1] >= 0)).sum())
    return MergedModel(model, source, chance, n_left_out, int(is_polymer.sum()) - n_kept)


def _rivals(traced: Reading, is_rival: Tensor, logit: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """Traced residues that stand for nothing predicted and stay, and predicted ones (residue,) that give way to them.

    Where both read the same density the stretch of a traced chain wins or loses as a whole.
    """
    n = len(is_rival)
    apart = torch.stack([_distance(alpha[:n], part) for part in alpha[n:].chunk(2)]).amin(0)
    meets = is_rival & (apart < _OVERLAP_ANGSTROM).any(1)
    nearest = apart.argmin(1)
    chain, _ = chains_and_numbers(traced.model)
    stretch = torch.unique_consecutive(torch.stack([chain, meets.long()], 1), dim=0, return_inverse=True)[1]
    lead = torch.where(meets, traced.logit - logit[nearest], 0.0)
    total = torch.zeros(int(stretch.max()) + 1, dtype=lead.dtype).index_add_(0, stretch, lead)
    wins = meets & (total[stretch] > 0)
    beaten = torch.zeros(len(logit), dtype=torch.bool)
    beaten[((apart < _OVERLAP_ANGSTROM) & wins[:, None]).any(0)] = True
    return is_rival & (~meets | wins), beaten


def _columns(traced: Reading, predicted: AtomicModel, found: Register) -> tuple[Tensor, Tensor, Tensor]:
    """(column,) chain and number, and (column, source) residues among all of the three models, -1 where there is none.

    Of two traced residues that stand for the same one the more probable one counts.
    """
    chain, number = chains_and_numbers(predicted)
    rows = torch.nonzero(found.is_alike).squeeze(1)
    rows = rows[traced.logit[rows].argsort(stable=True)]
    places = torch.cat([torch.stack([chain, number], 1), torch.stack([found.chain[rows], found.number[rows]], 1)])
    columns, index = torch.unique(places, dim=0, return_inverse=True)
    n, n_predicted = traced.model.n_residues, predicted.n_residues
    candidates = torch.full((len(columns), _N_SOURCES), -1)
    candidates[index[:n_predicted], 1] = n + torch.arange(n_predicted)
    candidates[index[:n_predicted], 2] = n + n_predicted + torch.arange(n_predicted)
    for place, row in zip(index[n_predicted:].tolist(), rows.tolist()):  # in order: the last one stays
        candidates[place, 0] = row
    return columns[:, 0], columns[:, 1], candidates


def _best_way(chain: Tensor, number: Tensor, candidates: Tensor, logit: Tensor, alpha: Tensor) -> Tensor:
    """(column,) the source of each, or the number of sources for nothing (Viterbi)."""
    is_there = candidates >= 0
    gain = torch.where(is_there, logit[candidates.clamp(min=0)], -torch.inf)
    least = torch.where(is_there[:, 0], _LEAST_TRACED, LEAST_PREDICTED).double()
    gain = torch.cat([gain, torch.logit(least)[:, None]], 1)
    place = alpha[candidates.clamp(min=0)]
    step = (place[:-1, :, None] - place[1:, None]).norm(dim=-1)
    is_next = ((chain.diff() == 0) & (number.diff() == 1))[:, None, None]
    is_broken = is_next & ((step < _SHORTEST_STEP_ANGSTROM) | (step > _LONGEST_STEP_ANGSTROM))
    cost = torch.zeros(len(chain) - 1, _N_SOURCES + 1, _N_SOURCES + 1, dtype=torch.float64)
    cost[:, :-1, :-1] = _CHANGE_NATS * (1 - torch.eye(_N_SOURCES)) + _BREAK_NATS * is_broken
    cost[:, -1, :-1] = cost[:, :-1, -1] = _LEAVE_NATS
    cost[chain.diff() != 0] = 0
    best, back = gain[0], []
    for own, between in zip(gain[1:], cost):
        way = (best[:, None] - between).max(0)
        best = way.values + own
        back.append(way.indices)
    state = [int(best.argmax())]
    for before in reversed(back):
        state.append(int(before[state[-1]]))
    return torch.tensor(state[::-1])


def _named(
    model: AtomicModel, predicted: AtomicModel, chain: Tensor, number: Tensor, name_of: Callable[[int], str]
) -> AtomicModel:
    """Residues of columns under the prediction's chains and numbers, all others in chains with names of their own."""
    names = list(dict.fromkeys(residue.chain for residue in predicted.residues))
    free = (name_of(k) for k in range(2 * len(names) + model.n_residues))
    unused = (name for name in free if name not in names)
    residues = [
        replace(residue, chain=names[c], number=k, insertion_code="")
        for residue, c, k in zip(model.residues, chain.tolist(), number.tolist())
    ]
    given: dict[str, str] = {}
    for residue in model.residues[len(chain) :]:
        if residue.chain not in given:
            given[residue.chain] = next(unused)
        residues.append(replace(residue, chain=given[residue.chain]))
    return replace(model, residues=tuple(residues))


def _frames(model: AtomicModel) -> Tensor:
    """(residue, 3, 3) three atoms of each residue that tell how it lies, the second one that of `representatives`."""
    protein, nucleic = model.positions("N", "CA", "C"), model.positions("C3'", "C4'", "C1'")
    return torch.where(protein[:, 1:2].isfinite(), protein, nucleic)


def _distance(first: Tensor, second: Tensor) -> Tensor:
    """(n, m) distances; infinite where a place is not known."""
    return torch.cdist(first, second).nan_to_num(nan=torch.inf)
