"""Where values lie: one arena for all of a window's values, planned when the C is written.

A value takes its place from the step that makes it to the last that reads it. Places are given
to the largest first, each at the lowest offset where nothing that lives at the same time lies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ALIGNMENT = 16


@dataclass(frozen=True)
class Life:
    """A value that needs memory: its bytes, and the first and last step that touches it."""

    name: str
    size_bytes: int
    first: int
    last: int


@dataclass(frozen=True)
class Place:
    """Where a value lies in the arena."""

    life: Life
    offset: int

    @property
    def end(self) -> int:
        return self.offset + self.life.size_bytes


@dataclass(frozen=True)
class MemoryPlan:
    """Places of all values in one arena.

    Attributes:
        places: in the order in which the values are made.
        shared: value -> the value in whose place it is made, since nobody reads that any more.

    >>> plan = planned([Life("a", 100, 0, 1), Life("b", 50, 1, 2), Life("c", 90, 2, 3)])
    >>> plan.arena_bytes, plan.offsets
    (162, {'a': 0, 'b': 112, 'c': 0})
    """

    places: tuple[Place, ...]
    shared: Mapping[str, str]

    @property
    def arena_bytes(self) -> int:
        return max((place.end for place in self.places), default=0)

    @property
    def offsets(self) -> dict[str, int]:
        """Offset of every value, those that share a place included."""
        found = {place.life.name: place.offset for place in self.places}
        for name, other in self.shared.items():
            found[name] = found[other]
        return found

    def table(self) -> str:
        """The plan as text: bytes and steps of each place."""
        lines = [f"{'offset':>8} {'bytes':>8}  steps      value"]
        for place in self.places:
            life = place.life
            names = [life.name, *(n for n, other in self.shared.items() if other == life.name)]
            steps = f"{life.first}-{life.last}"
            lines.append(f"{place.offset:>8} {life.size_bytes:>8}  {steps:<9}  {', '.join(names)}")
        lines.append(f"{self.arena_bytes:>8} bytes in all")
        return "\n".join(lines)


def planned(lives: Sequence[Life], shares: Mapping[str, str] | None = None) -> MemoryPlan:
    """Places for values.

    Args:
        shares: value -> value whose place it may take: that one's last step is its first.
    """
    merged = {life.name: life for life in lives}
    shared: dict[str, str] = {}
    wanted = shares or {}
    for name in sorted(wanted, key=lambda name: merged[name].first):
        root = shared.get(wanted[name], wanted[name])
        one, two = merged[name], merged[root]
        if two.last != one.first:
            continue
        merged[root] = Life(
            root, max(one.size_bytes, two.size_bytes), two.first, max(one.last, two.last)
        )
        del merged[name]
        shared[name] = root
    placed: list[Place] = []
    for life in sorted(merged.values(), key=lambda life: (-life.size_bytes, life.first, life.name)):
        meeting = sorted(
            (p for p in placed if p.life.first <= life.last and life.first <= p.life.last),
            key=lambda place: place.offset,
        )
        offset = 0
        for place in meeting:
            if offset + life.size_bytes <= place.offset:
                break
            offset = max(offset, -(-place.end // ALIGNMENT) * ALIGNMENT)
        placed.append(Place(life, offset))
    placed.sort(key=lambda place: (place.life.first, place.offset))
    return MemoryPlan(tuple(placed), shared)
