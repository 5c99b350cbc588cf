"""Opened data: recordings or ready windows, with what was done to them on the way in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike, fspath
from typing import Any

import numpy as np

from edgegraft.data.account import CleaningStep, RowAccount
from edgegraft.data.clips import sound_windows
from edgegraft.data.derive import derived
from edgegraft.data.labelling import window_labels
from edgegraft.data.source import DataOptions, find_source, options_of
from edgegraft_edge.errors import DataError
from edgegraft_edge.signal import UNLABELLED, Channel, Recording, Spec, Windows, WindowSpec
from edgegraft_edge.windowing import cut

DEFAULT_TIMEPOINTS = 128


@dataclass(frozen=True)
class Dataset:
    """What a source read.

    Attributes:
        recordings: unbroken and evenly sampled, all with the same channels and rate.
        ready: windows, if the source held windows rather than recordings.
        account: what became of each row.
        log: the cleaning steps, in order.
        options: how it was opened; the defaults of `windows` come from here.
        uri: where it came from.

    >>> from edgegraft_edge.signal import LabelSpan
    >>> recording = Recording(np.zeros((1, 400), np.float32), (Channel("x"),), 50.0,
    ...                       (LabelSpan(0, 400, "idle"),))
    >>> windows = Dataset((recording,)).windows()
    >>> windows.x.shape, windows.start.tolist(), windows.classes
    ((5, 1, 128), [0, 64, 128, 192, 256], ('idle',))
    """

    recordings: tuple[Recording, ...] = ()
    ready: Windows | None = None
    account: RowAccount = field(default_factory=RowAccount)
    log: tuple[CleaningStep, ...] = ()
    options: DataOptions = field(default_factory=DataOptions)
    uri: str = ""

    def __post_init__(self) -> None:
        if len({(item.channels, item.rate_hz) for item in self.recordings}) > 1:
            raise DataError.of(
                "recordings-differ",
                "recordings with several sets of channels or rates",
                "one data set has one set of channels and one rate",
                "bind channels by name and resample in the source",
            )

    @property
    def channels(self) -> tuple[Channel, ...]:
        if self.ready is not None:
            return getattr(self.ready.spec, "channels", ())
        return self.recordings[0].channels if self.recordings else ()

    @property
    def rate_hz(self) -> float:
        if self.ready is not None:
            return getattr(self.ready.spec, "rate_hz", 0.0)
        return self.recordings[0].rate_hz if self.recordings else 0.0

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels that occur, sorted."""
        if self.ready is not None:
            return self.ready.classes
        spans = (span.label for recording in self.recordings for span in recording.labels)
        return tuple(sorted(set(spans) - {UNLABELLED}))

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups that occur, sorted; without the unknown one."""
        if self.ready is not None:
            return tuple(sorted(set(self.ready.groups.tolist()) - {""}))
        return tuple(sorted({recording.group for recording in self.recordings} - {""}))

    def with_derived(self, texts: Sequence[str] | None = None) -> Dataset:
        """The same with derived channels: those named, else those of the options.

        Errors: `DataError` as of `edgegraft.data.derive.derived`; ``derive-windows`` where the
        source held windows, of which nothing is known before each.
        """
        texts = self.options.derive if texts is None else texts
        if not texts:
            return self
        if self.ready is not None:
            raise DataError.of(
                "derive-windows",
                f"{self.uri or 'the data'} holds ready windows",
                "derived channels are computed along whole recordings",
                "open the recordings that the windows were cut from, or leave --derive out",
            )
        made = derived(self.recordings, texts)
        options = replace(self.options, derive=tuple(texts))
        return replace(self, recordings=made, options=options)

    def windows(
        self,
        length_s: float | None = None,
        stride_s: float | None = None,
        purity: float | None = None,
    ) -> Windows:
        """Cut the recordings into windows; no window spans two recordings, so none spans a gap.

        Args:
            length_s: seconds; if not given, 128 samples or the shortest recording.
            stride_s: seconds; if not given, half the length.
            purity: share of a window that one label must cover, else it is unlabelled.

        Errors: `DataError` "windows-ready" when the source held windows of another length,
        "no-recordings", "recordings-short" when not one window fits.
        """
        length_s = length_s if length_s is not None else self.options.window_s
        stride_s = stride_s if stride_s is not None else self.options.stride_s
        if self.ready is not None:
            return self._ready(length_s)
        if not self.recordings:
            raise DataError.of(
                "no-recordings",
                self.uri or "the data set",
                "nothing in it was usable",
                f"see what became of the rows: {self.account}",
            )
        rate_hz = self.rate_hz
        if length_s is None:
            length_s = self._usual_timepoints() / rate_hz
        stride_s = stride_s if stride_s is not None else max(length_s / 2, 1 / rate_hz)
        spec = WindowSpec(length_s, stride_s, rate_hz, self.channels)
        return cut_all(self.recordings, spec, self.options.purity if purity is None else purity)

    def _usual_timepoints(self) -> int:
        """128 samples, or fewer where half of the recordings would not hold one such window."""
        lengths = np.array([item.n_timepoints for item in self.recordings])
        if np.mean(lengths >= DEFAULT_TIMEPOINTS) >= 0.9:
            return DEFAULT_TIMEPOINTS
        usual = lengths[lengths >= min(16, lengths.max())]  # splinters must not set the length
        return int(min(DEFAULT_TIMEPOINTS, usual.min()))

    def _ready(self, length_s: float | None) -> Windows:
        assert self.ready is not None
        spec = self.ready.spec
        if not isinstance(spec, WindowSpec) or length_s is None:
            return self.ready
        if round(length_s * spec.rate_hz) != spec.n_timepoints:
            raise DataError.of(
                "windows-ready",
                f"{self.uri or 'the data'} holds windows of {spec.length_s:g} s",
                f"they cannot be cut to {length_s:g} s",
                "leave the window length out, or open the recordings they were cut from",
            )
        return self.ready

    def as_dict(self) -> dict[str, Any]:
        """A summary in plain values, for ``--json``."""
        return {
            "uri": self.uri,
            "channels": [{"name": item.name, "unit": item.unit} for item in self.channels],
            "rate_hz": self.rate_hz,
            "classes": list(self.classes),
            "groups": list(self.groups),
            "recordings": len(self.recordings),
            "ready_windows": 0 if self.ready is None else len(self.ready),
            "account": self.account.as_dict(),
            "log": [step.as_dict() for step in self.log],
        }


def open_data(
    uri: str | PathLike[str],
    *,
    label: str | None = None,
    group: str | None = None,
    time: str | None = None,
    channels: Sequence[str] | None = None,
    rate_hz: float | None = None,
    window_s: float | None = None,
    stride_s: float | None = None,
    **more: Any,
) -> Dataset:
    """Open data of any kind that a source reads: a file, a folder, or a name like ``aeon:...``.

    What is not given is found by convention. `more` takes the other fields of `DataOptions`.

    Errors: `DataError` with all that was found wrong; `OptionError` for a misspelt option.

    >>> data = open_data("synthetic:n=60,seed=1")
    >>> len(data.windows()), data.classes
    (60, ('circle', 'idle', 'shake'))
    """
    named: Mapping[str, Any] = {
        "label": label,
        "group": group,
        "time": time,
        "channels": channels,
        "rate_hz": rate_hz,
        "window_s": window_s,
        "stride_s": stride_s,
        **more,
    }
    options = DataOptions.of(**{key: value for key, value in named.items() if value is not None})
    text = fspath(uri)
    return find_source(text).open(text, options).with_derived()


def open_like(uri: str | PathLike[str], spec: Spec, **options: Any) -> Dataset:
    """Open data as a model of that spec takes it: sizes, colours, lengths of windows.

    Options that are given go before. Errors: as of `open_data`.
    """
    options = {name: value for name, value in options.items() if value is not None}
    dataset = open_data(uri, **{**options_of(spec), **options})
    if not isinstance(spec, WindowSpec) or dataset.ready is not None or "window_s" in options:
        return dataset
    # 1 Hz stands for an unknown rate: lengths then hold in samples
    sample_s = 1.0 if spec.rate_hz != 1.0 else 1.0 / (dataset.rate_hz or 1.0)
    stride_s = options.get("stride_s", spec.stride_s * sample_s)
    lengths = {"window_s": spec.length_s * sample_s, "stride_s": stride_s}
    return replace(dataset, options=replace(dataset.options, **lengths))


def cut_all(recordings: Sequence[Recording], spec: WindowSpec, purity: float = 0.5) -> Windows:
    """Windows of several recordings, labelled by majority; sound as `edgegraft.data.clips` says.

    Errors: `DataError` "purity-range"; "recordings-short" when no recording holds one window.
    """
    if not 0 < purity <= 1:
        raise DataError.of("purity-range", f"purity {purity:g}", "it is a share", "e.g. 0.6")
    x, y, groups, numbers, starts = [], [], [], [], []
    for number, recording in enumerate(recordings):
        if spec.kind == "audio":
            cut_x, labels, cut_starts = sound_windows(recording, spec, purity)
        else:
            cut_x, cut_starts = cut(recording.values, spec)
            labels = window_labels(recording, cut_starts, spec.n_timepoints, purity)
        if not len(cut_starts):
            continue
        x.append(cut_x)
        y.append(labels)
        groups.append(np.full(len(cut_starts), recording.group))
        numbers.append(np.full(len(cut_starts), number))
        starts.append(cut_starts)
    if not x:
        longest = max((item.length_s for item in recordings), default=0.0)
        raise DataError.of(
            "recordings-short",
            f"{len(recordings)} recordings, the longest {longest:g} s",
            f"none holds a window of {spec.length_s:g} s",
            f"a window of at most {longest:g} s, or interpolate gaps",
        )
    return Windows(
        np.concatenate(x),
        np.concatenate(y),
        np.concatenate(groups),
        spec,
        np.concatenate(numbers).astype(np.int64),
        np.concatenate(starts).astype(np.int64),
        tuple(recording.name for recording in recordings),
    )
