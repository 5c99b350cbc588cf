"""The contract of a source of data."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgegraft.data.source import DataOptions, Source
from edgegraft.testing.ground import Check, run_all
from edgegraft_edge.errors import EdgegraftError

_ELSEWHERE = "no-such-place/nothing.here"


def _accepts(source: Source, uri: str, options: DataOptions) -> None:
    assert source.accepts(uri), f"it does not accept {uri!r}"
    assert not source.accepts(_ELSEWHERE), f"it accepts {_ELSEWHERE!r}, which is not there"


def _recordings(source: Source, uri: str, options: DataOptions) -> None:
    data = source.open(uri, options)
    assert data.recordings or data.ready is not None, "it holds neither recordings nor windows"
    for recording in data.recordings:
        values = recording.values
        assert values.dtype == np.float32, f"{recording.name}: values are {values.dtype}"
        assert values.ndim == 2, f"{recording.name}: values have {values.ndim} axes"
        assert len(values) == len(recording.channels), f"{recording.name}: channels do not fit"
        assert recording.rate_hz > 0, f"{recording.name}: rate {recording.rate_hz}"
        stop = 0
        for span in sorted(recording.labels, key=lambda span: span.start):
            assert stop <= span.start < span.stop <= recording.n_timepoints, f"span {span}"
            stop = span.stop


def _windows(source: Source, uri: str, options: DataOptions) -> None:
    windows = source.open(uri, options).windows()
    assert len(windows) > 0, "it gives no windows"
    wanted = np.uint8 if windows.spec.kind in ("image", "text") else np.float32
    assert windows.x.dtype == wanted, f"windows are {windows.x.dtype}"
    assert np.isfinite(windows.x).all(), "windows are not finite: quarantine them, with a code"
    assert windows.y.dtype.kind == "U", f"labels are {windows.y.dtype}, not text"
    names = getattr(windows.spec, "channel_names", ())
    assert len(set(names)) == len(names), f"channels {names} are not unique"


def _account(source: Source, uri: str, options: DataOptions) -> None:
    account = source.open(uri, options).account
    assert account.rows_in > 0, "no row is accounted for"
    assert all(item.code for item in account.quarantined), "a quarantine without a code"


def _repeats(source: Source, uri: str, options: DataOptions) -> None:
    first, second = (source.open(uri, options).windows() for _ in range(2))
    same = np.array_equal(first.x, second.x) and np.array_equal(first.y, second.y)
    assert same, "opened twice, it gives two data sets"
    assert first.spec == second.spec, "opened twice, it cuts two kinds of windows"


def _missing(source: Source, uri: str, options: DataOptions) -> None:
    try:
        source.open(_ELSEWHERE, options)
    except EdgegraftError:
        return
    raise AssertionError(f"{_ELSEWHERE!r} is opened without an error of Edgegraft's")


SOURCE_CHECKS: Mapping[str, Check] = {
    "accepts": _accepts,
    "recordings": _recordings,
    "windows": _windows,
    "account": _account,
    "repeats": _repeats,
    "missing": _missing,
}


def check_source(
    source: Source,
    uri: str,
    options: DataOptions | None = None,
    *,
    leave_out: Mapping[str, str] | None = None,
) -> None:
    """All contracts of a source, tried on data that it reads.

    It accepts what it reads and nothing else, gives finite float32 signals with text labels
    and named channels, accounts for every row, gives the same twice, and says what is wrong in
    an error with a code.
    """
    given = options or DataOptions()
    run_all(SOURCE_CHECKS, type(source).__name__, leave_out or {}, source, uri, given)
