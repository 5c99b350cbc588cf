"""Which windows to label next, and what that is worth: data in, a table to fill in out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from os import PathLike, fspath
from typing import Any

import numpy as np

from edgegraft.adapt.active import fused
from edgegraft.adapt.choice import By, Doubt, choose, views_of
from edgegraft.adapt.committee import curve
from edgegraft.adapt.strategy import Watch, unwatched
from edgegraft.data.answers import answered, places, read_answers, unsure
from edgegraft.data.domains import beside, joined
from edgegraft.evaluate.worth import Worth, worth
from edgegraft.inputs import Data, open_windows
from edgegraft.plan import contenders
from edgegraft.threads import one_thread
from edgegraft.zoo.backbone import Backbone
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge.errors import DataError, OptionError
from edgegraft_edge.signal import Array, Windows

NEXT = 20
_MAPPED = 2000


@dataclass(frozen=True)
class Proposal:
    """One window to label.

    Attributes:
        rank: 1 for what should come first.
        window: its number in the data (the pool counts on after it).
        recording, start_s: where it is; `group`: of whom.
        why: in a sentence.
        guess, confidence: what the committee takes it for; None without labels of two classes.
    """

    rank: int
    window: int
    recording: str
    start_s: float
    group: str
    why: str
    guess: str | None = None
    confidence: float | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            "rank": self.rank,
            "window": self.window,
            "recording": self.recording,
            "start_s": round(self.start_s, 3),
            "group": self.group,
            "why": self.why,
            "guess": self.guess,
            "confidence": None if self.confidence is None else round(self.confidence, 3),
        }


@dataclass(frozen=True)
class Proposals:
    """What to label next.

    Attributes:
        proposals: best first.
        by: "coverage", or "doubt" once labels are enough for it; `because` says why.
        windows: all windows, data then pool, with the labels known so far.
        n_labels, n_open: windows with and without a label.
        worth: what labels gave so far and may give; None without enough of them.
        flat: float32 (n_windows, 2), windows in a plane, for a map.
        backbones: names of the views.
        notes: what could not be used.
    """

    proposals: tuple[Proposal, ...]
    by: By
    because: str
    windows: Windows
    n_labels: int
    n_open: int
    worth: Worth | None
    flat: Array = field(repr=False)
    backbones: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values, what ``label --json`` prints."""
        return {
            "windows": [each.as_dict() for each in self.proposals],
            "by": self.by,
            "because": self.because,
            "classes": list(self.windows.classes),
            "labels": self.n_labels,
            "open": self.n_open,
            "worth": None if self.worth is None else self.worth.as_dict(),
            "backbones": list(self.backbones),
            "notes": list(self.notes),
        }


@one_thread()
def label_next(
    data: Data,
    count: int = NEXT,
    *,
    unlabelled: Data | None = None,
    labels: str | PathLike[str] | Sequence[str | PathLike[str]] = (),
    backbone: str | PathLike[str] | Backbone = "auto",
    seed: int = 0,
    watch: Watch = unwatched,
    **data_options: Any,
) -> Proposals:
    """The windows whose labels would teach most, best first.

    With few labels those that stand for most of the pool that no labelled window stands for yet
    (`edgegraft.adapt.active.facility`). From five labels per class on, on average, windows whose
    class is open count for more, unless the windows left out show that doubt does not tell right
    from wrong. Windows that share samples with labelled or proposed ones come last.

    Args:
        data: windows with some labels, or none.
        unlabelled: the pool, where it is apart; labels in it are left aside.
        labels: tables that `edgegraft label` wrote, filled in.
        backbone: embeds the windows; "auto" takes all of that kind that can, side by side.

    Errors: `OptionError` "count-range"; `DataError` "nothing-to-label", "pool-small",
    "no-backbone", and those of `answered` and `open_data`.

    >>> found = label_next("synthetic:n=60,seed=1", 1, backbone="statistics",
    ...                    unlabelled="synthetic:n=40,seed=2")
    >>> found.by, found.n_labels, found.n_open, len(found.proposals)
    ('doubt', 60, 40, 1)
    """
    if count < 1:
        raise OptionError.of("count-range", f"{count} windows", "nothing is asked", "1 or more")
    watch("stage", {"name": "open"})
    windows, skipped = labelled_windows(data, unlabelled, labels, **data_options)
    open_ = ~windows.labelled
    open_[skipped] = False
    _check(windows, int(open_.sum()), count, len(skipped))
    watch("stage", {"name": "embed"})
    views, notes = views_of(windows, _backbones(backbone, windows), seed=seed)
    z = fused(list(views.values()))
    watch("stage", {"name": "choose"})
    chosen, gains, doubt = choose(windows, list(views.values()), z, count, allowed=open_, seed=seed)
    known = np.flatnonzero(windows.labelled)
    value = _worth(windows, z, known, count, seed) if doubt.committee is not None else None
    return Proposals(
        _proposals(windows, chosen, gains, doubt),
        doubt.by,
        doubt.because,
        windows,
        len(known),
        int(open_.sum()),
        value,
        _flat(z, seed),
        tuple(views),
        notes,
    )


def labelled_windows(
    data: Data,
    unlabelled: Data | None = None,
    labels: str | PathLike[str] | Sequence[str | PathLike[str]] = (),
    **data_options: Any,
) -> tuple[Windows, Array]:
    """Data and pool as one, with the labels of filled-in tables; and what nobody could tell.

    Errors: as of `label_next`.
    """
    windows = open_windows(data, data_options)
    if unlabelled is not None:
        pool = open_windows(unlabelled, data_options, windows.spec)
        windows = _with_pool(windows, pool)
    files = [labels] if isinstance(labels, str | PathLike) else list(labels)
    answers = read_answers(files)
    return answered(windows, answers), unsure(answers)


def _with_pool(windows: Windows, pool: Windows) -> Windows:
    """The windows, and those of the pool after them, recordings numbered on."""
    if not windows.names and len(windows):
        named = tuple(map(str, range(int(windows.recording.max()) + 1)))
        windows = replace(windows, names=named)
    return joined(windows, beside(windows, pool))


def _backbones(backbone: str | PathLike[str] | Backbone, windows: Windows) -> list[Backbone]:
    if backbone == "auto":
        return contenders("auto", windows.spec.kind)
    if isinstance(backbone, str | PathLike):
        return [load_backbone(fspath(backbone))]
    return [backbone]


def _check(windows: Windows, n_open: int, count: int, n_skipped: int) -> None:
    aside = f", {n_skipped} of them set aside with ?" if n_skipped else ""
    if not n_open:
        raise DataError.of(
            "nothing-to-label",
            f"{len(windows)} windows, none without a label{aside}",
            "what to label next is chosen among unlabelled windows",
            "give unlabelled windows as --unlabelled POOL",
        )
    if count > n_open:
        raise DataError.of(
            "pool-small",
            f"{count} windows asked for, {n_open} without a label{aside}",
            "no window is proposed twice",
            f"--next {n_open} or fewer",
        )


def _proposals(windows: Windows, chosen: Array, gains: Array, doubt: Doubt) -> tuple[Proposal, ...]:
    names, start_s = places(windows)
    committee = doubt.committee
    found = []
    for rank, (place, gain) in enumerate(zip(chosen.tolist(), gains.tolist(), strict=True), 1):
        guess = confidence = None
        why = f"adds {100 * gain:.1f} % of the pool to what labels stand for"
        if committee is not None:
            said = committee.mean[place]
            first, second = np.argsort(-said)[:2]
            guess, confidence = windows.classes[first], float(said[first])
            if doubt.by == "doubt":
                other = windows.classes[second]
                why = f"{guess} {said[first]:.2f} or {other} {said[second]:.2f}" + _split(
                    committee.tables[:, place], windows.classes
                )
        group = str(windows.groups[place])
        found.append(
            Proposal(
                rank, place, names[place], float(start_s[place]), group, why, guess, confidence
            )
        )
    return tuple(found)


def _split(tables: Array, classes: Sequence[str]) -> str:
    """How the members voted, where they differ."""
    votes = np.bincount(tables.argmax(axis=1), minlength=len(classes))
    order = [place for place in np.argsort(-votes, kind="stable") if votes[place]]
    if len(order) < 2:
        return ", though all views agree"
    return "; views say " + ", ".join(f"{classes[place]} {votes[place]}x" for place in order)


def _worth(windows: Windows, z: Array, known: Array, count: int, seed: int) -> Worth:
    target = windows.take(known)
    groups = target.groups if target.has_groups else None
    codes = target.codes(windows.classes)
    counts, scores = curve(z[known], codes, len(windows.classes), groups=groups, seed=seed)
    return worth(counts, scores, len(known), count, seed=seed)


def _flat(z: Array, seed: int) -> Array:
    """The two directions of largest spread (n_windows, 2)."""
    some = np.sort(np.random.default_rng(seed).permutation(len(z))[:_MAPPED])
    centred = z[some] - z[some].mean(axis=0)
    directions = np.linalg.eigh((centred.T @ centred).astype(np.float64))[1][:, ::-1][:, :2]
    flat = z @ directions.astype(np.float32)
    return np.asarray(np.pad(flat, ((0, 0), (0, 2 - flat.shape[1]))))
