"""Pretraining: an encoder learns on source tasks, without labels, or both at once.

With labels, each source has a linear head of its own on the shared encoder, so that sources
may differ in channels and classes. Without, two changed views of one channel are to be nearer
to each other than to all others (SimCLR: Chen et al., ICML 2020), over channels of the sources
and over made-up signals, which know no domain.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgegraft.adapt.augment import chosen
from edgegraft.adapt.loop import Lesson, Training, train
from edgegraft.adapt.network import ENCODER, Trainable
from edgegraft.adapt.signals import draw_signals
from edgegraft.adapt.strategy import Watch, unwatched
from edgegraft.fingerprint import fingerprint
from edgegraft.zoo.backbone import BackboneCard
from edgegraft.zoo.conv1d import Conv1d, resampling
from edgegraft_edge import steps, tensors
from edgegraft_edge.errors import DataError, OptionError, Problem
from edgegraft_edge.files import replace_file
from edgegraft_edge.signal import Array, Windows

if TYPE_CHECKING:
    from torch import Tensor

_SUPERVISED = ("scaling", "offset", "jitter", "dropped")
_VIEWS = ("scaling", "offset", "shift", "stretch", "jitter")
_CROPS = 8  # different lengths of crops; each needs a resampling matrix
_PROJECTION = (256, 128)
_CLOSENESS = 0.15  # temperature of the contrastive loss
_SMOOTHING = 0.1


@dataclass(frozen=True)
class Pretraining(Training):
    """How to pretrain.

    Errors: `OptionError` when nothing is left to learn from, or a value makes no sense.
    """

    learning_rate: float = field(
        default=1.5e-3, metadata={"help": "step size at the start; it falls along a cosine"}
    )
    batch_size: int = field(default=48, metadata={"help": "windows per step"})
    epochs: int = field(default=20, metadata={"help": "passes over the source windows"})
    labels: bool = field(default=True, metadata={"help": "learn the sources' labels where known"})
    contrast: float = field(
        default=0.3, metadata={"help": "weight of what is learned without labels; 0: none"}
    )
    rows: int = field(default=192, metadata={"help": "channels per step learned without labels"})
    synthetic: float = field(
        default=0.5, metadata={"help": "share of these that is made-up signals"}
    )
    rate_hz: float = field(default=50.0, metadata={"help": "rate that the encoder is made for"})
    length: int = field(default=128, metadata={"help": "timepoints that the encoder sees"})
    stretch: tuple[float, ...] = field(
        default=(0.6, 1.6),
        metadata={"help": "shortest and longest crop, in multiples of what it sees at its rate"},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = [
            Problem("option-range", f"{name}={getattr(self, name)}", why, remedy)
            for name, good, why, remedy in (
                ("contrast", self.contrast >= 0, "a weight is not negative", "0.3"),
                ("rows", self.rows >= 2, "views are compared with others", "192"),
                ("synthetic", 0 <= self.synthetic <= 1, "it is a share", "0.5"),
                ("rate_hz", self.rate_hz > 0, "a rate is positive", "50"),
                ("length", self.length >= 16, "too short for the convolutions", "128"),
                (
                    "stretch",
                    len(self.stretch) == 2 and 0 < self.stretch[0] <= self.stretch[-1],
                    "two lengths, the shorter first",
                    "0.6,1.6",
                ),
            )
            if not good
        ]
        if not self.labels and not self.contrast:
            problems.append(
                Problem(
                    "nothing-to-learn",
                    "labels=False with contrast=0",
                    "there is no loss",
                    "contrast=0.3",
                )
            )
        if self.until:
            problems.append(
                Problem(
                    "option-value",
                    f"until={self.until!r}",
                    "pretraining holds nothing out",
                    "epochs or max_seconds",
                )
            )
        if problems:
            raise OptionError(problems)


def pretrain(
    sources: Sequence[Windows],
    options: Pretraining | None = None,
    *,
    name: str = "conv1d-own",
    data: str = "",
    licence: str = "as the data",
    shape: Mapping[str, Any] | None = None,
    seed: int = 0,
    watch: Watch = unwatched,
    checkpoint: Path | None = None,
) -> Conv1d:
    """Train a new encoder on source windows.

    Args:
        sources: any channels, rates and lengths; windows without a label serve without it.
        name, data, licence: for the card; `data` says what the sources are.
        shape: options of the network, as on a card; None for the usual one.
        checkpoint: file that keeps progress; a killed run goes on from it.

    Errors: `DataError` ``sources-missing``, ``windows-not-finite``.

    >>> walk = Windows.of(np.random.default_rng(0).normal(size=(8, 2, 64)), rate_hz=50.0)
    >>> encoder = pretrain([walk], Pretraining(epochs=1, rows=8), shape={"widths": [4] * 4})
    >>> encoder.card.kind, encoder.embed(walk.x).shape
    ('pretrained', (8, 36))
    """
    options = options or Pretraining()
    _check(sources)
    start = Conv1d.random(seed, **(shape or {}))
    lessons = [_Source.of(number, windows, options) for number, windows in enumerate(sources)]
    parameters = _parameters(start, lessons, options, seed)
    origin = np.concatenate([np.full(len(s.x), s.number) for s in lessons])
    place = np.concatenate([np.arange(len(s.x)) for s in lessons])

    def loss(current: Mapping[str, Tensor], batch: Array, random: np.random.Generator) -> Tensor:
        return _loss(start, lessons, options, current, origin[batch], place[batch], random)

    mark = fingerprint(
        asdict(replace(options, threads=1, max_seconds=0.0)),
        seed,
        dict(start.card.options),
        *(part for source in lessons for part in (source.x, source.codes)),
    )
    trained = train(
        Lesson(parameters, len(origin), loss),
        options,
        seed=seed,
        watch=watch,
        checkpoint=checkpoint,
        fingerprint=mark,
    )
    card = replace(
        start.card,
        name=name,
        summary=f"convolutional encoder, pretrained on {data or 'own recordings'}",
        kind="pretrained",
        licence=licence,
        rate_hz=options.rate_hz,
        data=data,
        recipe=_recipe(options, len(trained.history)),
        seed=seed,
    )
    weights = {
        key.removeprefix(ENCODER): array
        for key, array in trained.parameters.items()
        if key.startswith(ENCODER)
    }
    return replace(start.with_weights(weights), card=card)


def save(encoder: Trainable, path: Path) -> BackboneCard:
    """Write weights (safetensors) and, beside them, the card (TOML) with their checksum."""
    import tomli_w

    path = path.with_suffix(".safetensors")
    raw = tensors.dump(encoder.weights)
    checksum = hashlib.sha256(raw).hexdigest()
    card = replace(encoder.card, weights=path.name, checksum=checksum)
    empty = {entry.name: entry.default for entry in fields(card)}
    values = {
        key: value
        for key, value in asdict(card).items()
        if value not in (None, {}, ()) and value != empty.get(key)
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, raw)
    replace_file(path.with_suffix(".toml"), tomli_w.dumps(values).encode())
    return card


def _check(sources: Sequence[Windows]) -> None:
    problems = [
        Problem(
            "windows-not-finite",
            f"source {number} with {int((~np.isfinite(windows.x)).sum())} values NaN or infinite",
            "they would spoil every weight",
            "clean the recordings, or leave those windows out",
        )
        for number, windows in enumerate(sources)
        if not np.isfinite(windows.x).all()
    ]
    if not sum(map(len, sources)):
        problems.append(
            Problem(
                "sources-missing", "no source windows", "nothing can be learned", "give recordings"
            )
        )
    if problems:
        raise DataError(problems)


@dataclass(frozen=True)
class _Source:
    """Windows of one source, standardised, with the lengths of crops and the codes of labels."""

    number: int
    x: Array
    codes: Array
    n_classes: int
    lengths: Array

    @classmethod
    def of(cls, number: int, windows: Windows, options: Pretraining) -> _Source:
        classes = windows.classes if options.labels else ()
        longest, rate_hz = windows.x.shape[2], windows.series.rate_hz
        span = longest if rate_hz == 1.0 else options.length * rate_hz / options.rate_hz
        low, high = (min(longest, max(8, round(span * factor))) for factor in options.stretch)
        lengths = np.unique(np.linspace(low, high, _CROPS).round().astype(np.int64))
        x = steps.standard(windows.x).run(windows.x)
        n_classes = len(classes) if len(classes) > 1 else 0
        return cls(number, x, windows.codes(classes), n_classes, lengths)

    def crops(self, place: Array, length: int, random: np.random.Generator) -> Array:
        """Float32 (n_windows, n_channels, length): stretches of windows, brought to one length."""
        n_taken = int(random.choice(self.lengths))
        first = random.integers(0, self.x.shape[2] - n_taken + 1, size=(len(place), 1))
        taken = np.take_along_axis(self.x[place], (first + np.arange(n_taken))[:, None, :], axis=2)
        return taken if n_taken == length else np.matmul(taken, _matrix(n_taken, length))


@lru_cache(maxsize=64)
def _matrix(n_in: int, n_out: int) -> Array:
    return resampling(n_in, n_out)


def _parameters(
    start: Conv1d, sources: Sequence[_Source], options: Pretraining, seed: int
) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    parameters = {ENCODER + name: array for name, array in start.weights.items()}
    for source in sources:
        if source.n_classes:
            size = (source.x.shape[1] * start.shape.channel_dim, source.n_classes)
            parameters[f"head{source.number}.weight"] = np.zeros(size, dtype=np.float32)
            parameters[f"head{source.number}.bias"] = np.zeros(size[1], dtype=np.float32)
    if options.contrast:
        n_in = start.shape.channel_dim
        for number, width in enumerate(_PROJECTION):
            weight = random.normal(0, np.sqrt(2 / n_in), (n_in, width))
            parameters[f"projection{number}.weight"] = weight.astype(np.float32)
            parameters[f"projection{number}.bias"] = np.zeros(width, dtype=np.float32)
            n_in = width
    return parameters


def _loss(
    start: Conv1d,
    sources: Sequence[_Source],
    options: Pretraining,
    current: Mapping[str, Tensor],
    origin: Array,
    place: Array,
    random: np.random.Generator,
) -> Tensor:
    import torch

    weights = {k.removeprefix(ENCODER): v for k, v in current.items() if k.startswith(ENCODER)}
    total, rows = torch.zeros(()), []
    for source in sources:
        chosen_here = place[origin == source.number]
        if not len(chosen_here):
            continue
        crops = source.crops(chosen_here, options.length, random)
        rows.append(crops.reshape(-1, 1, options.length))
        known = source.codes[chosen_here] >= 0
        if source.n_classes and known.any():
            z = start.forward(weights, torch.tensor(_changed(crops[known], _SUPERVISED, random)))
            share = float(known.sum() / len(place))
            codes = torch.tensor(source.codes[chosen_here][known])
            total = total + share * _supervised(current, source.number, z, codes, random)
    if options.contrast:
        seen = np.concatenate(rows)
        n_made = round(options.rows * options.synthetic)
        pick = random.integers(len(seen), size=options.rows - n_made)
        mixed = np.concatenate([seen[pick], draw_signals(n_made, options.length, random)])
        views = np.concatenate([_changed(mixed, _VIEWS, random) for _ in range(2)])
        total = total + options.contrast * _contrast(
            current, start.forward(weights, torch.tensor(views))
        )
    return total


def _changed(x: Array, names: tuple[str, ...], random: np.random.Generator) -> Array:
    for change in chosen(names):
        x = change(x, random)
    return x


def _supervised(
    current: Mapping[str, Tensor], number: int, z: Tensor, codes: Tensor, random: Any
) -> Tensor:
    import torch
    from torch.nn import functional

    z = functional.layer_norm(z, z.shape[1:])
    keep = torch.tensor(random.random(tuple(z.shape), dtype=np.float32) < 0.5)
    logits = (2 * z * keep) @ current[f"head{number}.weight"] + current[f"head{number}.bias"]
    return functional.cross_entropy(logits, codes, label_smoothing=_SMOOTHING)


def _contrast(current: Mapping[str, Tensor], z: Tensor) -> Tensor:
    """Each row must find its other view among all second views, and the other way round."""
    import torch
    from torch.nn import functional

    z = (z - z.mean(dim=0)) / (z.std(dim=0) + 1e-3)
    z = torch.relu(z @ current["projection0.weight"] + current["projection0.bias"])
    z = z @ current["projection1.weight"] + current["projection1.bias"]
    first, second = functional.normalize(z, dim=1).chunk(2)
    alike = first @ second.T / _CLOSENESS
    truth = torch.arange(len(first))
    return 0.5 * (functional.cross_entropy(alike, truth) + functional.cross_entropy(alike.T, truth))


def _recipe(options: Pretraining, n_epochs: int) -> str:
    """What was done, in a line: the epochs that ran and the options that differ from the usual."""
    usual = Pretraining()
    changed = {
        name: value
        for name, value in asdict(options).items()
        if value != getattr(usual, name) and name not in ("epochs", "threads", "max_seconds")
    }
    said = "".join(f", {name}={value}" for name, value in changed.items())
    return f"edgegraft pretrain: {n_epochs} epochs{said}"
