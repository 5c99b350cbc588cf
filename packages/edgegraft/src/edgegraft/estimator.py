"""A scikit-learn classifier on windows, for ``cross_val_score`` and ``Pipeline``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from edgegraft.adapt.strategy import build_strategy
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

    def fit(self, x: Array, y: Array, groups: Array | None = None) -> TransferClassifier:
        """Fit on windows x (n_windows, n_channels, n_timepoints) and labels y (n_windows,)."""
        y, x = np.asarray(y), _finite(x)
        self.classes_, codes = np.unique(y, return_inverse=True)
        # codes with leading zeros sort as the classes do
        names = np.char.zfill(codes.astype(str), len(str(len(self.classes_))))
        windows = Windows.of(x, names, groups, rate_hz=self.rate_hz)
        strategy = build_strategy(self.strategy, self.options)
        self.adapted_ = strategy.adapt(
            load_backbone(self.backbone), windows, Classification(), seed=self.seed
        )
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
