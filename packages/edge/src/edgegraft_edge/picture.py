"""Pictures brought to one size, the same wherever they are read.

Resizing is two matrix products, one for rows and one for columns, by triangle weights that widen
where a picture shrinks, so that nothing finer than its new pixels is left to alias; what Pillow
calls bilinear.
"""

from __future__ import annotations

import numpy as np

from edgegraft_edge.signal import Array


def resizing(n_in: int, n_out: int) -> Array:
    """Matrix float32 (n_in, n_out) from the pixels of a line to those of a resized one.

    >>> resizing(4, 2).round(2).T.tolist()
    [[0.43, 0.43, 0.14, 0.0], [0.0, 0.14, 0.43, 0.43]]
    """
    ratio = n_in / n_out
    reach = max(1.0, ratio)
    centre = (np.arange(n_out) + 0.5) * ratio
    away = np.abs(np.arange(n_in)[:, None] + 0.5 - centre) / reach
    weight = np.maximum(0.0, 1.0 - away)
    return np.asarray(weight / weight.sum(axis=0), dtype=np.float32)


def resized(picture: Array, height: int, width: int) -> Array:
    """A picture in another size.

    Args:
        picture: uint8 (n_channels, height, width).

    Returns: uint8 (n_channels, height, width), halves to even.

    >>> resized(np.full((3, 5, 7), 200, np.uint8), 2, 4).tolist()[0]
    [[200, 200, 200, 200], [200, 200, 200, 200]]
    """
    if picture.shape[1:] == (height, width):
        return picture
    columns = resizing(picture.shape[2], width)
    rows = resizing(picture.shape[1], height)
    value = rows.T @ (picture.astype(np.float32) @ columns)
    return np.clip(np.rint(value), 0, 255).astype(np.uint8)
