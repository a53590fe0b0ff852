"""What depends on what among the products of a session, read from the inputs in their records.

A product is *settled* when no stage has a reason to make it again. Others would be made from their inputs, so these
are *needed*: of a product that is out of date, failed, is wanted back, or lost its files. Where what is needed has
itself expired, so is what that is made from; and with a particle set, the stacks whose images it names.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from tasks.stores.upkeep.survey import Chain, Kept


@dataclass
class View:
    """Address -> product as the reader of one store finds it: the store's own before its parents'."""

    products: dict[str, Kept]
    attempts: set[str]
    """All that are there."""

    @classmethod
    def of(cls, chain: Chain) -> View:
        products: dict[str, Kept] = {}
        for held in reversed(chain):
            products |= {address: product for address, product in held.items() if product.is_recorded}
        return cls(products, {attempt for held in chain for product in held.values() for attempt in product.attempts})

    def is_settled(self, product: Kept) -> bool:
        """Whether no stage has a reason to make it again: it is there, or may be missed, and its inputs are as then."""
        if product.is_wanted or product.state == "failed":
            return False
        is_there = product.state != "done" or product.attempt is None or product.attempt in self.attempts
        return is_there and all(self._is_same(*one) for one in product.inputs.items())

    def _is_same(self, address: str, fingerprint: str) -> bool:
        found = self.products.get(address)
        return found is not None and found.state == "done" and found.fingerprint == fingerprint

    def needed(self, is_kept_for_failed: bool) -> dict[str, str]:
        """Address -> why it is needed, of every product that another one would have to be made from."""
        found: dict[str, str] = {}
        for product in self.products.values():
            if product.product_class == "scratch" or self.is_settled(product):
                continue
            if (product.state == "failed" and not is_kept_for_failed) or self._is_blocked(product, is_kept_for_failed):
                continue
            words = "failed" if product.state == "failed" else "is out of date"
            if product.is_wanted:
                words = "is wanted back"
            self._need(found, product, f"{product.address} {words} and would be made from it")
        return found

    def _is_blocked(self, product: Kept, is_kept_for_failed: bool) -> bool:
        """Whether it is history: what it was made from was rejected or is no more, so no run makes it again."""
        states = [self.products[a].state if a in self.products else "absent" for a in product.inputs]
        return any(state != "done" and not (state == "failed" and is_kept_for_failed) for state in states)

    def _need(self, found: dict[str, str], product: Kept, why: str) -> None:
        waiting = [(product, True)]
        while waiting:
            one, is_to_be_made = waiting.pop()
            for address in one.inputs:
                source = self.products.get(address)
                if source is None or address in found:
                    continue
                # what reads a particle set that is there reads the images it names, and not what else it was made from
                if not is_to_be_made and source.product_class not in ("particle_sets", "particle_stacks"):
                    continue
                found[address] = why
                if source.expiry is not None or not self.is_settled(source):
                    waiting.append((source, True))
                elif source.product_class == "particle_sets":
                    waiting.append((source, False))

    def is_used(self, product: Kept) -> bool:
        """Whether what it was made for is committed."""
        if product.product_class == "scratch":
            return self._newest_of_stage.get(product.stage, "") >= product.written_at
        exposure = product.address.rpartition("/")[0]
        if product.product_class == "imported_movies":
            return self._is_made_from(product, f"{exposure}/correct_motion", ("done",))
        return self._is_made_from(product, f"{exposure}/extract_particles", ("done", "skipped")) or self._is_rejected(
            f"{exposure}/curate_exposures"
        )

    def _is_made_from(self, product: Kept, address: str, states: tuple[str, ...]) -> bool:
        later = self.products.get(address)
        return (
            later is not None
            and later.state in states
            and later.inputs.get(product.address) == product.fingerprint
            and self.is_settled(later)
        )

    def _is_rejected(self, address: str) -> bool:
        found = self.products.get(address)
        return found is not None and found.state == "skipped" and self.is_settled(found)

    @cached_property
    def _newest_of_stage(self) -> dict[str, str]:
        """Stage -> when it last wrote a product that stays."""
        newest: dict[str, str] = {}
        for product in self.products.values():
            if product.product_class != "scratch" and product.state == "done":
                newest[product.stage] = max(newest.get(product.stage, ""), product.written_at)
        return newest
