"""How surprising the newest sample of one channel is, by what the channel has done so far.

Three parts, each of bounded memory and of the past only:

* :class:`Memory`: how rare a number is among the last ones of its kind (a conformal p-value as
  its negative decimal logarithm), and how far beyond the record it lies.
* :class:`Shape`: the distance of the last few samples, as a curve, to the nearest curves of the
  recent past (nearest sub-sequences; the idea of KNN-CAD, Burnaev and Ishimtsev, 2016).
* :class:`Level`: the distance of a sample to the slow mean.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, insort

import numpy as np

from edgegraft_edge.signal import Array

MOST_BEYOND = 5.0
"""Doublings of the record that count."""
TAIL = 0.02
"""Share of a memory that the tail is fitted to."""
_TINY = 1e-7
"""Differences below this share of the largest value are rounding: samples come as float32."""


class Memory:
    """The last numbers of a kind, in order of time and of size.

    Args:
        length: how many are kept.

    >>> memory = Memory(100)
    >>> for number in range(99):
    ...     _ = memory.surprise(float(number % 10))
    >>> round(memory.surprise(9.0), 2), round(memory.surprise(18.0), 2)
    (1.0, 3.0)
    """

    def __init__(self, length: int):
        self.length = length
        self.count = 0
        self._ring = array("d")
        self._sorted = array("d")

    def surprise(self, number: float) -> float:
        """-log10 of the share of the memory that is at least as large; a record adds how often
        it doubles the one before. The number is then remembered."""
        ordered = self._sorted
        n = len(ordered)
        above = n - bisect_left(ordered, number)
        found = math.log10((n + 1) / (above + 1))
        if not above and n:
            record = ordered[-1]
            if record <= 0.0:
                found += MOST_BEYOND if number > 0.0 else 0.0
            else:
                found += min(math.log2(number / record), MOST_BEYOND)
        self._remember(number)
        return found

    def tail(self, number: float) -> float:
        """Probability of a number at least as large, before it is remembered.

        The share of the memory, and beyond its upper fiftieth an exponential tail, so that
        probabilities below one over the length can be told apart.
        """
        ordered = self._sorted
        n = len(ordered)
        k = max(int(n * TAIL), 1)
        if n <= 10 or number <= (border := ordered[n - k]):
            found = (n - bisect_left(ordered, number) + 1) / (n + 1)
        else:
            # The fewer numbers the mean excess is of, the longer the tail is taken to be.
            beyond = (sum(ordered[n - k :]) / k - border) * (1.0 + 2.0 / math.sqrt(k))
            share = (k + 1) / (n + 1)
            found = share * math.exp(-(number - border) / beyond) if beyond > 0 else 1 / (n + 1)
        self._remember(number)
        return found

    def _remember(self, number: float) -> None:
        ring, place = self._ring, self.count % self.length
        if self.count < self.length:
            ring.append(number)
        else:
            del self._sorted[bisect_left(self._sorted, ring[place])]
            ring[place] = number
        insort(self._sorted, number)
        self.count += 1

    def state(self) -> Array:
        """Float64: the count, then the numbers."""
        return np.array([self.count, *self._ring])

    def restore(self, state: Array) -> None:
        self.count = int(state[0])
        self._ring = array("d", state[1:].tolist())
        self._sorted = array("d", sorted(self._ring))


class Level:
    """Distance to a mean that forgets: a plain mean at first, then with weight 1 / `length`."""

    def __init__(self, length: int):
        self.length = length
        self.mean = 0.0
        self.count = 0

    def distance(self, value: float) -> float:
        self.count += 1
        away = value - self.mean
        self.mean += away / min(self.count, self.length)
        return abs(away) if self.count > 1 else 0.0


class Lags:
    """The last values of a channel, newest first, and their squared distances to the newest."""

    def __init__(self, length: int, spare: int):
        self.length, self.spare = length, spare
        self.count = 0
        self._room = 4 * (length + spare)
        self._values = np.zeros(self._room)
        self._at = self._room
        self._squares = np.zeros(length)

    def push(self, value: float) -> Array:
        """Squared distances of a value to those 1 .. `length` samples before, then remember it."""
        if self._at == 0:
            kept = self.length + self.spare
            self._values[self._room - kept :] = self._values[:kept]
            self._at = self._room - kept
        squares = self.squares(value, self._at)
        self._at -= 1
        self._values[self._at] = value
        self.count += 1
        return squares

    def squares(self, value: float, at: int) -> Array:
        past, squares = self._values[at : at + self.length], self._squares
        if len(past) < self.length:  # only while it fills
            squares[:] = 0.0
            squares[: len(past)] = past - value
        else:
            np.subtract(past, value, squares)
        return np.multiply(squares, squares, squares)

    def before(self, ago: int) -> Array:
        """The squares of the sample so many pushes ago, 0 for the last one, as they were then."""
        return self.squares(float(self._values[self._at + ago]), self._at + ago + 1)

    def state(self) -> Array:
        kept = min(self.count, self.length + self.spare)
        return np.array([self.count, *self._values[self._at : self._at + kept]])

    def restore(self, state: Array) -> None:
        self.count = int(state[0])
        self._at = self._room - len(state) + 1
        self._values[self._at :] = state[1:]


class Shape:
    """Mean distance of the last `length` samples to their nearest neighbours in the past.

    Sums of squares over a sliding window, for all lags at once, without a subtraction: a window
    is the end of one block of `length` samples and the beginning of the next, and both sums are
    known. So nothing drifts, and an equal curve has the distance 0.
    """

    def __init__(self, length: int, lags: int, neighbours: int):
        self.length, self.neighbours = length, neighbours
        self._rows = np.zeros((length, lags))
        self._ends = np.zeros((length, lags))
        self._sum = np.zeros(lags)
        self._distances = np.zeros(lags)
        self._phase = 0

    def distance(self, squares: Array, count: int) -> float:
        """Of the newest window; 0.0 until there are twice as many windows as neighbours.

        Args:
            squares: of the newest sample (n_lags,).
            count: of samples so far, the newest included.
        """
        self._take(squares)
        phase, n = self._phase, self.length
        if phase:  # phase samples of this block, the rest of the one before
            np.add(self._sum, self._ends[phase], self._distances)
        else:
            np.copyto(self._distances, self._sum)
        last = min(len(squares), count - n)  # later lags reach before the beginning
        if last - n + 1 < 2 * self.neighbours:
            return 0.0
        near = self._distances[n - 1 : last]  # nearer lags overlap the window itself
        near.partition(self.neighbours - 1)
        mean = float(np.add.reduce(near[: self.neighbours])) / self.neighbours
        return math.sqrt(mean / n)

    def _take(self, squares: Array) -> None:
        if self._phase:
            self._sum += squares
        else:
            self._sum[:] = squares
        self._rows[self._phase] = squares
        self._phase += 1
        if self._phase == self.length:
            np.cumsum(self._rows[::-1], axis=0, out=self._ends[::-1])
            self._phase = 0

    def restore(self, lags: Lags) -> None:
        """Take up from the values, as after a restart."""
        whole = lags.count - lags.count % self.length
        for at in range(max(whole - self.length, 0), lags.count):
            self._take(lags.before(lags.count - 1 - at))


class Channel:
    """Surprise of one channel: the mean of what its shapes and its level say.

    Args:
        shapes: lengths of curves in samples.
        neighbours: how many nearest curves count.
        lags: how far back curves are looked for, in samples.
        level: length of the slow mean in samples.
        memory: how many distances are remembered.
    """

    def __init__(
        self, shapes: tuple[int, ...], neighbours: int, lags: int, level: int, memory: int
    ):
        self._lags = Lags(lags, 2 * max(shapes))
        self._shapes = [Shape(length, lags, neighbours) for length in shapes]
        self._level = Level(level)
        self._memories = [Memory(memory) for _ in range(len(shapes) + 1)]
        self._largest = 0.0

    def push(self, value: float) -> float:
        """Surprise of the next sample, in decimal digits of rarity."""
        self._largest = max(self._largest, abs(value))
        small = self._largest * _TINY
        squares = self._lags.push(value)
        count, total = self._lags.count, 0.0
        for shape, memory in zip(self._shapes, self._memories, strict=False):
            away = shape.distance(squares, count)
            total += memory.surprise(away if away > small else 0.0)
        away = self._level.distance(value)
        total += self._memories[-1].surprise(away if away > small else 0.0)
        return total / len(self._memories)

    def state(self) -> dict[str, Array]:
        return {
            "lags": self._lags.state(),
            "level": np.array([self._level.mean, self._level.count, self._largest]),
            **{f"memory{at}": memory.state() for at, memory in enumerate(self._memories)},
        }

    def restore(self, state: dict[str, Array]) -> None:
        self._lags.restore(state["lags"])
        for shape in self._shapes:
            shape.restore(self._lags)
        mean, count, largest = state["level"].tolist()
        self._level.mean, self._level.count, self._largest = mean, int(count), largest
        for at, memory in enumerate(self._memories):
            memory.restore(state[f"memory{at}"])
