"""Checks of one data set: rows, clocks, signals, labels, groups."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterator

import numpy as np

from edgegraft.data.finding import Evidence, Finding
from edgegraft.data.track import origin
from edgegraft_edge.signal import UNLABELLED, Array

MANY = 0.05  # share of rows lost from which a data set is in trouble
UNEVEN = 0.02
CLIPPED = 0.005
GRAVITY = 9.80665


def check_account(evidence: Evidence) -> Iterator[Finding]:
    """Rows that were set aside or came twice."""
    account = evidence.dataset.account
    for item in account.quarantined:
        share = item.rows / max(1, account.rows_in)
        yield Finding(
            item.code,
            "trouble" if share > MANY else "warning",
            f"{item.rows} of {account.rows_in} rows set aside, the first at {item.example}",
            "look at that place; nothing else was lost",
        )
    if account.duplicates:
        yield Finding(
            "duplicates", "note", f"{account.duplicates} rows came twice and were dropped"
        )


def check_clock(evidence: Evidence) -> Iterator[Finding]:
    """Rates that jitter, drift, or differ between recordings."""
    for what in ("jitter", "drift"):
        found = {
            step.recording: float(step.values[what])
            for step in evidence.dataset.log
            if step.name == "rate" and step.values[what] > UNEVEN
        }
        if found:
            worst = max(found, key=lambda name: found[name])
            yield Finding(
                f"rate-{what}",
                "warning",
                f"{len(found)} recordings {what} by more than 2 %, {worst} by {found[worst]:.0%}",
                "record on a timer; a model sees patterns stretched and squeezed",
            )
    resampled = [step for step in evidence.dataset.log if step.name == "resample"]
    if resampled:
        rates = sorted({step.values["rate_hz"] for step in resampled})
        yield Finding(
            "rate-differs",
            "warning",
            f"{len(resampled)} stretches at {', '.join(f'{rate:g}' for rate in rates[:5])} Hz were "
            f"resampled to {evidence.dataset.rate_hz:g} Hz",
            "record at one rate, or choose it with rate_hz",
        )


_LOGGED = {
    "clock-back": ("warning", "the clock was set back; recordings were cut there"),
    "sort": ("note", "rows were out of order and were sorted"),
    "gap-split": ("note", "recordings have gaps and were cut there"),
    "gap-interpolate": ("note", "short gaps were interpolated"),
    "counter-wrap": ("note", "a counter ran over and was continued"),
    "unit-assumed": ("warning", "files without a unit were taken to have that of the others"),
    "convert": ("note", "units were converted"),
    "channel-empty": ("warning", "channels without a value were left out"),
    "metadata-without-file": ("warning", "metadata names files that are not there"),
    "spread-times": ("warning", "timestamps were coarser than samples and were counted on"),
    "column-type": ("warning", "columns of a type that is no signal were left out"),
}


def check_log(evidence: Evidence) -> Iterator[Finding]:
    """What cleaning did that a person should know."""
    counts = Counter(step.name for step in evidence.dataset.log)
    first = {step.name: step for step in reversed(evidence.dataset.log)}
    for name, (severity, text) in _LOGGED.items():
        if counts[name]:
            yield Finding(name, severity, f"{text} ({counts[name]} times, first: {first[name]})")
    dropped = [step for step in evidence.dataset.log if step.values.get("left_out")]
    if dropped:
        yield Finding(
            "channels-extra",
            "note",
            f"{len(dropped)} files have channels that others lack: {dropped[0]}",
        )
    outside = [step for step in evidence.dataset.log if step.values.get("outside")]
    if outside:
        yield Finding(
            "span-outside",
            "warning",
            f"labelled spans lie where there are no samples: {outside[0]}",
            "check the unit and the zero of their times",
        )


def check_windows(evidence: Evidence) -> Iterator[Finding]:
    """Whether windows could be cut, and have time on the last axis."""
    if evidence.uncut:
        yield Finding("recordings-short", "trouble", evidence.uncut)
    _, n_channels, n_timepoints = evidence.windows.x.shape
    if evidence.dataset.ready is not None and n_channels > 2 * n_timepoints:
        yield Finding(
            "axes-swapped",
            "warning",
            f"{n_channels} channels of {n_timepoints} timepoints",
            "time is the last axis: x.transpose(0, 2, 1)",
        )


def check_missing(evidence: Evidence) -> Iterator[Finding]:
    """NaN and infinity in windows that were given as arrays."""
    bad = np.asarray(~np.isfinite(evidence.windows.x).all(axis=1))
    if bad.any():
        rows = np.flatnonzero(bad.any(axis=1))
        padded: Array = np.pad(bad, ((0, 0), (1, 1)))
        edges = np.flatnonzero(np.diff(padded.astype(np.int8).ravel()))
        longest = int(np.diff(edges.reshape(-1, 2), axis=1).max())
        yield Finding(
            "value-missing",
            "trouble",
            f"{len(rows)} windows hold NaN or infinity, the first is {rows[0]}, "
            f"the longest burst {longest} samples",
            "drop these windows, or fill short bursts from both sides",
        )


def check_constant(evidence: Evidence) -> Iterator[Finding]:
    """Channels that never change, at all or in some recordings."""
    stuck: dict[int, list[str]] = {}
    for name, _, values in evidence.pieces:
        if values.shape[1] >= 16:
            for place in np.flatnonzero(np.ptp(values, axis=1) == 0):
                stuck.setdefault(int(place), []).append(name)
    long_enough = sum(values.shape[1] >= 16 for _, _, values in evidence.pieces)
    for place, names in sorted(stuck.items()):
        channel = evidence.dataset.channels[place].name
        if len(names) == long_enough:
            yield Finding(
                "channel-constant",
                "trouble",
                f"channel {channel!r} never changes",
                "check the sensor, or leave the channel out with channels=...",
            )
        else:
            yield Finding(
                "channel-stuck",
                "warning",
                f"channel {channel!r} is constant in {len(names)} of {long_enough} recordings, "
                f"first in {names[0]}",
                "check the cable of that recording",
            )


def check_clipping(evidence: Evidence) -> Iterator[Finding]:
    """Channels that sit at their largest or smallest value for several samples on end."""
    if not evidence.pieces:
        return
    stacked = [values for _, _, values in evidence.pieces]
    low = np.min([values.min(axis=1) for values in stacked], axis=0)
    high = np.max([values.max(axis=1) for values in stacked], axis=0)
    total = sum(values.shape[1] for values in stacked)
    for place, channel in enumerate(evidence.dataset.channels):
        if low[place] == high[place] or not np.isfinite(high[place] - low[place]):
            continue
        distinct = len(np.unique(np.concatenate([values[place, :5000] for values in stacked[:20]])))
        if distinct < 32:
            continue  # a switch or a counter is at its ends by nature
        for edge, what in ((low[place], "smallest"), (high[place], "largest")):
            if edge == 0:
                continue  # many quantities rest at zero
            held = sum(_held(values[place] == edge) for values in stacked)
            if held / total > CLIPPED:
                yield Finding(
                    "channel-clipped",
                    "trouble" if held / total > 4 * CLIPPED else "warning",
                    f"channel {channel.name!r} is held at its {what} value {edge:g} for "
                    f"{held / total:.1%} of the time",
                    "a wider range of the sensor, or leave these recordings out",
                )


def _held(at_edge: Array) -> int:
    """Samples in runs of three or more."""
    run = np.flatnonzero(np.diff(np.concatenate([[0], at_edge.astype(np.int8), [0]])))
    lengths = run[1::2] - run[::2]
    return int(lengths[lengths >= 3].sum())


def check_levels(evidence: Evidence) -> Iterator[Finding]:
    """Groups or recordings on a level or scale far from all others: another sensor or unit."""
    pieces = _bodies(evidence)
    if len(pieces) < 4:
        return
    mean = np.array([values.mean(axis=1) for _, values in pieces])
    spread = np.array([values.std(axis=1) for _, values in pieces])
    size = np.array([np.median(np.abs(values), axis=1) for _, values in pieces])
    for place, channel in enumerate(evidence.dataset.channels):
        centre, usual = np.median(mean[:, place]), np.median(spread[:, place])
        around = np.median(np.abs(mean[:, place] - centre))
        odd = np.abs(mean[:, place] - centre) > 12 * max(usual, around, 1e-12)
        typical = np.median(size[:, place])
        scaled = (size[:, place] > 50 * typical) | (size[:, place] * 50 < typical)
        rare = odd & scaled if typical > 0 else odd
        if 0 < rare.sum() < len(pieces) / 2:
            first = pieces[int(np.argmax(rare))][0]
            yield Finding(
                "channel-level",
                "warning",
                f"channel {channel.name!r} is on another level or scale in {int(rare.sum())} of "
                f"{len(pieces)} groups or recordings, first in {first}",
                "a changed unit or a replaced sensor: convert or calibrate it",
            )


def _bodies(evidence: Evidence) -> list[tuple[str, Array]]:
    """Signals by group, or by file where no groups are known; single windows are too short."""
    by_group = evidence.windows.has_groups
    if evidence.dataset.ready is not None and not by_group:
        return []
    bodies: dict[str, list[Array]] = {}
    for name, group, values in evidence.pieces:
        bodies.setdefault(group if by_group else origin(name), []).append(values)
    joined = [(name, np.concatenate(parts, axis=1)) for name, parts in bodies.items()]
    return [(name, values) for name, values in joined if values.shape[1] >= 16]


def check_gravity(evidence: Evidence) -> Iterator[Finding]:
    """Accelerations that show gravity as 1 here and as 9.8 there, or against their unit."""
    names = [channel.name for channel in evidence.dataset.channels]
    for stem in sorted({name[:-1] for name in names if name.lower().endswith("x")}):
        axes = [
            next((n for n in names if n.lower() == (stem + axis).lower()), "") for axis in "xyz"
        ]
        if not all(axes) or not re.match(r"(.*_)?(total_?)?acc", stem.lower()):
            continue
        places = [names.index(axis) for axis in axes]
        level = np.array(
            [np.median(np.linalg.norm(values[places], axis=0)) for _, _, values in evidence.pieces]
        )
        as_g = np.abs(level - 1) < 0.15
        as_si = np.abs(level / GRAVITY - 1) < 0.15
        unit = evidence.dataset.channels[places[0]].unit
        if as_g.any() and as_si.any():
            yield Finding(
                "unit-mixed",
                "trouble",
                f"{stem}x, y, z show gravity as 1 in {int(as_g.sum())} recordings and as 9.8 in "
                f"{int(as_si.sum())}, first in {evidence.pieces[int(np.argmax(as_g))][0]}",
                "write units into the column heads, as in acc_x [g]: they are converted then",
            )
        elif (unit == "m/s2" and as_g.mean() > 0.5) or (unit == "g" and as_si.mean() > 0.5):
            yield Finding(
                "unit-suspect",
                "warning",
                f"{stem}x, y, z in {unit} show gravity as {np.median(level):.3g}",
                "correct the unit",
            )


def check_classes(evidence: Evidence) -> Iterator[Finding]:
    """Too few classes, members or balance; labels that are none."""
    windows = evidence.windows
    if windows.y.dtype.kind == "f":
        return
    counts = Counter(str(label) for label in windows.y if label != UNLABELLED)
    if not counts:
        yield Finding(
            "nothing-labelled",
            "warning",
            "no window has a label",
            "label=..., folders named by label, or metadata.csv; pretraining needs none",
        )
        return
    if len(counts) == 1:
        yield Finding(
            "one-class",
            "trouble",
            f"all labelled windows are {next(iter(counts))!r}",
            "record another class: there is nothing to tell apart",
        )
    lone = [label for label, count in counts.items() if count == 1]
    if lone:
        yield Finding(
            "class-one-member",
            "trouble",
            f"one window each: {', '.join(lone[:8])}",
            "record more: a class must be in training and in test",
        )
    most, least = max(counts.values()), min(counts.values())
    if most > 10 * least:
        yield Finding(
            "imbalance",
            "warning",
            f"the largest class has {most} windows, the smallest {least}",
            "go by macro F1, record more of the small ones",
        )
    share = 1 - sum(counts.values()) / len(windows)
    if share > 0:
        yield Finding("unlabelled", "note", f"{share:.0%} of the windows have no label")
    if len(counts) > 4 and len(counts) == len({origin(name) for name, _, _ in evidence.pieces}):
        yield Finding(
            "label-per-recording",
            "warning",
            f"each of {len(counts)} recordings is a class of its own",
            "a model would learn the recording; label='...' if these are no labels",
        )


def check_typos(evidence: Evidence) -> Iterator[Finding]:
    """A rare label that is nearly a common one."""
    if evidence.windows.y.dtype.kind == "f":
        return
    counts = Counter(str(label) for label in evidence.windows.y if label != UNLABELLED)
    labels = sorted(counts, key=lambda label: counts[label])
    for place, rare in enumerate(labels):
        for common in reversed(labels[place + 1 :]):
            bare, other = (re.sub(r"[\W_]+", "", text).casefold() for text in (rare, common))
            same = bare == other and bool(bare)
            without_digits = re.sub(r"\d", "", bare) == re.sub(r"\d", "", other)
            close = difflib.SequenceMatcher(None, bare, other).ratio() >= 0.8 and not without_digits
            if same or (close and counts[rare] <= 0.1 * counts[common]):
                yield Finding(
                    "label-typo",
                    "trouble",
                    f"{counts[rare]} windows {rare!r} beside {counts[common]} {common!r}",
                    f"if it is a typo, write {common!r}",
                )
                break


def check_groups(evidence: Evidence) -> Iterator[Finding]:
    """Groups unknown, or classes that only one of them has."""
    windows = evidence.windows
    if not windows.labelled.any():
        return
    if not windows.has_groups:
        yield Finding(
            "groups-unknown",
            "note",
            "no person, machine or site is known",
            "group=...: without it, a model may know the person rather than the movement",
        )
        return
    missing = int((windows.groups == "").sum())
    if missing:
        yield Finding(
            "group-missing",
            "warning",
            f"{missing} windows have no group",
            "fill it in, or drop them",
        )
    alone = [
        label
        for label in windows.classes
        if len(set(windows.groups[windows.y == label].tolist())) == 1
    ]
    if alone:
        yield Finding(
            "class-one-group",
            "trouble",
            f"in one group only: {', '.join(alone[:8])}",
            "record these classes in a second group; else they cannot be tested across groups",
        )
