"""A scikit-learn classifier on windows, for ``cross_val_score`` and ``Pipeline``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from edgegraft.adapt.strategy import build_strategy
from edgegraft.plan import LABELS_ALONE
from edgegraft.tasks.classification import Classification
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge.errors import DataError
from edgegraft_edge.signal import Array, Windows


class TransferClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Adapt one backbone by one strategy, as a scikit-learn estimator.

    Args:
        backbone: name of a backbone, or a path to weights.
        strategy: name of a strategy.
        rate_hz: samples a second, if known.
        options: strategy options, ``{"blend.copies": 0}``.
        seed: fixes every random choice.

    Unlike `adapt` it runs no controls: put it beside your own in ``cross_val_score``.

    Windows labelled "" or None are the pool; for a strategy that draws on a pool (``guard``,
    ``spread``) -1 stands for that too, as in scikit-learn's semi-supervised estimators. With
    `domains` windows of other devices are sources, by name; "" is the target.

    >>> x = np.random.default_rng(0).normal(size=(20, 2, 40)); x[10:] *= 4
    >>> model = TransferClassifier("statistics", "probe").fit(x, [0] * 10 + [1] * 10)
    >>> model.predict(x[:2]).tolist()
    [0, 0]
    """

    def __init__(
        self,
        backbone: str = "conv1d-motion",
        strategy: str = "blend",
        *,
        rate_hz: float = 1.0,
        options: Mapping[str, Any] | None = None,
        seed: int = 0,
    ):
        self.backbone = backbone
        self.strategy = strategy
        self.rate_hz = rate_hz
        self.options = options
        self.seed = seed

    def fit(
        self, x: Array, y: Array, groups: Array | None = None, domains: Array | None = None
    ) -> TransferClassifier:
        """Fit on windows x (n_windows, n_channels, n_timepoints) and labels y (n_windows,).

        Args:
            groups: person, machine or site of each window, text (n_windows,).
            domains: source domain of each window, text (n_windows,); "" for the target.

        Errors: `DataError` for windows that are not finite, or without two classes.
        """
        y, x = np.asarray(y), _finite(x)
        known = ~_missing(y, minus_one=self.strategy not in LABELS_ALONE)
        classes, codes = np.unique(y[known], return_inverse=True)
        # codes with leading zeros sort as the classes do
        names = np.full(len(y), "", dtype=f"<U{len(str(len(classes)))}")
        if known.any():
            names[known] = np.char.zfill(codes.astype(str), len(str(len(classes))))
        windows = Windows.of(x, names, groups, rate_hz=self.rate_hz)
        if domains is not None:
            windows = replace(windows, domains=np.asarray(domains).astype(str))
        strategy = build_strategy(self.strategy, self.options)
        self.adapted_ = strategy.adapt(
            load_backbone(self.backbone), windows, Classification(), seed=self.seed
        )
        self.classes_ = classes[[int(name) for name in self.adapted_.classes]]
        self.n_features_in_ = windows.x.shape[1]
        return self

    def predict_proba(self, x: Array) -> Array:
        """Probabilities (n_windows, n_classes), columns as in ``classes_``."""
        check_is_fitted(self, "adapted_")
        windows = Windows.of(_finite(x), rate_hz=self.rate_hz)
        return self.adapted_.predict(windows).probabilities

    def predict(self, x: Array) -> Array:
        """The most likely class of each window (n_windows,)."""
        labels: Array = self.classes_[self.predict_proba(x).argmax(axis=1)]
        return labels


def _missing(y: Array, *, minus_one: bool) -> Array:
    """Bool (n_windows,): where there is no label."""
    if y.dtype.kind in "fiu":
        gone: Array = (y == -1) & minus_one
        return gone | np.isnan(y) if y.dtype.kind == "f" else gone
    return np.array([each is None or str(each) == "" for each in y.tolist()], dtype=bool)


def _finite(x: Array) -> Array:
    x = np.asarray(x, dtype=np.float32)
    if not np.isfinite(x).all():
        raise DataError.of(
            "windows-not-finite",
            "x holds NaN or infinity",
            "features of such windows are not numbers",
            "drop or fill those windows first",
        )
    return x
