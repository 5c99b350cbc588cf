"""Statistics of mel cepstra over the course of a sound, as a backbone.

Cepstra of log-mel frames are averaged over six parts of the window, each with the same share of
what is to be heard: frames count by a power of their energy, and the parts are laid along the
running sum of that, softly. So a word keeps its course whether it is said slowly or fast, early
or late, and silence around it counts for nothing. Mean, deviation, the steps from part to part
and the level come along. Each feature is finally squashed between -1 and 1 by its spread over the
training windows.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from edgegraft.zoo.backbone import BackboneCard, embed_in_batches, shipped_card, unfitted
from edgegraft.zoo.level import (
    check_dim,
    check_fit,
    check_shape,
    squash,
    usual_features,
    window_shape,
)
from edgegraft.zoo.log_mel import LEAST_TIMEPOINTS, LogMel, cepstra
from edgegraft_edge.program import Draft, Program
from edgegraft_edge.signal import Array, Windows, WindowSpec

_COMPRESSED = 0.3  # power of a frame's energy by which it counts, about that of loudness
_QUIET = 1e-3  # share of the loudest frame's count from which a frame counts
_FLOOR = 1e-5  # trees and ridge hear a little lower than networks see
_UNIT = 0.1  # of logarithms, so that what varies by less than a few of it is not blown up
_SPREAD_FLOOR = 1e-5
_SILENCE = 1e-12


@dataclass(frozen=True, eq=False)
class MelStatistics:
    """Statistics of cepstra: (n_windows, n_channels, n_timepoints) -> (n_windows, embedding_dim).

    >>> from edgegraft_edge.signal import FULL_SCALE, Channel
    >>> spec = WindowSpec(0.5, 0.5, 8000.0, (Channel("sound", FULL_SCALE),))
    >>> x = np.random.default_rng(0).uniform(-1, 1, (20, 1, 4000)).astype(np.float32)
    >>> windows = Windows(x, np.full(20, ""), np.full(20, ""), spec)
    >>> MelStatistics().fit(windows, seed=0).embed(x).shape
    (20, 169)
    """

    n_mels: int = field(default=40, metadata={"help": "bands of the spectrogram"})
    n_cepstra: int = field(default=13, metadata={"help": "cepstra that are kept of each frame"})
    n_parts: int = field(default=6, metadata={"help": "parts that a window's course has"})
    squashed: bool = field(
        default=True, metadata={"help": "bring features between -1 and 1; needs equal windows"}
    )
    card: BackboneCard = field(
        default_factory=lambda: shipped_card("mel-statistics"), metadata={"help": "what it is"}
    )
    spec: WindowSpec | None = field(default=None, metadata={"help": "set by fit"})
    mean: Array | None = field(default=None, metadata={"help": "of each feature, set by fit"})
    gain: Array | None = field(default=None, metadata={"help": "of each feature, set by fit"})

    @classmethod
    def from_card(cls, card: BackboneCard, weights: bytes | None) -> MelStatistics:
        return cls(card=card, **card.options)

    def fit(self, windows: Windows, *, seed: int) -> MelStatistics:
        """Take the rate and the spread of each feature from these windows; `seed` plays no part.

        Errors: `DataError` "kind-differs", "window-short", "windows-none", "windows-not-finite".
        """
        check_fit(windows)
        bound = replace(self, spec=windows.series, mean=None, gain=None)
        if not self.squashed:
            return bound
        mean, gain = usual_features(bound.embed(windows.x))
        return replace(bound, mean=mean, gain=gain)

    def embed(self, x: Array) -> Array:
        """Statistics float32 (n_windows, embedding_dim).

        Errors: `ModelError` before `fit`; `DataError` for other channels or another length than
        those of `fit`.
        """
        return embed_in_batches(self.program(*window_shape(x)), x)

    def program(self, *shape: int) -> Program:
        """The statistics from primitives; `embed` interprets the same."""
        n_channels, n_timepoints = shape
        if self.spec is None:
            raise unfitted(self.card.name)
        check_shape(
            self.card.name, n_channels, n_timepoints, self.spec.n_channels, LEAST_TIMEPOINTS
        )
        log_mel = LogMel(self.n_mels, floor=_FLOOR)
        spec = replace(self.spec, length_s=n_timepoints / self.spec.rate_hz)
        n_frames = log_mel.shape(spec)[2]
        draft = Draft()
        power = log_mel.power(draft, spec)
        logs = draft.add("mul", log_mel.logs(draft, power), np.float32(_UNIT))
        level, logs = _level(draft, logs)
        values = cepstra(draft, logs, self.n_mels, self.n_cepstra)
        counts = _counts(draft, power)
        parts = _parts(draft, counts, values, n_frames, self.n_parts)
        mean, spread = _moments(draft, counts, values)
        found = [parts, spread]
        if self.n_parts > 1:
            later = draft.add("slice", parts, axis=2, start=1, stop=self.n_parts)
            earlier = draft.add("slice", parts, axis=2, start=0, stop=self.n_parts - 1)
            found.append(draft.add("sub", later, earlier))
        table = draft.add("concat", *found, axis=2)
        width = 2 * self.n_parts * self.n_cepstra
        # the first cepstrum is loudness, whose mean is near 0 here: the level stands for it
        mean = draft.add("slice", mean, axis=3, start=1, stop=self.n_cepstra)
        shapes = ((table, width), (mean, self.n_cepstra - 1), (level, 1))
        flat = draft.add(
            "concat", *(draft.add("reshape", v, shape=[size]) for v, size in shapes), axis=1
        )
        dim = width + self.n_cepstra
        if self.mean is not None and self.gain is not None:
            check_dim(self.card.name, dim, len(self.mean))
            flat = squash(draft, flat, self.mean, self.gain)
        return draft.finish(flat)


def _level(draft: Draft, logs: str) -> tuple[str, str]:
    """The mean of all logarithms (n, 1, 1, 1), and what they are beside it.

    In two passes: what the rounding of one leaves behind looks like a change of loudness.
    """
    first = draft.add("mean", logs, axes=[2, 3])
    rough = draft.add("sub", logs, first)
    return first, draft.add("sub", rough, draft.add("mean", rough, axes=[2, 3]))


def _counts(draft: Draft, power: str) -> str:
    """What each frame counts, (n, 1, n_frames, 1), about 1 for the loudest."""
    energy = draft.add("add", draft.add("sum", power, axes=[3]), np.float32(_SILENCE))
    share = draft.add("div", energy, draft.add("max", energy, axes=[2]))
    logs = draft.add("mul", draft.add("log", share), np.float32(_COMPRESSED))
    counts = draft.add("sub", draft.add("exp", logs), np.float32(_QUIET))
    return draft.add("maximum", counts, np.float32(_SILENCE))


def _parts(draft: Draft, counts: str, values: str, n_frames: int, n_parts: int) -> str:
    """Means of the parts, (n, 1, n_parts, n_cepstra); a frame belongs to the nearest two."""
    before = np.tril(np.ones((n_frames, n_frames), np.float32)) - 0.5 * np.eye(n_frames)
    total = draft.add("sum", counts, axes=[2])
    course = draft.add("div", draft.add("matmul", before.astype(np.float32), counts), total)
    place = draft.add("mul", course, np.float32(n_parts))
    centres = np.arange(n_parts, dtype=np.float32) + np.float32(0.5)
    away = draft.add("abs", draft.add("sub", place, centres))  # (n, 1, n_frames, n_parts)
    near = draft.add("relu", draft.add("sub", np.float32(1), away))
    weight = draft.add("mul", near, counts)
    turned = draft.add("transpose", weight, axes=[0, 1, 3, 2])
    sums = draft.add("matmul", turned, values)
    size = draft.add("sum", turned, axes=[3])
    return draft.add("div", sums, draft.add("add", size, np.float32(_SILENCE)))


def _moments(draft: Draft, counts: str, values: str) -> tuple[str, str]:
    """Mean and deviation over the whole window, each (n, 1, 1, n_cepstra)."""
    weight = draft.add("div", counts, draft.add("sum", counts, axes=[2]))
    mean = draft.add("sum", draft.add("mul", values, weight), axes=[2])
    away = draft.add("sub", values, mean)
    square = draft.add("mul", draft.add("mul", away, away), weight)
    spread = draft.add("add", draft.add("sum", square, axes=[2]), np.float32(_SPREAD_FLOOR))
    return mean, draft.add("sqrt", spread)
