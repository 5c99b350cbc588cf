"""Values that are not in memory yet: what to compute for each element, and from where.

A transposition, a slice or a frame only changes how an index becomes an address, and an
elementwise operation only changes what is done with what stands there. So chains of them need no
memory of their own: they become one loop, where somebody needs the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Leaf:
    """An array in memory as an expression reads it: address = offset + index . strides."""

    name: str
    ctype: str
    offset: int
    strides: tuple[int, ...]

    def broadcast(self, shape: Shape, wide: Shape) -> Leaf:
        """As read by an expression of shape `wide`."""
        strides = tuple(
            0 if size == 1 else step for size, step in zip(shape, self.strides, strict=True)
        )
        return replace(self, strides=(0,) * (len(wide) - len(shape)) + strides)


@dataclass(frozen=True)
class Expression:
    """One value for each index of `shape`: C text with ``{0}``, ``{1}`` for its leaves."""

    shape: Shape
    ctype: str
    text: str
    leaves: tuple[Leaf, ...]

    @property
    def is_view(self) -> bool:
        """Whether nothing is computed."""
        return self.text == "{0}"

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def is_contiguous(self) -> bool:
        return self.is_view and steps_of(self.shape, self.leaves[0].strides) == steps_of(
            self.shape, contiguous(self.shape)
        )

    def moved(self, shape: Shape, leaves: Sequence[Leaf]) -> Expression:
        return replace(self, shape=shape, leaves=tuple(leaves))

    def transposed(self, axes: Sequence[int]) -> Expression:
        order = [axis % len(self.shape) for axis in axes]
        leaves = [
            replace(leaf, strides=tuple(leaf.strides[a] for a in order)) for leaf in self.leaves
        ]
        return self.moved(tuple(self.shape[a] for a in order), leaves)

    def sliced(self, axis: int, start: int, step: int, size: int) -> Expression:
        shape = (*self.shape[:axis], size, *self.shape[axis + 1 :])
        leaves = []
        for leaf in self.leaves:
            one = leaf.strides[axis]
            strides = (*leaf.strides[:axis], one * step, *leaf.strides[axis + 1 :])
            leaves.append(replace(leaf, offset=leaf.offset + start * one, strides=strides))
        return self.moved(shape, leaves)

    def framed(self, length: int, hop: int, count: int) -> Expression:
        """The last axis as overlapping frames."""
        leaves = [
            replace(leaf, strides=(*leaf.strides[:-1], leaf.strides[-1] * hop, leaf.strides[-1]))
            for leaf in self.leaves
        ]
        return self.moved((*self.shape[:-1], count, length), leaves)

    def reshaped(self, shape: Shape) -> Expression | None:
        """As another shape, if no element has to move."""
        leaves = []
        for leaf in self.leaves:
            strides = _reshaped(self.shape, leaf.strides, shape)
            if strides is None:
                return None
            leaves.append(replace(leaf, strides=strides))
        return self.moved(shape, leaves)


def contiguous(shape: Shape) -> tuple[int, ...]:
    """Strides, in elements, of an array that lies densely.

    >>> contiguous((1, 3, 20))
    (60, 20, 1)
    """
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


def whole(name: str, ctype: str, shape: Shape) -> Expression:
    """An array in memory as it is."""
    return Expression(shape, ctype, "{0}", (Leaf(name, ctype, 0, contiguous(shape)),))


def steps_of(shape: Shape, strides: Sequence[int]) -> list[tuple[int, int]]:
    """(size, stride) of the axes that count: longer than one, and merged where they follow.

    >>> steps_of((1, 3, 20), (60, 20, 1))
    [(60, 1)]
    """
    return [(size, step[0]) for size, step in merged(shape, [strides])]


def merged(
    shape: Shape, strides: Sequence[Sequence[int]], stop: int = -1
) -> list[tuple[int, tuple[int, ...]]]:
    """Axes of several arrays read together: (size, stride in each), merged where all follow.

    Args:
        stop: an axis that is not merged with the one before it.
    """
    found: list[tuple[int, tuple[int, ...]]] = []
    closed = False
    for axis, size in enumerate(shape):
        steps = tuple(each[axis] for each in strides)
        closed |= axis == stop
        if size == 1:
            continue
        if found and not closed and found[-1][1] == tuple(step * size for step in steps):
            found[-1] = (found[-1][0] * size, steps)
        else:
            found.append((size, steps))
        closed = False
    return found


def _reshaped(shape: Shape, strides: Sequence[int], new: Shape) -> tuple[int, ...] | None:
    """Strides of the same elements in another shape; None where there are none."""
    parts = steps_of(shape, strides)
    found: list[int] = []
    for size in reversed(new):
        if size == 1:
            found.append(0)
            continue
        if not parts or parts[-1][0] % size:
            return None
        length, step = parts.pop()
        found.append(step)
        if length > size:
            parts.append((length // size, step * size))
    return tuple(reversed(found)) if not parts else None
