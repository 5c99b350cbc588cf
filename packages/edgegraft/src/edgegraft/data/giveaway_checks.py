"""Checks for what gives a target away: time, a channel that shows it, others that add up to it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgegraft.data.finding import Evidence, Finding
from edgegraft.data.question import REMAINING, Question, targets_of
from edgegraft.data.target_image import BLOCKS, counts_samples, image_of, told_by_time
from edgegraft.data.unit_checks import listed, verb
from edgegraft_edge.signal import Array

TOLD = 0.5
"""Share of the variance that time alone tells from which a random split flatters."""
MAX_SAMPLES = 20_000
MAX_RECORDINGS = 20


def check_trend(evidence: Evidence, asked: Question) -> Iterator[Finding]:
    """Targets that time alone tells, which a random split would give away; channels that count."""
    if evidence.dataset.ready is not None:
        return
    told = {}
    if REMAINING not in asked.target:
        for name, series in targets_of(evidence, asked).items():
            shares = [told_by_time(each) for each in series if len(each) >= 4 * BLOCKS]
            if shares and float(np.median(shares)) > TOLD:
                told[name] = float(np.median(shares))
    if told:
        name = max(told, key=lambda each: told[each])
        yield Finding(
            "trend-leak",
            "warning",
            f"the position in time alone tells {told[name]:.0%} of {name}"
            + (f" and much of {len(told) - 1} more" if len(told) > 1 else ""),
            "split by time (folds by rolling origin) or by whole units; a random split leaks",
        )
    counting = [
        channel.name
        for place, channel in enumerate(evidence.dataset.channels)
        if channel.name not in asked.target
        and counts_samples([v[place] for _, _, v in evidence.pieces[:MAX_RECORDINGS]])
    ]
    if counting:
        yield Finding(
            "channel-counts",
            "trouble" if REMAINING in asked.target or asked.task == "regression" else "warning",
            f"{listed(counting)} only {verb('count', counting)} samples",
            "leave them out with channels=...: a model learns how old the recording is, not its "
            "state; derive=age says so on purpose",
        )


def check_leakage(evidence: Evidence, asked: Question) -> Iterator[Finding]:
    """Channels that are the target itself, an image of it, or know it ahead of time."""
    channels = [channel.name for channel in evidence.dataset.channels]
    for name, series in targets_of(evidence, asked).items():
        for place, channel in enumerate(channels):
            if channel == name or channel in asked.known or (channel in asked.target):
                continue
            pairs = [
                (truth[:MAX_SAMPLES], values[place][:MAX_SAMPLES])
                for truth, (_, _, values) in zip(series, evidence.pieces, strict=True)
                if len(truth) >= 32
            ][:MAX_RECORDINGS]
            shift = image_of(pairs)
            if shift is None or (asked.task == "forecasting" and shift == 0):
                if shift == 0 and place > channels.index(name):
                    yield Finding(
                        "channel-copied",
                        "note",
                        f"channel {channel!r} is {name} in another scale",
                        "one of them is enough",
                    )
                continue
            when = "at the same time" if shift == 0 else (
                f"{abs(shift)} samples {'ahead' if shift > 0 else 'later'}"
            )  # fmt: skip
            yield Finding(
                "target-leakage",
                "warning" if shift < 0 else "trouble",
                f"channel {channel!r} shows {name} {when}",
                f"leave {channel!r} out with channels=...: where the model runs it will not be "
                "known" + ("" if shift <= 0 else ", unless it is a forecast itself: known=..."),
            )
        yield from _sum_of_others(evidence, name, series, asked)


def _sum_of_others(
    evidence: Evidence, name: str, series: list[Array], asked: Question
) -> Iterator[Finding]:
    """A target that several channels add up to, exactly."""
    if asked.task != "regression" or evidence.dataset.ready is not None:
        return
    places = [place for place, channel in enumerate(evidence.dataset.channels)
              if channel.name not in (name, *asked.known)]  # fmt: skip
    x = np.concatenate([values[places, :MAX_SAMPLES] for _, _, values in evidence.pieces], axis=1)
    y = np.concatenate([each[:MAX_SAMPLES] for each in series])
    x, y = x[:, :: max(1, len(y) // MAX_SAMPLES)], y[:: max(1, len(y) // MAX_SAMPLES)]
    good = np.isfinite(x).all(axis=0) & np.isfinite(y)
    if good.sum() < 10 * (len(places) + 1) or len(places) < 2 or np.ptp(y[good]) == 0:
        return
    design = np.concatenate([x[:, good].T.astype(np.float64), np.ones((int(good.sum()), 1))], 1)
    design[:, :-1] = (design[:, :-1] - design[:, :-1].mean(axis=0)) / (
        design[:, :-1].std(axis=0) + 1e-12
    )
    rest = y[good] - design @ np.linalg.lstsq(design, y[good], rcond=None)[0]
    if rest.var() < 1e-6 * y[good].var():
        yield Finding(
            "target-computed",
            "warning",
            f"{name} is a weighted sum of other channels, exactly",
            "if it is computed from them there is nothing to learn; else it is a good sensor",
        )
