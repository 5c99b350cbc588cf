"""What runs where: every backbone with every head through every exporter, in float and in int8.

A cell of that table passes when the exporter gives a model that agrees with the program on the
golden windows. One that cannot stands in `REFUSED` with the code of its error and the reason; a
cell that is refused there and passes is as wrong as one that fails and is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from types import MappingProxyType

import numpy as np

from edgegraft import catalog
from edgegraft.adapt.adapted import Adapted, Member
from edgegraft.adapt.strategy import build_strategy
from edgegraft.compress.quantize import quantized_bundle
from edgegraft.tasks.anomaly import Anomaly
from edgegraft.tasks.classification import Classification
from edgegraft.testing.samples import usual_windows
from edgegraft.zoo.backbone import Backbone
from edgegraft_edge import bundle as bundles
from edgegraft_edge import runner
from edgegraft_edge.bundle import Bundle
from edgegraft_edge.errors import EdgegraftError
from edgegraft_edge.heads import DenseHead
from edgegraft_edge.signal import Array, Windows

PRECISIONS = ("float", "int8")
_GOLDEN = 6
_HIDDEN = 8


@dataclass(frozen=True)
class Cell:
    """One combination: name of an architecture, a head, an exporter, and a precision."""

    architecture: str
    head: str
    exporter: str
    precision: str

    def __str__(self) -> str:
        return f"{self.architecture} x {self.head} x {self.exporter} x {self.precision}"


@dataclass(frozen=True)
class Refusal:
    """Cells that end in the error `code`, and why; a part may be a pattern such as ``a*|b``.

    Where it depends on the windows whether a cell is refused, `always` is false.

    >>> Refusal("*", "*", "c", "int8", "some-code", "a reason").covers(Cell("a", "b", "c", "int8"))
    True
    """

    architecture: str
    head: str
    exporter: str
    precision: str
    code: str
    reason: str
    always: bool = True

    def covers(self, cell: Cell) -> bool:
        pairs = (
            (cell.architecture, self.architecture),
            (cell.head, self.head),
            (cell.exporter, self.exporter),
            (cell.precision, self.precision),
        )
        return all(
            any(fnmatchcase(found, one) for one in pattern.split("|")) for found, pattern in pairs
        )


REFUSED: tuple[Refusal, ...] = (
    Refusal(
        "bert|gpt2|sentence|tfidf", "*", "c", "*", "export-c-operation",
        "text is taken apart by rules over words, which are in NumPy and not in C",
    ),
    Refusal(
        "tfidf", "dense|trees", "*", "int8", "int8-nothing",
        "counts of words are scaled in float, and nothing after them is worth 8 bits",
    ),
    Refusal(
        "raw", "trees", "*", "int8", "int8-nothing",
        "trees on the window itself: there is nothing to compute in 8 bits",
    ),
    Refusal(
        "tfidf", "distance", "*", "float", "export-parity",
        "the distance of a sentence that is remembered is a difference of equal sums",
        always=False,
    ),
    Refusal(
        "bert|gpt2|sentence", "*", "onnx", "int8", "export-parity",
        "ONNX Runtime rounds each layer of 8 bits by itself; through attention a window that is "
        "not sure may get another label",
        always=False,
    ),
)  # fmt: skip
"""What is refused of what is registered here."""


def _linear(backbone: Backbone, train: Windows) -> Adapted:
    return build_strategy("probe").adapt(backbone, train, Classification(), seed=0)


def _dense(backbone: Backbone, train: Windows) -> Adapted:
    """A hidden layer of random directions, and the least squares of the classes on it."""
    adapted = _linear(backbone, train)
    (member,) = adapted.members
    z = member.backbone.embed(adapted.steps.run(train.x))
    random = np.random.default_rng(0)
    scale: Array = 1.0 / (np.sqrt(z.shape[1]) * (z.std(axis=0) + 1e-3))
    first: Array = random.normal(size=(z.shape[1], _HIDDEN)) * scale[:, None]
    offset: Array = -(z.mean(axis=0) @ first)
    hidden = np.maximum(z @ first + offset, 0)
    wanted = 4.0 * (train.y[:, None] == np.array(adapted.classes)) - 2.0
    last = np.linalg.lstsq(hidden, wanted, rcond=1e-3)[0]
    weights = (first.astype(np.float32), last.astype(np.float32))
    biases = (offset.astype(np.float32), np.zeros(last.shape[1], np.float32))
    head = DenseHead(weights, biases, "relu")
    return replace(adapted, members=(Member(member.backbone, head),))


def _trees(backbone: Backbone, train: Windows) -> Adapted:
    strategy = build_strategy("trees", {"trees.n_trees": 5})
    return strategy.adapt(backbone, train, Classification(), seed=0)


def _distance(backbone: Backbone, train: Windows) -> Adapted:
    normal = train.classes[0]
    return build_strategy("distance").adapt(backbone, train, Anomaly(normal=normal), seed=0)


def _mixture(backbone: Backbone, train: Windows) -> Adapted:
    """A linear head and trees, averaged and calibrated, as the blend has them."""
    one, other = _linear(backbone, train), _trees(backbone, train)
    members = (replace(one.members[0], weight=0.7), replace(other.members[0], weight=0.3))
    return replace(one, members=members, temperature=1.3)


HEADS: Mapping[str, Callable[[Backbone, Windows], Adapted]] = MappingProxyType(
    {
        "linear": _linear,
        "dense": _dense,
        "trees": _trees,
        "distance": _distance,
        "mixture": _mixture,
    }
)
"""Name -> how a backbone gets such a head; every strategy ends in one of them."""


def head_bundle(backbone: Backbone, head: str) -> tuple[Bundle, Windows]:
    """A float bundle of the backbone with such a head, and the windows it was fitted on."""
    train = usual_windows(backbone)
    adapted = HEADS[head](backbone, train)
    golden = _unsure(usual_windows(backbone, seed=1))
    made = bundles.make(adapted.program, train.spec, adapted.classes, golden=golden)
    return made, train


def _unsure(windows: Windows) -> Array:
    """Windows of two classes blended: probabilities of 0 and 1 would agree whatever is computed."""
    x: Array = windows.x[:_GOLDEN].astype(np.float32)
    if windows.spec.kind != "text":
        x = (x + np.roll(x, 1, axis=0)) / 2
    return x.astype(windows.x.dtype)


def outcome(bundle: Bundle, exporter: str, precision: str, train: Windows) -> EdgegraftError | None:
    """None where the exporter gives a model that agrees; else the error that refused it."""
    try:
        source = bundle if precision == "float" else quantized_bundle(bundle, train.x)
        exported = catalog.find("exporters", exporter)().export(source)
        if exporter in exported.runtimes:
            (parity,) = runner.verify(exported, [exporter])
            assert parity.ok, f"exported, and then: {parity.reason}"
    except EdgegraftError as error:
        return error
    return None


def check_exports(
    backbone: Backbone,
    *,
    heads: Iterable[str] = tuple(HEADS),
    exporters: Iterable[str] | None = None,
    precisions: Iterable[str] = PRECISIONS,
    refused: Sequence[Refusal] = REFUSED,
) -> None:
    """Every combination passes, or stands among `refused` and is refused with that code.

    Args:
        exporters: names; None for all that are registered.

    One `AssertionError` lists every cell that is neither, and every refusal that is out of date.
    """
    failures = []
    chosen = tuple(exporters or catalog.names("exporters"))
    for head in heads:
        bundle, train = head_bundle(backbone, head)
        for exporter in chosen:
            for precision in precisions:
                cell = Cell(backbone.card.architecture, head, exporter, precision)
                error = outcome(bundle, exporter, precision, train)
                known = [row for row in refused if row.covers(cell)]
                stale = [row for row in known if row.always]
                if error is None and stale:
                    failures.append(f"{cell} works, and stands as refused: {stale[0].reason}")
                elif error is not None and error.code not in {row.code for row in known}:
                    failures.append(f"{cell}: {error}")
    assert not failures, f"{len(failures)} cells are not as stated:\n  " + "\n  ".join(failures)
