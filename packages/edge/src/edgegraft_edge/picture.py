"""Pictures read and brought to one size and colour, the same wherever they are read.

Resizing is two matrix products, one for rows and one for columns, by triangle weights that widen
where a picture shrinks, so that nothing finer than its new pixels is left to alias; what Pillow
calls bilinear. Pillow only decodes (extra ``image``); all that follows is NumPy.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from edgegraft_edge import parts
from edgegraft_edge.errors import DataError
from edgegraft_edge.signal import Array, Fit, ImageSpec

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF", "PPM")
MAX_PIXELS = 64_000_000
MAX_BYTES = 1 << 28
LUMA = (0.299, 0.587, 0.114)
"""What red, green and blue give to grey (ITU-R BT.601)."""
_COLUMNS = 16  # of a resized picture that are computed at once


def read_picture(source: bytes | str | Path) -> Array:
    """The pixels of a picture, upright; what it is goes by its content, not by its suffix.

    Transparency lies over white. Sixteen bits a pixel become eight, palettes and CMYK become
    red, green and blue, and of an animation the first frame counts. Metadata other than the
    orientation is not looked at, colour profiles neither.

    Args:
        source: the bytes of a PNG, JPEG, BMP, WebP, GIF, TIFF or PPM file, or its path.

    Returns: uint8 (n_channels, height, width): three channels, or one where the file is grey.

    Errors: `DataError` "picture-empty", "picture-truncated", "picture-large",
    "picture-unreadable", "file-unreadable"; `OptionError` "extra-missing" without Pillow.

    >>> read_picture(b"P5 2 1 255 " + bytes([7, 9])).tolist()
    [[[7, 9]]]
    """
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ModuleNotFoundError:
        raise parts.missing("reading pictures", "pillow", "edgegraft-edge", "image") from None
    data, place = _content(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, which is not used
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise DataError.of(
                        "picture-large",
                        f"{place} of {image.width} x {image.height} pixels",
                        f"at most {MAX_PIXELS // 1_000_000} million are read",
                        "make it smaller, or cut it into tiles",
                    )
                image.load()
                return _pixels(ImageOps.exif_transpose(image), place)
    except (DataError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise DataError.of(
            "picture-large", f"{place}: {str(error)[:80]}", "it is too large", "make it smaller"
        ) from None
    except Exception as error:  # decoders raise many kinds on damaged files
        if "truncated" in str(error) or "Truncated" in str(error):
            raise DataError.of(
                "picture-truncated", place, "it ends before its last pixel", "write it again"
            ) from error
        known = not isinstance(error, UnidentifiedImageError)
        raise _unreadable(place, str(error) if known else "its begin is of no format") from error


def read_window(source: bytes | str | Path, spec: ImageSpec) -> Array:
    """A picture as a bundle takes it, uint8 (n_channels, height, width). Errors: `read_picture`."""
    picture = coloured(read_picture(source), spec.n_channels)
    return fitted(picture, spec.height, spec.width, spec.fit)


def coloured(picture: Array, n_channels: int) -> Array:
    """A picture, uint8 (any, height, width), in grey (1) or in red, green and blue (3).

    >>> coloured(np.array([[[255]], [[0]], [[0]]], np.uint8), 1).tolist()
    [[[76]]]
    """
    if len(picture) == n_channels:
        return picture
    if n_channels == 3:
        return np.repeat(picture, 3, axis=0)
    grey = np.tensordot(np.array(LUMA, np.float32), picture.astype(np.float32), axes=1)
    return np.asarray(np.rint(grey), dtype=np.uint8)[None]


def is_grey(picture: Array) -> bool:
    """Whether a picture, uint8 (n_channels, height, width), has no colour in it."""
    red = picture[0]
    return len(picture) == 1 or all(np.array_equal(red, band) for band in picture[1:])


def fitted(picture: Array, height: int, width: int, fit: Fit) -> Array:
    """A picture in another size, uint8 (n_channels, height, width).

    Args:
        fit: "crop" keeps the largest middle part of the new proportions; "stretch" squeezes the
            whole of it; "pad" keeps the whole and its proportions, with black beside it.

    >>> wide = np.repeat(np.arange(0, 80, 10, dtype=np.uint8)[None, None], 4, axis=1)
    >>> fitted(wide, 1, 1, "crop").tolist(), fitted(wide, 2, 2, "pad").tolist()
    ([[[35]]], [[[19, 51], [0, 0]]])
    """
    _, rows, columns = picture.shape
    if fit == "crop":
        kept_rows = max(1, min(rows, round(columns * height / width)))
        kept_columns = max(1, min(columns, round(rows * width / height)))
        top, left = (rows - kept_rows) // 2, (columns - kept_columns) // 2
        picture = picture[:, top : top + kept_rows, left : left + kept_columns]
    if fit != "pad":
        return resized(picture, height, width)
    scale = min(height / rows, width / columns)
    small = (max(1, min(height, round(rows * scale))), max(1, min(width, round(columns * scale))))
    top, left = (height - small[0]) // 2, (width - small[1]) // 2
    out = np.zeros((len(picture), height, width), np.uint8)
    out[:, top : top + small[0], left : left + small[1]] = resized(picture, *small)
    return out


def resizing(n_in: int, n_out: int) -> Array:
    """Matrix float32 (n_in, n_out) from the pixels of a line to those of a resized one.

    >>> resizing(4, 2).astype(float).round(2).T.tolist()
    [[0.43, 0.43, 0.14, 0.0], [0.0, 0.14, 0.43, 0.43]]
    """
    ratio = n_in / n_out
    reach = max(1.0, ratio)
    centre = (np.arange(n_out) + 0.5) * ratio
    away = np.abs(np.arange(n_in)[:, None] + 0.5 - centre) / reach
    weight = np.maximum(0.0, 1.0 - away)
    return np.asarray(weight / weight.sum(axis=0), dtype=np.float32)


def resized(picture: Array, height: int, width: int) -> Array:
    """A picture stretched or squeezed to another size.

    Args:
        picture: uint8 (n_channels, height, width).

    Returns: uint8 (n_channels, height, width), halves to even.

    >>> resized(np.full((3, 5, 7), 200, np.uint8), 2, 4).tolist()[0]
    [[200, 200, 200, 200], [200, 200, 200, 200]]
    """
    if picture.shape[1:] == (height, width):
        return picture
    narrow = _shrunk(picture, resizing(picture.shape[2], width))
    value = _shrunk(narrow.transpose(0, 2, 1), resizing(picture.shape[1], height))
    return np.clip(np.rint(value.transpose(0, 2, 1)), 0, 255).astype(np.uint8)


def _shrunk(x: Array, matrix: Array) -> Array:
    """float32 x @ matrix, by parts: of a large picture, most weights of a column are zero."""
    n_out = matrix.shape[1]
    out = np.empty((*x.shape[:2], n_out), np.float32)
    for start in range(0, n_out, _COLUMNS):
        columns = matrix[:, start : start + _COLUMNS]
        used = np.flatnonzero(columns.any(axis=1))
        first, last = int(used[0]), int(used[-1]) + 1
        out[:, :, start : start + _COLUMNS] = (
            x[:, :, first:last].astype(np.float32) @ columns[first:last]
        )
    return out


def _content(source: bytes | str | Path) -> tuple[bytes, str]:
    """The bytes of a picture, and what to call it."""
    if isinstance(source, bytes):
        data, place = source, f"a picture of {len(source)} bytes"
    else:
        path, place = Path(source), str(source)
        try:
            if path.stat().st_size > MAX_BYTES:
                raise DataError.of(
                    "picture-large",
                    f"{place} of more than {MAX_BYTES >> 20} MiB",
                    "a picture is read into memory",
                    "make it smaller",
                )
            data = path.read_bytes()
        except OSError as error:
            raise DataError.of(
                "file-unreadable", place, error.strerror or "it cannot be read", "check the path"
            ) from error
    if not data:
        raise DataError.of("picture-empty", place, "it has no bytes", "write it again")
    return data, place


def _pixels(image: Any, place: str) -> Array:
    """uint8 (n_channels, height, width) of a loaded image of Pillow's, whatever its mode."""
    mode = image.mode
    if mode.startswith("I"):
        wide = np.asarray(image).astype(np.int64)
        return np.clip(np.rint(wide / 257), 0, 255).astype(np.uint8)[None]
    if mode == "F":
        raise _unreadable(place, "its pixels are real numbers without a range")
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        rgba = np.asarray(image.convert("RGBA")).astype(np.float32)
        share = rgba[:, :, 3:] / 255
        over = np.rint(rgba[:, :, :3] * share + 255 * (1 - share)).astype(np.uint8)
        grey = mode in ("L", "LA", "La", "1")
        return np.ascontiguousarray(over.transpose(2, 0, 1)[: 1 if grey else 3])
    if mode in ("1", "L"):
        return np.asarray(image.convert("L"))[None].copy()
    return np.ascontiguousarray(np.asarray(image.convert("RGB")).transpose(2, 0, 1))


def _unreadable(place: str, found: str) -> DataError:
    return DataError.of(
        "picture-unreadable",
        f"{place}: {found[:80]}",
        "it is not a whole picture of a known format",
        "a PNG, JPEG, BMP or WebP file",
    )
