"""Checks of data for one task: what a forecast, an estimate or an alarm could go wrong by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

import numpy as np

from edgegraft.data.dataset import Dataset
from edgegraft.data.finding import Evidence, Finding
from edgegraft.data.giveaway_checks import check_leakage, check_trend
from edgegraft.data.question import (
    REMAINING,
    Question,
    label_numbers,
    targets_of,
)
from edgegraft.data.season import Season, seasons
from edgegraft.data.unit_checks import (
    check_ends,
    check_normal,
    check_units,
    listed,
    said_time,
    verb,
)
from edgegraft_edge.errors import nearest
from edgegraft_edge.signal import Windows

UNEVEN, VERY_UNEVEN = 0.02, 0.25
STILL = 0.95
"""Share of equal values from which a target hardly moves."""
OUTSIDE = 0.02
"""Share of test targets beyond those of training that is told."""


TaskCheck = Callable[[Evidence, Question], Iterator[Finding]]


def check_target(evidence: Evidence, asked: Question) -> Iterator[Finding]:
    """Whether there is a target at all: the channel, or numbers in the column of the label."""
    datasets = {"the data": evidence.dataset, "the test data": evidence.test_dataset}
    for where, dataset in datasets.items():
        names = [] if dataset is None else [channel.name for channel in dataset.channels]
        for name in (*asked.target, *asked.known):
            if name != REMAINING and name not in names and names:
                yield Finding(
                    "covariate-missing" if name in asked.known else "target-missing",
                    "trouble",
                    f"channel {name!r} is not in {where}",
                    nearest(name, names),
                )
    if asked.task == "regression" and not asked.target:
        count, bad = label_numbers(evidence)
        if not count:
            first = f", the first is {bad[0]!r}" if bad else ""
            yield Finding(
                "target-missing",
                "trouble",
                f"no label is a number{first}",
                "target=CHANNEL, target='remaining' for run-to-failure data, or label=COLUMN",
            )
        elif bad:
            yield Finding(
                "target-text",
                "warning",
                f"{len(bad)} labels are no numbers, the first is {bad[0]!r}",
                "they count as unknown",
            )


def check_range(evidence: Evidence, asked: Question) -> Iterator[Finding]:
    """Test targets beyond those of training, where what only repeats what it saw must fail."""
    if evidence.test_dataset is None or evidence.test is None or REMAINING in asked.target:
        return
    ours = targets_of(evidence, asked)
    theirs = targets_of(Evidence(evidence.test_dataset, evidence.test), asked)
    for name in [name for name in ours if name in theirs]:
        known, test = np.concatenate(ours[name]), np.concatenate(theirs[name])
        known, test = known[np.isfinite(known)], test[np.isfinite(test)]
        if len(known) and len(test):
            share = float(((test < known.min()) | (test > known.max())).mean())
            if share > OUTSIDE:
                yield Finding(
                    "target-outside",
                    "warning",
                    f"{share:.0%} of {name} in the test data lies beyond what training has "
                    f"({known.min():g} to {known.max():g})",
                    "trees and neighbours cannot say what they never saw: a linear head, "
                    "differences, or training data of that range",
                )


def check_length(evidence: Evidence, asked: Question) -> Iterator[Finding]:
    """Series that are shorter than what is seen and asked of them."""
    need = asked.context + asked.horizon
    pieces = [(name, values.shape[1]) for name, _, values in evidence.pieces]
    if not need or not pieces or evidence.dataset.ready is not None:
        return
    short = [(name, length) for name, length in pieces if length < need]
    if short:
        name, length = min(short, key=lambda item: item[1])
        what = f"{asked.context} samples of context and {asked.horizon} ahead"
        yield Finding(
            "series-short",
            "trouble" if len(short) == len(pieces) else "warning",
            f"{len(short)} of {len(pieces)} series hold less than {what}, {name} only {length}",
            f"a context of at most {max(1, max(length for _, length in pieces) - asked.horizon)}, "
            "a nearer horizon, or gap='interpolate' if gaps cut them",
        )


def check_times(evidence: Evidence, asked: Question) -> Iterator[Finding]:
    """Time stamps that are not even: a step ahead is then no fixed time ahead."""
    jitter = {
        step.recording: float(step.values["jitter"])
        for step in evidence.dataset.log
        if step.name == "rate" and step.values["jitter"] > UNEVEN
    }
    if jitter:
        worst = max(jitter, key=lambda name: jitter[name])
        yield Finding(
            "times-irregular",
            "trouble" if jitter[worst] > VERY_UNEVEN else "warning",
            f"the steps between samples differ by {jitter[worst]:.0%} and more in {worst} "
            f"({len(jitter)} recordings in all); they were put on an even grid",
            "rate_hz=... for a coarser grid, or samples on a timer",
        )


def check_still(evidence: Evidence, asked: Question) -> Iterator[Finding]:
    """Series that never move, and targets that hardly do."""
    still: dict[str, float] = {}
    nearly: dict[str, float] = {}
    stuck: dict[str, int] = {}
    targets = targets_of(evidence, asked)
    for name, series in targets.items():
        joined = np.concatenate(series)
        joined = joined[np.isfinite(joined)]
        if not len(joined):
            continue
        if np.ptp(joined) == 0:
            still[name] = float(joined[0])
            continue
        stopped = [len(each) >= 16 and np.ptp(each[np.isfinite(each)]) == 0 for each in series]
        if any(stopped):
            stuck[name] = sum(stopped)
        _, counts = np.unique(joined, return_counts=True)
        if counts.max() / len(joined) > STILL:
            nearly[name] = float(counts.max() / len(joined))
    if still:
        name = next(iter(still))
        value = f" ({still[name]:g} everywhere)" if len(still) == 1 else ""
        yield Finding(
            "target-constant",
            "trouble" if asked.target or len(still) == len(targets) else "warning",
            f"{listed(list(still))} never {verb('move', still)}{value}",
            "there is nothing to estimate; check the sensor or name other targets",
        )
    if stuck:
        name = max(stuck, key=lambda each: stuck[each])
        yield Finding(
            "target-stuck",
            "warning",
            f"{name} never moves in {stuck[name]} of {len(targets[name])} recordings"
            + (f", others in fewer ({len(stuck) - 1})" if len(stuck) > 1 else ""),
            "leave these out: errors of none there hide errors elsewhere",
        )
    if nearly:
        share = min(nearly.values())
        yield Finding(
            "target-near-constant",
            "warning",
            f"{listed(list(nearly))}: one value for {share:.1%} of the time"
            + (" and more" if len(nearly) > 1 else ""),
            "go by the moments when it moves: anomaly or classification may be the task",
        )


def check_seasons(evidence: Evidence, asked: Question) -> Iterator[Finding]:
    """Seasons of the targets: how long they are, and whether the context holds one."""
    rate_hz = evidence.dataset.rate_hz
    found: dict[Season, list[str]] = {}
    for name, series in targets_of(evidence, asked).items():
        longest = max(series, key=len)
        for season in seasons(longest, rate_hz if rate_hz != 1.0 else 0.0):
            same = next((old for old in found if old.samples == season.samples), season)
            found.setdefault(same, []).append(name)
    if not found or evidence.dataset.ready is not None:
        return
    season, names = max(found.items(), key=lambda item: (len(item[1]), item[0].strength))
    others = [_span(each, rate_hz) for each in found if each is not season]
    text = f"{listed(names)} {verb('repeat', names)} every {_span(season, rate_hz)}"
    if others:
        text += f"; others every {', '.join(others[:3])}"
    yield Finding(
        "seasonality",
        "note",
        f"{text} (strength {season.strength:.2f})",
        f"season={season.samples} for the control, a context of at least {2 * season.samples} "
        "samples, folds that hold whole seasons",
    )
    if 0 < asked.context < season.samples:
        yield Finding(
            "season-beyond-context",
            "warning",
            f"a context of {asked.context} samples is less than the season of {season.samples}",
            f"context={2 * season.samples}, or calendar channels: derive=hour,weekday",
        )
    longest_n = max(values.shape[1] for _, _, values in evidence.pieces)
    if asked.task == "anomaly" and longest_n < 3 * season.samples:
        yield Finding(
            "season-seldom-seen",
            "warning",
            f"fewer than three seasons of {_span(season, rate_hz)} were recorded",
            "what is rare in a season is then taken for an anomaly: record more normal time",
        )


# -- in words


def _span(season: Season, rate_hz: float) -> str:
    samples = f"{season.samples} samples"
    return (
        samples if rate_hz in (0.0, 1.0) else f"{samples} ({said_time(season.samples / rate_hz)})"
    )


_ALWAYS = (check_target, check_range, check_length, check_times, check_still)
TASK_CHECKS: Mapping[str, tuple[TaskCheck, ...]] = MappingProxyType(
    {
        "forecasting": (*_ALWAYS, check_seasons, check_trend, check_leakage),
        "regression": (*_ALWAYS, check_units, check_ends, check_trend, check_leakage),
        "anomaly": (check_length, check_times, check_seasons, check_normal),
    }
)


def check_task(evidence: Evidence, asked: Question) -> Iterator[Finding]:
    """All findings of one task."""
    for check in TASK_CHECKS[asked.task]:
        yield from check(evidence, asked)


def trouble_of(dataset: Dataset, windows: Windows, asked: Question) -> tuple[tuple[str, str], ...]:
    """What of these findings is trouble, for who adapts without asking the doctor: code, words."""
    found = check_task(Evidence(dataset, windows), asked)
    return tuple((each.code, each.text) for each in found if each.severity == "trouble")
