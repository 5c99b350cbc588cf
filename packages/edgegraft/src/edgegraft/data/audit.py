"""Is the data fit to learn from? Looks before training does, and says what would help."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from os import PathLike
from types import MappingProxyType
from typing import Any

import numpy as np

from edgegraft.data import (
    image_checks,
    leakage,
    sound_checks,
    symptoms,
    task_checks,
    text_checks,
)
from edgegraft.data.dataset import Dataset, open_data
from edgegraft.data.finding import SEVERITIES, Evidence, Finding
from edgegraft.data.question import Question
from edgegraft_edge.errors import DataError
from edgegraft_edge.signal import Kind, Windows

Data = str | PathLike[str] | Dataset | Windows
Check = Callable[[Evidence], Iterator[Finding]]

COMMON: tuple[Check, ...] = (
    symptoms.check_account,
    symptoms.check_log,
    symptoms.check_classes,
    symptoms.check_typos,
    symptoms.check_groups,
    leakage.check_repeats,
    leakage.check_test_groups,
    leakage.check_test_classes,
    leakage.check_test_content,
)
"""Checks of any data."""

OF_SAMPLES: tuple[Check, ...] = (leakage.check_repeats, leakage.check_test_content)
"""Those of `COMMON` that compare stretches of samples; what sentences share is told otherwise."""

EXACT = (leakage.check_repeats, leakage.check_test_content)
"""Those that go by stretches of equal values, which pictures of one thing need not have."""

OF_CLASSES: tuple[Check, ...] = (
    symptoms.check_classes,
    symptoms.check_typos,
    symptoms.check_groups,
    leakage.check_test_classes,
)
"""Those of `COMMON` that take labels for classes, which other tasks do not."""

SERIES: tuple[Check, ...] = (
    symptoms.check_clock,
    symptoms.check_windows,
    symptoms.check_missing,
    symptoms.check_constant,
    symptoms.check_clipping,
    leakage.check_test_signals,
)
"""Checks of what goes along time."""

CHECKS: Mapping[Kind, tuple[Check, ...]] = MappingProxyType(
    {
        "series": (
            *COMMON,
            *SERIES,
            symptoms.check_levels,
            symptoms.check_gravity,
            leakage.check_scaled_together,
        ),
        "audio": (*COMMON, *SERIES, *sound_checks.CHECKS),
        "image": (*(check for check in COMMON if check not in EXACT), *image_checks.CHECKS),
        "text": (*(check for check in COMMON if check not in OF_SAMPLES), *text_checks.CHECKS),
    }
)


@dataclass(frozen=True)
class Audit:
    """What was found in data.

    Attributes:
        summary: size, channels, rate, classes, groups and row account in plain values.
        findings: the gravest first.
    """

    summary: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    @property
    def trouble(self) -> bool:
        """Whether something was found that should be put right before training."""
        return any(finding.severity == "trouble" for finding in self.findings)

    @property
    def codes(self) -> tuple[str, ...]:
        return tuple(finding.code for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        return {
            "trouble": self.trouble,
            **self.summary,
            "findings": [finding.as_dict() for finding in self.findings],
        }

    def __str__(self) -> str:
        lines = [f"{key}: {_plain(value)}" for key, value in self.summary.items() if _shown(value)]
        lines += [str(finding) for finding in self.findings]
        found = [finding.severity for finding in self.findings]
        counts = [_counted(found.count(severity), severity) for severity in SEVERITIES]
        return "\n".join([*lines, ", ".join(counts)])


def audit(
    data: Data, test: Data | None = None, *, asked: Question | None = None, **options: Any
) -> Audit:
    """Look for trouble in data, and in how it relates to test data.

    Args:
        data: an address as `open_data` takes it, a data set, or windows.
        test: the same, for data that is meant to test a model trained on `data`.
        asked: the task, where it is another than to tell classes apart, and its target.
        options: of `DataOptions`, when an address is given.

    Errors: what opening raises; a data set that opens is never refused here.

    >>> windows = Windows.of(np.random.default_rng(0).normal(size=(8, 1, 32)), y=list("aaabbbbb"))
    >>> audit(windows).trouble
    False
    """
    evidence = gather(data, test, options)
    kind = evidence.windows.spec.kind
    checks = CHECKS[kind]
    if asked is not None:
        checks = tuple(check for check in checks if check not in OF_CLASSES)
    findings = [finding for check in checks for finding in check(evidence)]
    if asked is not None and kind == "series":
        findings += task_checks.check_task(evidence, asked)
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    found = _summary(evidence)
    if asked is not None and asked.task != "anomaly":
        del found["classes"]  # a label is a number then, or nothing
    return Audit(found, tuple(findings))


def gather(data: Data, test: Data | None, options: Mapping[str, Any]) -> Evidence:
    """Everything that the checks look at."""
    dataset, windows, note = _opened(data, options)
    if test is None:
        return Evidence(dataset, windows, note)
    test_dataset, test_windows, _ = _opened(test, options)
    return Evidence(dataset, windows, note, test_dataset, test_windows)


def _opened(data: Data, options: Mapping[str, Any]) -> tuple[Dataset, Windows, str]:
    if isinstance(data, Windows):
        return Dataset(ready=data), data, ""
    dataset = data if isinstance(data, Dataset) else open_data(data, **options)
    try:
        return dataset, dataset.windows(), ""
    except DataError as error:  # too short for a window, say: the rest can still be looked at
        names = [channel.name for channel in dataset.channels] or ["none"]
        none = Windows.of(
            np.zeros((0, len(names), 1)), rate_hz=dataset.rate_hz or 1.0, channels=names
        )
        return dataset, none, str(error)


def _summary(evidence: Evidence) -> dict[str, Any]:
    dataset, windows = evidence.dataset, evidence.windows
    labels, counts = np.unique(windows.y.astype(str), return_counts=True)
    gaps = [step.values for step in dataset.log if step.name == "gap-split"]
    rates = [step.values for step in dataset.log if step.name == "rate"]
    return {
        "data": dataset.uri,
        "windows": len(windows),
        "recordings": len(dataset.recordings) or len(set(windows.recording.tolist())),
        "channels": [
            f"{item.name} [{item.unit}]" if item.unit else item.name for item in dataset.channels
        ],
        **(image_checks.summary(evidence) if windows.spec.kind == "image" else {}),
        "rate_hz": dataset.rate_hz,
        "window_s": getattr(windows.spec, "length_s", 0.0),
        "measured_rates_hz": sorted({values["measured_hz"] for values in rates})[:20],
        "gaps": sum(int(values["gaps"]) for values in gaps),
        "longest_gap_s": max((float(values["longest_s"]) for values in gaps), default=0.0),
        "classes": {
            str(label) or "(unlabelled)": int(count)
            for label, count in zip(labels, counts, strict=True)
        }
        if windows.y.dtype.kind != "f"
        else {},
        "groups": list(dataset.groups),
        "rows": dataset.account.as_dict(),
    }


def _counted(count: int, severity: str) -> str:
    """
    >>> _counted(1, "warning"), _counted(2, "warning"), _counted(0, "trouble")
    ('1 warning', '2 warnings', 'no trouble')
    """
    if severity == "trouble":
        return f"{count or 'no'} trouble"
    return f"{count or 'no'} {severity}" + ("s" if count != 1 else "")


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(
            f"{key} {_plain(item)}" for key, item in value.items() if item not in ({}, [])
        )
    if isinstance(value, list):
        more = f" and {len(value) - 12} more" if len(value) > 12 else ""
        return ", ".join(_plain(item) for item in value[:12]) + more
    return f"{value:g}" if isinstance(value, float) else str(value)


def _shown(value: Any) -> bool:
    return value not in ("", [], {}, 0, 0.0)
