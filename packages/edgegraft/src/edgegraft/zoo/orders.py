"""Lines at orders of the shaft and of bearing faults, as a backbone, for rotating machines.

A window of vibration goes three ways, each written in primitives, so that a device computes the
same: its spectrum at orders of the shaft; its spectrum with every line brought to one height
(cepstrum pre-whitening, Borghesani and others, 2013), back in time band by band, squared: the
envelope of what is not periodic; and the spectrum of that envelope, in which faults of a bearing
leave combs of lines. A feature is how far the lines of a comb stand out of their surroundings, in
nepers of power: the mean over its lines of log power less the median nearby, the largest over the
slip that bearings have. Orders are counted by the shaft speed, a number or a channel.

Without a speed there are no orders: the features are then bands of both spectra.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

import numpy as np

from edgegraft.zoo import fourier
from edgegraft.zoo.backbone import BackboneCard, embed_in_batches, shipped_card, unfitted
from edgegraft.zoo.bearing import (
    TURNING,
    Bearing,
    Comb,
    bearing_from,
    fault_combs,
    hats,
    shaft_combs,
)
from edgegraft.zoo.fourier import Grid
from edgegraft.zoo.level import (
    check_shape,
    squash,
    to_usual,
    usual_features,
    usual_level,
    window_shape,
)
from edgegraft_edge.errors import DataError, OptionError, nearest
from edgegraft_edge.program import Draft, Program
from edgegraft_edge.signal import Array, Windows

LEAST_TIMEPOINTS = 16
LEAST_TURNS = 8
_QUIET = 3e-3  # of the usual height of a line: what is below is not brought up to it
_QUIET_UNTURNED = (
    5e-2  # the same without a speed, where windows may be so short that rounding shows
)
_FLOOR = 1e-3  # of the power of an even spectrum
_NEARBY = 0.75  # orders to each side that are the surroundings of a line
_UNITS = {"rpm": 60.0, "hz": 1.0}
_GEOMETRY = ("bpfo", "bpfi", "bsf", "ftf", "n_balls", "ball_mm", "pitch_mm", "angle_deg")


def _given(help: str, default: float = 0.0) -> float:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True, eq=False)
class Orders:
    """Lines over background: (n_windows, n_channels, n_timepoints) -> (n_windows, embedding_dim).

    A channel of speed is no vibration and has no features of its own. The speed may change from
    window to window; within one it is its mean.

    >>> x = np.random.default_rng(0).standard_normal((4, 1, 6000))
    >>> windows = Windows.of(x, rate_hz=6000)
    >>> orders = Orders(rpm=1800, bpfo=3.585, bpfi=5.415, bsf=2.357).fit(windows, seed=0)
    >>> orders.embed(windows.x).shape, orders.names[0]
    ((4, 26), 'outer 1-1, largest')
    """

    rpm: float = _given("turns of the shaft a minute, where they do not change")
    speed: str = field(default="", metadata={"help": "channel that holds the speed instead"})
    speed_unit: Literal["rpm", "hz"] = field(
        default="rpm", metadata={"help": "what that channel holds: turns a minute or a second"}
    )
    bpfo: float = _given("fault order of the outer race, in turns of the shaft")
    bpfi: float = _given("fault order of the inner race")
    bsf: float = _given("order of the spin of a ball")
    ftf: float = _given("order of the cage; follows from the others if it is not given")
    n_balls: int = field(default=0, metadata={"help": "balls or rollers, instead of the orders"})
    ball_mm: float = _given("diameter of a ball")
    pitch_mm: float = _given("diameter of the circle on which balls run")
    angle_deg: float = _given("contact angle")
    bands: int = field(default=4, metadata={"help": "bands of which envelopes are taken"})
    slip: float = _given("share by which fault orders may be off", 0.012)
    shaft_orders: int | None = field(
        default=None,
        metadata={
            "help": "orders of the shaft in the spectrum; 6 without a bearing, none with one"
        },
    )
    pooled: bool = field(
        default=True,
        metadata={"help": "take combs of a bearing from the channel where they stand out most"},
    )
    squashed: bool = field(default=True, metadata={"help": "bring features between -1 and 1"})
    card: BackboneCard = field(
        default_factory=lambda: shipped_card("orders"), metadata={"help": "what it is"}
    )
    centre: Array | None = field(default=None, metadata={"help": "set by fit"})
    scale: Array | None = field(default=None, metadata={"help": "set by fit"})
    mean: Array | None = field(default=None, metadata={"help": "of each feature, set by fit"})
    gain: Array | None = field(default=None, metadata={"help": "of each feature, set by fit"})
    rate_hz: float = _given("set by fit")
    turns_hz: float = _given("usual turns a second, set by fit; 0 without a speed")
    fastest: float = _given("largest speed over the usual one, set by fit", 1.0)
    signals: tuple[str, ...] = field(default=(), metadata={"help": "channels, set by fit"})
    place: int = field(default=-1, metadata={"help": "of the channel of speed, set by fit"})

    as_measured = True
    """Orders count a speed in its unit: windows are not normalised before."""

    @classmethod
    def from_card(cls, card: BackboneCard, weights: bytes | None) -> Orders:
        return cls(card=card, **card.options)

    @property
    def bearing(self) -> Bearing | None:
        """Errors: `OptionError` ``bearing-form`` for what describes none."""
        return bearing_from({name: float(getattr(self, name)) for name in _GEOMETRY})

    @property
    def combs(self) -> tuple[Comb, ...]:
        """Those that are looked for in the envelope spectrum; none without a speed."""
        if not self.turns_hz:
            return ()
        bearing = self.bearing
        return fault_combs(bearing, self.slip) if bearing else (TURNING,)

    @property
    def shafts(self) -> tuple[Comb, ...]:
        """Those that are looked for in the spectrum itself.

        What turns with the shaft tells of unbalance and alignment, which belong to one machine, so
        beside the faults of a bearing it has to be asked for.
        """
        usual = 0 if self.bearing else 6
        asked = usual if self.shaft_orders is None else self.shaft_orders
        return shaft_combs(asked) if self.turns_hz else ()

    def fit(self, windows: Windows, *, seed: int) -> Orders:
        """Take level, scale, rate and speed from these windows; `seed` plays no part.

        Errors: `OptionError` ``bearing-form``, ``speed-missing`` for a bearing without a speed;
        `DataError` ``channel-missing``, ``rate-missing``, ``speed-still`` where the shaft does not
        turn, ``window-short`` for fewer than eight turns.
        """
        names = windows.series.channel_names
        bearing, place = self.bearing, _place(self.speed, names)
        speeds = self._speeds(windows, place)
        if bearing is not None and speeds is None:
            raise OptionError.of(
                "speed-missing",
                "a bearing without the speed of its shaft",
                "its faults are heard at orders of the shaft",
                "rpm=1772, or speed=CHANNEL",
            )
        centre, scale = usual_level(windows)
        rate_hz = float(windows.series.rate_hz)
        usual = 0.0 if speeds is None else float(np.median(speeds))
        bound = replace(
            self,
            centre=centre,
            scale=scale,
            rate_hz=rate_hz,
            turns_hz=usual,
            fastest=1.0 if speeds is None else float(np.max(speeds)) / usual,
            signals=tuple(name for name in names if name != self.speed),
            place=place,
            mean=None,
            gain=None,
        )
        if usual:
            _check_turns(usual, windows.x.shape[2], rate_hz)
        if not self.squashed:
            return bound
        mean, gain = usual_features(bound.embed(windows.x))
        return replace(bound, mean=mean, gain=gain)

    def embed(self, x: Array) -> Array:
        """How far lines stand out, float32 (n_windows, embedding_dim).

        Errors: `ModelError` before `fit`; `DataError` for other channels than those of `fit`, or
        for windows of fewer than sixteen timepoints.
        """
        return embed_in_batches(self.program(*window_shape(x)), x)

    @property
    def names(self) -> tuple[str, ...]:
        """What each feature is, once fitted and where there is a speed."""
        ways = ("largest", "mean") if self.bands > 1 else ("envelope",)
        lines = [f"{comb.name}, {way}" for way in ways for comb in self.combs]
        if not self._one_for_all:
            lines = [f"{signal} {line}" for signal in self.signals for line in lines]
        lines += [f"{signal} {comb.name}, spectrum" for signal in self.signals
                  for comb in self.shafts]  # fmt: skip
        return tuple(lines)

    @property
    def _one_for_all(self) -> bool:
        return self.pooled and self.bearing is not None

    def program(self, *shape: int) -> Program:
        """The lines from primitives; `embed` interprets the same."""
        n_channels, n_timepoints = shape
        if self.centre is None or self.scale is None:
            raise unfitted(self.card.name)
        check_shape(self.card.name, n_channels, n_timepoints, len(self.centre), LEAST_TIMEPOINTS)
        draft, grid, n_signals = Draft(), Grid.of(n_timepoints), len(self.signals)
        value = to_usual(draft, self.centre, self.scale)
        kept = [place for place in range(n_channels) if place != self.place]
        if len(kept) < n_channels:
            value = draft.add("gather", value, np.array(kept, dtype=np.int32), axis=1)
        if grid.n_points < n_timepoints:
            value = draft.add("slice", value, axis=2, start=0, stop=grid.n_points)
        value = draft.add("sub", value, draft.add("mean", value, axes=[2]))
        found = fourier.plane(draft, value, grid, n_signals, grid.n_half)
        ratio = self._ratio(draft)
        envelopes = self._envelopes(draft, found, grid, ratio)
        if self._one_for_all:
            envelopes = draft.add("max", envelopes, axes=[1], keepdims=False)
        flat = draft.add("reshape", envelopes, shape=[-1])
        if self.shafts or not self.turns_hz:
            lines = self._spectrum(draft, found, grid, ratio)
            flat = draft.add("concat", flat, draft.add("reshape", lines, shape=[-1]), axis=1)
        if self.mean is not None and self.gain is not None:
            flat = squash(draft, flat, self.mean, self.gain)
        return draft.finish(flat)

    def _speeds(self, windows: Windows, place: int) -> Array | None:
        """Turns a second of each window, or None where nothing tells."""
        if place < 0 and not self.rpm:
            return None
        if windows.series.rate_hz == 1.0:
            raise DataError.of(
                "rate-missing",
                "windows of an unknown rate",
                "orders of a shaft are frequencies",
                "give the rate of the samples (--rate-hz 12000)",
            )
        speeds = np.full(1, self.rpm / 60.0)
        if place >= 0:
            speeds = windows.x[:, place].mean(axis=1, dtype=np.float64) / _UNITS[self.speed_unit]
        if not (np.median(speeds) > 0 and np.min(speeds) >= 0):
            raise DataError.of(
                "speed-still",
                f"{np.median(speeds):g} turns a second, {np.min(speeds):g} at least",
                "there are no orders without turning, nor of a speed that was normalised",
                "check the channel of speed, leave windows at rest out, or normalise=none",
            )
        return speeds

    def _ratio(self, draft: Draft) -> str | None:
        """Speed of a window over the usual one, (n_windows, 1, 1); None where it is a number."""
        if self.place < 0:
            return None
        speed = draft.add("slice", "x", axis=1, start=self.place, stop=self.place + 1)
        gain = np.float32(1 / (_UNITS[self.speed_unit] * self.turns_hz))
        ratio = draft.add("mul", draft.add("mean", speed, axes=[2]), gain)
        ratio = draft.add("maximum", ratio, np.float32(0))
        return draft.add("minimum", ratio, np.float32(100))

    def _envelopes(
        self, draft: Draft, found: fourier.Complex, grid: Grid, ratio: str | None
    ) -> str:
        """(n_windows, n_signals, n_features) of the envelope spectra."""
        n_signals, combs = len(self.signals), self.combs
        height = draft.add("sqrt", fourier.power(draft, found))
        quiet = np.float32((_QUIET if combs else _QUIET_UNTURNED) * np.sqrt(grid.n_points))
        height = draft.add("add", height, quiet)
        even = (draft.add("div", found[0], height), draft.add("div", found[1], height))
        edges = np.linspace(0, grid.n_half, min(self.bands, grid.n_half) + 1).round().astype(int)
        narrowest = fourier.band_grid(grid, (0, int(np.diff(edges).min())))
        n_bins = self._n_bins(narrowest, combs, grid.n_points)
        spectra = [
            self._envelope(draft, even, grid, (int(low), int(high)), n_bins)
            for low, high in pairwise(edges)
        ]
        n_bands = len(spectra)
        logs = draft.add("concat", *spectra, axis=2) if n_bands > 1 else spectra[0]
        logs = draft.add("reshape", logs, shape=[n_signals * n_bands, n_bins])
        if combs:
            lines = self._stand_out(draft, logs, n_signals * n_bands, n_bins, grid, combs, ratio)
        else:
            lines = draft.add("matmul", logs, _octave_bands(n_bins))
        n_lines = len(combs) or _octave_bands(n_bins).shape[1]
        if n_bands == 1:
            return draft.add("reshape", lines, shape=[n_signals, n_lines])
        each = draft.add("reshape", lines, shape=[n_signals, n_bands, n_lines])
        over = [draft.add(way, each, axes=[2], keepdims=False) for way in ("max", "mean")]
        return draft.add("concat", *over, axis=2)

    def _envelope(
        self, draft: Draft, even: fourier.Complex, grid: Grid, p: tuple[int, int], n_bins: int
    ) -> str:
        """Log power of the spectrum of a band's squared envelope, (n_windows, n_signals, 1, k)."""
        n_signals = len(self.signals)
        envelope = fourier.power(draft, fourier.band(draft, even, grid, n_signals, p))
        grid = fourier.band_grid(grid, p)
        usual = draft.add("mean", envelope, axes=[2])
        floor = np.float32(_FLOOR * grid.n_rows * (p[1] - p[0]))
        envelope = draft.add("div", envelope, draft.add("add", usual, floor))
        envelope = draft.add("sub", envelope, draft.add("mean", envelope, axes=[2]))
        time = np.arange(grid.n_points) + 0.5
        hann = 0.5 - 0.5 * np.cos(2.0 * np.pi * time / grid.n_points)
        hann = (hann / np.sqrt(np.sum(hann**2))).astype(np.float32)
        envelope = draft.add("mul", envelope, hann)
        n_columns = grid.columns(n_bins)
        found = fourier.plane(draft, envelope, grid, n_signals, n_columns)
        found = fourier.bins(draft, found, grid, n_signals, n_columns)
        power = draft.add("slice", fourier.power(draft, found), axis=2, start=0, stop=n_bins)
        logs = draft.add("log", draft.add("add", power, np.float32(_FLOOR)))
        return draft.add("reshape", logs, shape=[n_signals, 1, n_bins])

    def _spectrum(self, draft: Draft, found: fourier.Complex, grid: Grid, ratio: str | None) -> str:
        """(n_windows, n_signals, n_features) of the spectrum itself: shaft orders, or bands."""
        n_signals, combs = len(self.signals), self.shafts
        n_bins = self._n_bins(grid, combs, grid.n_points) if combs else grid.n_points // 2
        n_columns = grid.columns(n_bins + 1)
        real, imaginary = fourier.bins(
            draft,
            tuple(  # type: ignore[arg-type]
                draft.add("slice", part, axis=3, start=0, stop=n_columns) for part in found
            ),
            grid,
            n_signals,
            n_columns,
        )
        n_bins = min(n_bins, grid.n_rows * n_columns - 1)
        power = fourier.power(
            draft, (_hann_bins(draft, real, n_bins), _hann_bins(draft, imaginary, n_bins))
        )
        power = draft.add("mul", power, np.float32(1 / (0.375 * grid.n_points)))
        if not combs:
            power = draft.add("matmul", power, _octave_bands(n_bins))
            return draft.add("log", draft.add("add", power, np.float32(_FLOOR)))
        logs = draft.add("log", draft.add("add", power, np.float32(_FLOOR**2)))
        return self._stand_out(draft, logs, n_signals, n_bins, grid, combs, ratio)

    def _stand_out(
        self,
        draft: Draft,
        logs: str,
        n_series: int,
        n_bins: int,
        grid: Grid,
        combs: Sequence[Comb],
        ratio: str | None,
    ) -> str:
        """How far combs stand out of log spectra (n_windows, n_series, n_bins)."""
        per_order = self.turns_hz * grid.n_points / self.rate_hz
        logs = _over_nearby(draft, logs, n_series, n_bins, max(2, round(_NEARBY * per_order)))
        if ratio is not None:  # read at the places where bins of the usual speed would lie
            bins = np.arange(n_bins, dtype=np.float32)
            away = draft.add("sub", draft.add("mul", ratio, bins[None]), bins[:, None])
            near = draft.add("sub", np.float32(1), draft.add("abs", away))
            logs = draft.add("matmul", logs, draft.add("relu", near))
        slipped = [comb.slipped() for comb in combs]
        weights = [hats(o.ravel() * per_order, n_bins).reshape(n_bins, *o.shape).mean(axis=2)
                   for o in slipped]  # fmt: skip
        table = np.concatenate(weights, axis=1).astype(np.float32)
        lines = draft.add("matmul", logs, table)
        lines = draft.add("reshape", lines, shape=[n_series, len(combs), len(slipped[0])])
        return draft.add("max", lines, axes=[3], keepdims=False)

    def _n_bins(self, grid: Grid, combs: Sequence[Comb], n_points: int) -> int:
        """Bins up to the highest line at the fastest speed of training, as far as there are any.

        Without a speed, up to an eighth of the rate.
        """
        most = grid.n_rows * grid.n_half - 1
        if not combs:
            return min(most, n_points // 8)
        highest = max(float(comb.slipped().max()) for comb in combs) * self.turns_hz * self.fastest
        return min(most, int(1.1 * highest * n_points / self.rate_hz) + 3)


def _place(speed: str, names: Sequence[str]) -> int:
    if not speed:
        return -1
    if speed in names and len(names) > 1:
        return names.index(speed)
    raise DataError.of(
        "channel-missing",
        f"a channel of speed {speed!r}",
        f"the windows hold {', '.join(names[:8])}",
        nearest(speed, names) if len(names) > 1 else "a channel of vibration beside it",
    )


def _check_turns(turns_hz: float, n_timepoints: int, rate_hz: float) -> None:
    turns = turns_hz * n_timepoints / rate_hz
    if turns < LEAST_TURNS or turns_hz * LEAST_TURNS > rate_hz:
        raise DataError.of(
            "window-short",
            f"windows of {turns:.2g} turns at {rate_hz / turns_hz:.3g} samples a turn",
            f"lines are told apart from {LEAST_TURNS} turns and as many samples a turn on",
            f"--window-s {LEAST_TURNS / turns_hz:.3g} or more (seconds suit bearings), or check "
            "speed and rate",
        )


def _hann_bins(draft: Draft, part: str, n_bins: int) -> str:
    """Bins 0 to n_bins of a spectrum as a Hann window leaves them; bin 0 stands for its mirror."""
    before = draft.add("slice", part, axis=2, start=0, stop=n_bins - 1)
    first = draft.add("slice", part, axis=2, start=1, stop=2)
    before = draft.add("concat", first, before, axis=2)
    here = draft.add("slice", part, axis=2, start=0, stop=n_bins)
    after = draft.add("slice", part, axis=2, start=1, stop=n_bins + 1)
    beside = draft.add("mul", draft.add("add", before, after), np.float32(0.25))
    return draft.add("sub", draft.add("mul", here, np.float32(0.5)), beside)


def _over_nearby(draft: Draft, logs: str, n_series: int, n_bins: int, half: int) -> str:
    """Log spectra less the median of their surroundings, `half` bins to each side."""
    length = min(2 * half + 1, n_bins - 1 + n_bins % 2)
    hop = max(1, half // 2)
    n_frames = 1 + (n_bins - length) // hop
    frames = draft.add("sort", draft.add("frame", logs, length=length, hop=hop))
    middle = draft.add("slice", frames, axis=3, start=length // 2, stop=length // 2 + 1)
    middle = draft.add("reshape", middle, shape=[n_series, n_frames])
    places = np.clip((np.arange(n_bins) - length // 2) / hop, 0, n_frames - 1)
    usual = draft.add("matmul", middle, hats(places, n_frames).astype(np.float32))
    return draft.add("sub", logs, usual)


def _octave_bands(n_bins: int) -> Array:
    """Float32 (n_bins, n_bands): the mean of each third of an octave; bin 0 is left out."""
    place = np.floor(3 * np.log2(np.arange(1, n_bins)) + 1e-6)
    table = place[:, None] == np.unique(place)
    weights = np.concatenate([np.zeros((1, table.shape[1])), table / table.sum(axis=0)])
    found: Array = weights.astype(np.float32)
    return found
