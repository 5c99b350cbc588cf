"""The usual level and scale of each channel, and windows brought to them in a program."""

from __future__ import annotations

import numpy as np

from edgegraft_edge.errors import DataError
from edgegraft_edge.program import Draft
from edgegraft_edge.signal import Array, Windows

_FARTHEST = 1e6  # scales from the centre; beyond, powers would leave float32


def usual_level(windows: Windows) -> tuple[Array, Array]:
    """Median and deviation of each channel, float32 (n_channels,), spikes left aside.

    A channel that is constant keeps its unit: its scale is 1.

    Errors: `DataError` when there are no windows, or values that are not finite.

    >>> centre, scale = usual_level(Windows.of(np.array([[[1.0, 3.0], [5.0, 5.0]]])))
    >>> centre.tolist(), scale.round(2).tolist()
    ([2.0, 5.0], [1.0, 1.0])
    """
    check_fit(windows)
    values = windows.x.transpose(1, 0, 2).reshape(windows.x.shape[1], -1).astype(np.float64)
    centre = np.median(values, axis=1)
    low, high = np.quantile(values, [0.001, 0.999], axis=1)[:, :, None]
    scale = np.clip(values, low, high).std(axis=1)
    scale = np.where(scale > 0, scale, values.std(axis=1))
    alive = scale > 1e-6 * np.maximum(np.abs(centre), 1e-24)
    return centre.astype(np.float32), np.where(alive, scale, 1.0).astype(np.float32)


def check_fit(windows: Windows) -> None:
    """Refuse training windows from which nothing can be learned.

    Errors: `DataError` when there are none, or values that are not finite.
    """
    if not windows.x.size:
        raise DataError.of(
            "windows-none",
            f"windows of shape {windows.x.shape}",
            "a backbone takes level and scale from training windows",
            "give at least one window",
        )
    finite = [bool(np.isfinite(values).all()) for values in windows.x.transpose(1, 0, 2)]
    if not all(finite):
        names = [
            n for n, good in zip(windows.series.channel_names, finite, strict=True) if not good
        ]
        raise DataError.of(
            "windows-not-finite",
            f"NaN or infinity in channel {', '.join(names)}",
            "no feature of it would be a number",
            "fill or drop these windows first (edgegraft doctor shows where)",
        )


def window_shape(x: Array) -> tuple[int, int]:
    """(n_channels, n_timepoints) of windows. Errors: `DataError` if there are not three axes."""
    shape = np.shape(x)
    if len(shape) != 3:
        raise DataError.of(
            "window-shape",
            f"x has {len(shape)} axes, shape {shape}",
            "windows are (n_windows, n_channels, n_timepoints)",
            "reshape x; one channel is x[:, None, :]",
        )
    return shape[1], shape[2]


def check_shape(
    name: str, n_channels: int, n_timepoints: int, fitted_channels: int, least: int
) -> None:
    """Refuse windows that a fitted backbone cannot take.

    Errors: `DataError` for other channels than those of `fit`, or too few timepoints.
    """
    if n_channels != fitted_channels:
        raise DataError.of(
            "channel-count",
            f"windows of {n_channels} channels",
            f"{name} was fitted to {fitted_channels}",
            "give the channels it was fitted to, or fit it again",
        )
    if n_timepoints < least:
        raise DataError.of(
            "window-short",
            f"windows of {n_timepoints} timepoints",
            f"{name} needs {least}",
            f"cut windows of at least {least} timepoints, or take another backbone",
        )


def to_usual(draft: Draft, centre: Array, scale: Array) -> str:
    """Windows in a program, at the level and in the scale of training, bounded."""
    centre, scale = centre[:, None], scale[:, None]
    reach = np.minimum(scale.astype(np.float64) * _FARTHEST, 1e30)
    bounded = draft.add("minimum", "x", (centre + reach).astype(np.float32))
    bounded = draft.add("maximum", bounded, (centre - reach).astype(np.float32))
    return draft.add("div", draft.add("sub", bounded, centre), scale)


def usual_features(z: Array) -> tuple[Array, Array]:
    """Mean of each feature over the training windows and the gain of `squash`, float32 (dim,)."""
    mean, spread = z.mean(axis=0, dtype=np.float64), z.std(axis=0, dtype=np.float64)
    size = 1 + np.abs(mean)
    # Not below some hundredths, or a feature that hardly varies would show its rounding.
    gain = np.where(spread > 1e-6 * size, 0.5 / np.maximum(spread, 0.03 * size), 0.0)
    return mean.astype(np.float32), gain.astype(np.float32)


def squash(draft: Draft, features: str, mean: Array, gain: Array) -> str:
    """Features (n, dim) between -1 and 1: four deviations away is as far as anything gets.

    With few training windows a feature of an unseen window can lie a hundred deviations out, and
    would drown all others in a linear head.
    """
    return draft.add("tanh", draft.add("mul", draft.add("sub", features, mean), gain))


def check_dim(name: str, found: int, fitted: int) -> None:
    """Refuse windows whose length gives other features than `fit` saw."""
    if found != fitted:
        raise DataError.of(
            "window-length",
            f"windows that give {found} features",
            f"{name} was fitted to windows that give {fitted}",
            "cut windows as long as those it was fitted to, or fit it again",
        )


def centred(draft: Draft, value: str) -> tuple[str, str]:
    """A value (n, c, t) less its mean over time, and that mean (n, c, 1).

    Twice, because one pass leaves the rounding of a large mean behind, which then looks like
    a signal where there is none.
    """
    first = draft.add("mean", value, axes=[2])
    rough = draft.add("sub", value, first)
    second = draft.add("mean", rough, axes=[2])
    return draft.add("sub", rough, second), draft.add("add", first, second)
