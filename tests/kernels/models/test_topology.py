"""Elements of a map are told apart by the order, lengths and distances of a chain's helices."""

import dataclasses

import torch

from kernels.models.secondary_structure import HELIX, STRAND
from kernels.models.structure_elements import StructureElement
from kernels.models.topology import Segment, match_topology, segments_of


def truth() -> tuple[list[StructureElement], list[Segment]]:
    """Seven helices and strands of a made-up chain, joined by loops of two to twelve residues."""
    generator = torch.Generator().manual_seed(7)
    elements, segments, at, residue = [], [], torch.zeros(3, dtype=torch.float64), 4
    for kind, n, loop in (
        (HELIX, 12, 4), (STRAND, 6, 2), (STRAND, 9, 6), (HELIX, 24, 12), (HELIX, 17, 3), (STRAND, 5, 8), (HELIX, 9, 0)
    ):  # fmt: skip
        along, loop_along = torch.nn.functional.normalize(
            torch.randn(2, 3, generator=generator, dtype=torch.float64), dim=-1
        )
        end = at + along * (n - 1) * (1.5 if kind == HELIX else 3.3)
        elements.append(StructureElement(kind, residue, n, at, end, 0.9))
        segments.append(Segment(kind, residue, n))
        at = end + loop_along * (3.8 + 2.0 * loop**0.5)
        residue += n + loop
    return elements, segments


def test_segments_are_the_helices_and_strands_that_are_long_enough():
    assert segments_of("CCHHHHHHCEEEECHHHCEEgGGGGg") == [
        Segment(HELIX, 2, 6),
        Segment(STRAND, 9, 4),
        Segment(HELIX, 20, 6),
    ]
    assert segments_of("") == []


def test_shuffled_turned_and_blurred_helices_find_their_names():
    elements, segments = truth()
    generator = torch.Generator().manual_seed(4)
    order = torch.randperm(len(elements), generator=generator).tolist()
    shown = []
    for number, index in enumerate(order):
        element = elements[index]
        ends = [element.start_angstrom, element.end_angstrom]
        start, end = (e + torch.randn(3, generator=generator, dtype=torch.float64) for e in ends[:: (-1) ** number])
        length = element.n_residues + int(torch.randint(-1, 2, (1,), generator=generator))
        shown.append(dataclasses.replace(element, start_angstrom=start, end_angstrom=end, n_residues=length))
    placed, score = match_topology(shown, segments)
    assert [order[p.element] for p in placed] == list(range(len(elements)))
    assert [p.is_reversed for p in placed] == [order.index(i) % 2 == 1 for i in range(len(elements))]
    assert score > 0


def test_an_element_that_is_not_there_leaves_its_segment_out():
    elements, segments = truth()
    placed, _ = match_topology(elements[:3] + elements[4:], segments)
    assert [p.segment for p in placed] == segments[:3] + segments[4:]
    assert match_topology([], segments) == ([], 0.0)


def test_neighbours_that_the_chain_between_them_cannot_join_are_not_both_placed():
    a, b = (
        StructureElement(HELIX, 0, 10, torch.tensor([x, 0.0, 0.0]), torch.tensor([x + 13.5, 0.0, 0.0]), 0.9)
        for x in (0.0, 45.0)
    )
    near, far = [Segment(HELIX, 0, 10), Segment(HELIX, 12, 10)], [Segment(HELIX, 0, 10), Segment(HELIX, 40, 10)]
    assert len(match_topology([a, b], near)[0]) == 1
    assert len(match_topology([a, b], far)[0]) == 2
