"""What was known before networks: grey levels, colours, edges and local patterns of a picture.

The grey picture is halved again and again. At each scale count the local binary patterns (which
of eight neighbours are brighter; Ojala, Pietikäinen and Mäenpää, PAMI 2002, uniform ones), the
directions of edges, in all of the picture and in its quarters (after Dalal and Triggs, CVPR
2005), and how strong edges are. With them go histograms of grey and of opponent colours, of the
contrast of small squares, and a four by four thumbnail. All of it is bounded and learns nothing;
it is a program that runs anywhere, and with trees the control of networks.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from edgegraft.zoo.backbone import BackboneCard, shipped_card, unfitted
from edgegraft.zoo.intake import kind_error
from edgegraft.zoo.torch_program import run_torch
from edgegraft_edge.errors import DataError
from edgegraft_edge.picture import resizing
from edgegraft_edge.program import Draft, Program
from edgegraft_edge.signal import Array, ImageSpec, Windows

SMALLEST, LARGEST = 16, 256
"""Pictures are brought between these sides, in pixels."""
LEAST_SCALE = 12  # pixels of the shorter side that still have patterns
_LUMA = np.array([77, 150, 29], np.float32) / 256  # sums of these are exact in float32
_BRIGHTER = 2.3  # grey levels; between what sums of bytes can be, so that none is at the edge
_HALVING = np.outer([1, 3, 3, 1], [1, 3, 3, 1]).astype(np.float32) / 64
_AROUND = ((0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0))
_DIRECTIONS = 8
_SQUARE = 8  # pixels of a side
_BATCH_BYTES = 4 << 20


@dataclass(frozen=True, eq=False)
class Texture:
    """Features of pictures: (n_windows, n_channels, height, width) -> (n_windows, embedding_dim).

    >>> x = np.random.default_rng(0).integers(0, 256, (6, 3, 32, 32)).astype(np.uint8)
    >>> windows = Windows(x, np.array(list("aabbcc")), np.full(6, ""), ImageSpec(32, 32))
    >>> Texture().fit(windows, seed=0).embed(x).shape
    (6, 220)
    """

    scales: int = field(default=4, metadata={"help": "how often the picture is halved, and once"})
    card: BackboneCard = field(
        default_factory=lambda: shipped_card("texture"), metadata={"help": "what it is"}
    )
    spec: ImageSpec | None = field(default=None, metadata={"help": "set by fit"})

    @classmethod
    def from_card(cls, card: BackboneCard, weights: bytes | None) -> Texture:
        return cls(card=card, **card.options)

    def fit(self, windows: Windows, *, seed: int) -> Texture:
        """Take the size and the colours of these pictures; nothing else of them plays a part.

        Errors: `DataError` "kind-differs".
        """
        if not isinstance(windows.spec, ImageSpec):
            raise kind_error(windows.spec, "image")
        return replace(self, spec=windows.spec)

    def embed(self, x: Array) -> Array:
        """Features float32 (n_windows, embedding_dim) of pictures of the size of `fit`.

        Errors: `ModelError` before `fit`; `DataError` "window-shape".
        """
        import torch

        program = self.program(*x.shape[1:])
        step = max(1, _BATCH_BYTES // max(1, 4 * int(np.prod(x.shape[1:]))))
        parts = []
        with torch.inference_mode():
            for start in range(0, len(x), step):
                part = torch.from_numpy(np.array(x[start : start + step], dtype=np.float32))
                found = run_torch(program, part)
                assert not isinstance(found, tuple)
                parts.append(found.numpy())
        return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)

    def program(self, *shape: int) -> Program:
        """The features from primitives; `embed` runs the same."""
        if self.spec is None:
            raise unfitted(self.card.name)
        if tuple(shape) != self.spec.shape:
            raise DataError.of(
                "window-shape",
                f"pictures of shape {tuple(shape)}",
                f"{self.card.name} was fitted to {self.spec.shape}",
                "open them in that size and colour, or fit again",
            )
        draft = Draft()
        colours, height, width = _sized(draft, *shape)
        flat = _described(draft, colours, (shape[0], height, width), self.scales)
        return draft.finish(draft.add("concat", *(name for name, _ in flat), axis=1))


def _sized(draft: Draft, n_channels: int, height: int, width: int) -> tuple[str, int, int]:
    """The picture with its sides between the bounds."""
    scale = min(1.0, LARGEST / max(height, width))
    new_height, new_width = (max(SMALLEST, round(side * scale)) for side in (height, width))
    value = "x"
    if new_width != width:
        value = draft.add("matmul", value, resizing(width, new_width))
    if new_height != height:
        value = draft.add("matmul", resizing(height, new_height).T, value)
    return value, new_height, new_width


def _described(
    draft: Draft, colours: str, shape: tuple[int, int, int], scales: int
) -> list[tuple[str, int]]:
    """Features, each (n, size) with its size."""
    n_channels, height, width = shape
    grey = colours
    if n_channels == 3:
        weighted = draft.add("mul", colours, _LUMA[:, None, None])
        grey = draft.add("sum", weighted, axes=[1])
    found = [_histogram(draft, _every_other(draft, grey, height, width), np.linspace(0, 255, 12))]
    if n_channels == 3:
        found += _opponents(draft, _every_other(draft, colours, height, width))
    thumbnail, size = _pooled(draft, colours, shape, 4)
    found.append((draft.add("mul", thumbnail, np.float32(1 / 255)), size))
    found += _contrast(draft, grey, height, width)
    for _ in range(max(1, scales)):
        found.append(_patterns(draft, grey))
        found += _edges(draft, grey, height, width)
        if min(height, width) < 2 * LEAST_SCALE + 2:
            break
        grey = draft.add("conv2d", grey, _HALVING[None, None], np.zeros(1), stride=[2, 2])
        height, width = height // 2 - 1, width // 2 - 1
    return found


def _histogram(draft: Draft, value: str, centres: Array) -> tuple[str, int]:
    """Share of the places (n, 1, h, w) near each centre; a place between two counts for both.

    Such a tent is the difference of two ramps, and ramps are cheap: of each centre but the last
    only the mean of how far places have come from it to the next is computed.
    """
    step, count = float(centres[1] - centres[0]), len(centres)
    steps = draft.add("mul", draft.add("sub", value, np.float32(centres[0])), np.float32(1 / step))
    begins = np.arange(count - 1, dtype=float)[:, None, None]
    ramps = draft.add("relu", draft.add("sub", steps, begins))
    come = draft.add("mean", draft.add("minimum", ramps, np.float32(1)), axes=[2, 3])
    come = draft.add("reshape", come, shape=[count - 1])
    shares = draft.add("matmul", come, np.eye(count - 1, count, k=1) - np.eye(count - 1, count))
    first = np.zeros(count)
    first[0] = 1
    return draft.add("add", shares, first), count


def _every_other(draft: Draft, value: str, height: int, width: int) -> str:
    """Every other row and column: enough to count levels."""
    value = draft.add("slice", value, axis=2, start=0, stop=height, step=2)
    return draft.add("slice", value, axis=3, start=0, stop=width, step=2)


def _opponents(draft: Draft, colours: str) -> list[tuple[str, int]]:
    """Red against green, and yellow against blue."""
    weights = np.array([[1, -1, 0], [0.5, 0.5, -1]], np.float32)[:, :, None, None]
    both = draft.add("conv2d", colours, weights, np.zeros(2))
    found = []
    for index in range(2):
        one = draft.add("slice", both, axis=1, start=index, stop=index + 1)
        found.append(_histogram(draft, one, np.linspace(-96, 96, 9)))
    return found


def _pooled(draft: Draft, value: str, shape: tuple[int, int, int], cells: int) -> tuple[str, int]:
    """Means over a grid of cells of (n, c, h, w)."""
    n_channels, height, width = shape
    value = draft.add("matmul", value, _cells(width, cells))
    value = draft.add("matmul", _cells(height, cells).T, value)
    size = n_channels * cells * cells
    return draft.add("reshape", value, shape=[size]), size


def _cells(n_in: int, n_out: int) -> Array:
    """Matrix float32 (n_in, n_out) of means over stretches of equal length."""
    edges = np.arange(n_out + 1) * n_in / n_out
    place = np.arange(n_in)[:, None]
    covered = np.minimum(place + 1, edges[1:]) - np.maximum(place, edges[:-1])
    covered = np.maximum(covered, 0)
    return np.asarray(covered / covered.sum(axis=0), dtype=np.float32)


def _contrast(draft: Draft, grey: str, height: int, width: int) -> list[tuple[str, int]]:
    """Of small squares: a histogram of their deviations, and how their means spread."""
    side = min(_SQUARE, height, width)
    kernel = np.full((1, 1, side, side), 1 / side**2, np.float32)
    centred = draft.add("sub", grey, np.float32(128))
    mean = draft.add("conv2d", centred, kernel, np.zeros(1), stride=[side, side])
    square = draft.add("mul", centred, centred)
    power = draft.add("conv2d", square, kernel, np.zeros(1), stride=[side, side])
    within = draft.add("relu", draft.add("sub", power, draft.add("mul", mean, mean)))
    deviation = draft.add("sqrt", within)
    logs = draft.add("log", draft.add("add", deviation, np.float32(1)))
    found = [_histogram(draft, logs, np.linspace(0, 4.5, 8))]
    for value in (mean, deviation):
        middle = draft.add("mean", value, axes=[2, 3])
        away = draft.add("sub", value, middle)
        spread = draft.add("mean", draft.add("mul", away, away), axes=[2, 3])
        spread = draft.add("sqrt", draft.add("add", spread, np.float32(1e-2)))
        low = draft.add("min", value, axes=[2, 3])
        high = draft.add("max", value, axes=[2, 3])
        table = draft.add("concat", middle, spread, low, high, axis=1)
        small = draft.add("mul", draft.add("reshape", table, shape=[4]), np.float32(1 / 128))
        found.append((small, 4))
    return found


def _patterns(draft: Draft, grey: str) -> tuple[str, int]:
    """Shares of the ten uniform patterns that do not change when the picture is turned."""
    kernels = np.zeros((8, 1, 3, 3), np.float32)
    for index, (row, column) in enumerate(_AROUND):
        kernels[index, 0, row, column], kernels[index, 0, 1, 1] = 1, -1
    differences = draft.add("conv2d", grey, kernels, np.zeros(8))
    brighter = draft.add("greater", differences, np.float32(_BRIGHTER))
    count = draft.add("sum", brighter, axes=[1])
    turned = draft.add("gather", brighter, np.roll(np.arange(8), -1), axis=1)
    changes = draft.add("sum", draft.add("abs", draft.add("sub", brighter, turned)), axes=[1])
    uneven = draft.add("mul", draft.add("greater", changes, np.float32(2.5)), np.float32(9))
    code = draft.add("maximum", count, uneven)  # 0 to 8 brighter ones, or 9 for all the rest
    return _histogram(draft, code, np.arange(10.0))


def _edges(draft: Draft, grey: str, height: int, width: int) -> list[tuple[str, int]]:
    """Strengths of edges, and their directions in the whole and in its quarters."""
    angle = np.arange(_DIRECTIONS) * np.pi / _DIRECTIONS
    kernels = np.zeros((2 + _DIRECTIONS, 1, 3, 3), np.float32)
    weights = [(1.0, 0.0), (0.0, 1.0), *zip(np.cos(angle), np.sin(angle), strict=True)]
    for kernel, (across, down) in zip(kernels[:, 0], weights, strict=True):
        kernel[1, 2], kernel[1, 0] = across / 2, -across / 2
        kernel[2, 1], kernel[0, 1] = down / 2, -down / 2
    slopes = draft.add("conv2d", grey, kernels, np.zeros(len(kernels)))
    squares = draft.add("mul", slopes, slopes)
    both = draft.add("slice", squares, axis=1, start=0, stop=2)
    strength = draft.add("add", draft.add("sum", both, axes=[1]), np.float32(1e-3))
    root = draft.add("sqrt", strength)
    along = draft.add("slice", squares, axis=1, start=2, stop=2 + _DIRECTIONS)
    # To the fourth power of the cosine: half of an edge counts within 33 degrees.
    sharp = draft.add("div", draft.add("mul", along, along), draft.add("mul", strength, root))
    logs = draft.add("log", draft.add("add", root, np.float32(1)))
    found = [_histogram(draft, logs, np.linspace(0, 4.5, 8))]
    shape = (height - 2, width - 2)
    quarters, _ = _pooled(draft, sharp, (_DIRECTIONS, *shape), 2)
    quarters = draft.add("reshape", quarters, shape=[_DIRECTIONS, 4])
    levels, _ = _pooled(draft, root, (1, *shape), 2)
    for table, level, count in (
        (quarters, levels, 4),
        (draft.add("mean", quarters, axes=[2]), draft.add("mean", levels, axes=[1]), 1),
    ):
        total = draft.add("add", draft.add("sum", table, axes=[1]), np.float32(1))
        shares = draft.add("reshape", draft.add("div", table, total), shape=[_DIRECTIONS * count])
        found.append((shares, _DIRECTIONS * count))
        found.append((draft.add("log", draft.add("add", level, np.float32(0.5))), count))
    return found
