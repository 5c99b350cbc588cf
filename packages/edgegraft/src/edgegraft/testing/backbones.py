"""The contract of a backbone."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from functools import partial

import numpy as np

from edgegraft.testing.ground import (
    TIES,
    Check,
    assert_agrees,
    assert_frozen,
    assert_portable,
    assert_untouched,
    copy_of,
    run_all,
)
from edgegraft.testing.samples import SAMPLES, Sample, usual_windows
from edgegraft.zoo.backbone import Backbone, BackboneCard
from edgegraft_edge.signal import Kind


def _backbone_is_frozen(backbone: Backbone) -> None:
    assert_frozen(backbone)
    fitted = backbone.fit(usual_windows(backbone), seed=0)
    assert_frozen(fitted)
    assert type(fitted) is type(backbone), "fit gives another type"


def _backbone_card(backbone: Backbone) -> None:
    card = backbone.card
    assert isinstance(card, BackboneCard), f"card is a {type(card).__name__}"
    for name in ("name", "architecture", "summary", "licence"):
        assert getattr(card, name), f"the card has no {name}"
    assert card.kind in ("fixed", "pretrained", "random"), f"kind {card.kind!r}"
    assert card.n_parameters >= 0
    json.dumps(dict(card.options))
    assert card.takes, "the card takes no kind of windows"
    assert set(card.takes) <= set(SAMPLES), f"it takes {card.takes}, of kinds {list(SAMPLES)}"


def _embeds(backbone: Backbone, sample: Sample) -> None:
    windows = sample(0)
    z = backbone.fit(windows, seed=0).embed(windows.x)
    assert z.dtype == np.float32, f"embeddings are {z.dtype}, not float32"
    assert z.ndim == 2, f"embeddings have {z.ndim} axes"
    assert len(z) == len(windows), f"{len(z)} embeddings of {len(windows)} windows"
    assert np.isfinite(z).all(), "embeddings are not finite"
    assert np.ptp(z, axis=0).max() > 0, "all windows have the same embedding"


def _backbone_quiet_channels(backbone: Backbone) -> None:
    windows = usual_windows(backbone)
    fitted = backbone.fit(windows, seed=0)
    still = np.zeros_like(windows.x[:4])
    still[1] = 5
    still[2, 0] = windows.x[0, 0]
    assert np.isfinite(fitted.embed(still)).all(), "constant windows give no finite embedding"


def _backbone_windows_apart(backbone: Backbone) -> None:
    windows = usual_windows(backbone)
    fitted = backbone.fit(windows, seed=0)
    together = fitted.embed(windows.x)
    alone = np.concatenate([fitted.embed(windows.x[i : i + 1]) for i in range(4)])
    assert_agrees(alone, together[:4], ties=TIES)


def _backbone_repeats(backbone: Backbone) -> None:
    windows = usual_windows(backbone)
    first, second = (backbone.fit(windows, seed=3).embed(windows.x) for _ in range(2))
    assert np.array_equal(first, second), "the same seed gives two embeddings"


def _backbone_reads_no_labels(backbone: Backbone) -> None:
    windows = usual_windows(backbone)
    other = dataclasses.replace(windows, y=windows.y[::-1].copy())
    first, second = (backbone.fit(w, seed=0).embed(windows.x) for w in (windows, other))
    assert np.array_equal(first, second), "the embedding depends on the labels"


def _backbone_leaves_input(backbone: Backbone) -> None:
    windows = usual_windows(backbone)
    copy = copy_of(windows)
    windows.x.flags.writeable = False
    backbone.fit(windows, seed=0).embed(windows.x)
    assert_untouched(windows, copy)


def _backbone_portable(backbone: Backbone, sample: Sample) -> None:
    train, test = sample(0), sample(1)
    fitted = backbone.fit(train, seed=0)
    assert_portable(fitted.program(*train.spec.shape), test.x, fitted.embed(test.x))


COMMON_CHECKS: Mapping[str, Check] = {
    "frozen": _backbone_is_frozen,
    "card": _backbone_card,
    "quiet_channels": _backbone_quiet_channels,
    "windows_apart": _backbone_windows_apart,
    "repeats": _backbone_repeats,
    "reads_no_labels": _backbone_reads_no_labels,
    "leaves_input": _backbone_leaves_input,
}


def _sample_checks(kind: Kind) -> dict[str, Check]:
    """What is tried with each sample of a kind: that it embeds, and that its program is true."""
    found: dict[str, Check] = {}
    for name, sample in SAMPLES[kind].items():
        found[name] = partial(_embeds, sample=sample)
        found[f"portable_{name}"] = partial(_backbone_portable, sample=sample)
    return found


SAMPLE_CHECKS: Mapping[Kind, Mapping[str, Check]] = {kind: _sample_checks(kind) for kind in SAMPLES}
BACKBONE_CHECKS: Mapping[str, Check] = {
    **COMMON_CHECKS,
    **{name: check for checks in SAMPLE_CHECKS.values() for name, check in checks.items()},
}


def check_backbone(backbone: Backbone, *, leave_out: Mapping[str, str] | None = None) -> None:
    """All contracts of a backbone that is not fitted yet; `leave_out` maps checks to reasons.

    It embeds windows of each kind that its card names (series of 1 to 9 channels and 24 to 501
    timepoints, sounds at two rates, small and large pictures, short and long text) into finite
    float32, each window by itself, the same for the same seed, without labels and without
    changing its input; and its program, saved, loaded, and as ONNX, computes the same.
    """
    kinds = [kind for kind in SAMPLES if kind in backbone.card.takes]
    others = [name for kind in SAMPLES if kind not in kinds for name in SAMPLE_CHECKS[kind]]
    left_out = {**(leave_out or {}), **dict.fromkeys(others, "it does not take that kind")}
    run_all(BACKBONE_CHECKS, type(backbone).__name__, left_out, backbone)
