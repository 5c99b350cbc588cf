"""Checks of pictures, beside those of any data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from edgegraft.data.finding import Evidence, Finding
from edgegraft_edge.picture import LUMA, resizing
from edgegraft_edge.signal import UNLABELLED, Array, ImageSpec, Windows

BLANK = 2.0  # deviation of grey levels below which there is nothing to see
FEW = 0.05  # share of pictures from which a fault is trouble
_SIDE = 32  # pixels of a thumbnail
_BITS = 8  # lowest frequencies of it along each side that make a hash
_APART = 6  # bits of 64 in which the hashes of one picture may differ
_ALIKE = 0.95  # correlation of thumbnails
_AT_ONCE = 1024


def thumbnails(x: Array) -> Array:
    """Grey pictures of one small size, float32 (n_windows, 32, 32), of uint8 (n, c, h, w)."""
    rows, columns = resizing(x.shape[2], _SIDE).T, resizing(x.shape[3], _SIDE)
    weights = np.array(LUMA if x.shape[1] == 3 else (1.0,), np.float32)
    out = np.empty((len(x), _SIDE, _SIDE), np.float32)
    for index, picture in enumerate(x):
        out[index] = rows @ np.tensordot(weights, picture.astype(np.float32), axes=1) @ columns
    return out


def perceptual_hashes(small: Array) -> Array:
    """Signs of the lowest frequencies of thumbnails (n, 32, 32), float32 (n, 64) of -1 and 1.

    Two copies of a picture that differ in size, brightness or compression have nearly the same
    (pHash: Zauner, Implementation and benchmarking of perceptual image hash functions, 2010).
    """
    place = np.arange(_SIDE) + 0.5
    waves = np.cos(np.pi / _SIDE * place[:, None] * np.arange(_BITS + 1)[None, 1:])
    low = np.einsum("nij,ia,jb->nab", small, waves, waves, optimize=True).reshape(len(small), -1)
    middle = np.median(low, axis=1, keepdims=True) if len(low) else low
    return np.where(low > middle, np.float32(1), np.float32(-1))


def alike(ours: Array, theirs: Array | None = None) -> list[tuple[int, int]]:
    """Pairs of thumbnails (n, 32, 32) that show the same, by hash and then by correlation.

    Within `ours`, or of `ours` and `theirs`. Where all pictures are alike, as from a fixed
    camera, only those count that are much closer than any two usually are.
    """
    within = theirs is None
    theirs = ours if theirs is None else theirs
    if not len(ours) or not len(theirs):
        return []
    hash_a, hash_b = perceptual_hashes(ours), perceptual_hashes(theirs)
    flat_a, flat_b = _normal(ours), _normal(theirs)
    least = _least_alike(flat_a, flat_b)
    found = []
    for start in range(0, len(ours), _AT_ONCE):
        stop = start + _AT_ONCE
        near = hash_a[start:stop] @ hash_b.T >= _BITS**2 - 2 * _APART
        for one, other in np.argwhere(near):
            one += start
            if within and one >= other:
                continue
            if float(flat_a[one] @ flat_b[other]) >= least:
                found.append((int(one), int(other)))
        if len(found) > 100_000:  # enough is known
            break
    return found


def _normal(small: Array) -> Array:
    """Thumbnails as vectors of mean 0 and length 1; blank ones are 0 and like nothing."""
    flat = small.reshape(len(small), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.where(length > BLANK * _SIDE, flat / np.maximum(length, 1e-6), 0)


def _least_alike(a: Array, b: Array) -> float:
    """The correlation from which two pictures count as one, given what is usual here."""
    random = np.random.default_rng(0)
    one, other = random.integers(len(a), size=2000), random.integers(len(b), size=2000)
    usual = 1 - np.einsum("ij,ij->i", a[one], b[other])
    usual = usual[usual > 1e-6]
    if len(usual) < 500:
        return _ALIKE
    return max(_ALIKE, 1 - 0.05 * float(np.median(usual)))


def check_repeats(evidence: Evidence) -> Iterator[Finding]:
    """Pictures that show the same: worst where label or group differ."""
    windows = evidence.windows
    pairs = alike(thumbnails(windows.x))
    if not pairs:
        return
    clash = [(a, b) for a, b in pairs if _differ(windows.y, a, b)]
    if clash:
        a, b = clash[0]
        yield Finding(
            "label-conflict",
            "trouble",
            f"{len(clash)} pairs of pictures show the same under two labels: "
            f"{_name(windows, a)} ({windows.y[a]}) and {_name(windows, b)} ({windows.y[b]})",
            "decide on one label for each",
        )
    across = [(a, b) for a, b in pairs if _differ(windows.groups, a, b)]
    a, b = (across or pairs)[0]
    between = "of different groups " if across else ""
    yield Finding(
        "content-repeated",
        "trouble" if across else "warning",
        f"{len(across or pairs)} pairs of pictures {between}show nearly the same: "
        f"{_name(windows, a)} and {_name(windows, b)}",
        "keep one of each, or give copies one group: what is on both sides makes scores too good",
    )


def check_test_repeats(evidence: Evidence) -> Iterator[Finding]:
    """Pictures that are in training and, as they are or nearly, in the test."""
    windows, test = evidence.windows, evidence.test
    if test is None or not isinstance(test.spec, ImageSpec):
        return
    pairs = alike(thumbnails(windows.x), thumbnails(test.x))
    if pairs:
        ours, theirs = pairs[0]
        n_test = len({pair[1] for pair in pairs})
        yield Finding(
            "train-test-repeated",
            "trouble",
            f"{n_test} of {len(test)} test pictures show nearly what a training picture shows: "
            f"{_name(test, theirs)} and {_name(windows, ours)}",
            "remove them from one side",
        )


def check_test_size(evidence: Evidence) -> Iterator[Finding]:
    """Whether the test pictures have the size and colours of the training pictures."""
    test = evidence.test
    if test is not None and test.spec.shape != evidence.windows.spec.shape:
        yield Finding(
            "window-shape",
            "trouble",
            f"pictures of {_said(evidence.windows)}, in the test data {_said(test)}",
            "the same size=... and colour=... for both",
        )


def check_light(evidence: Evidence) -> Iterator[Finding]:
    """Pictures that are blank, dark, washed out or clipped."""
    windows = evidence.windows
    if not len(windows):
        return
    low, high, full = np.empty((3, len(windows)))
    deviation = np.empty(len(windows))
    for index, picture in enumerate(windows.x):
        low[index], high[index] = np.quantile(picture, [0.01, 0.99])
        deviation[index] = picture.std()
        full[index] = (picture == 255).all(axis=0).mean()
    blank = deviation < BLANK
    usual = float(np.median(full))
    faults = (
        ("picture-blank", blank, "are blank", "check the camera, or remove them"),
        ("picture-dark", ~blank & (high < 64), "are very dark", "more light; 12 bits in 16 are "
         "dark as well: scale them"),
        ("picture-bright", ~blank & (low > 191), "are washed out", "less light, or less exposure"),
        ("picture-clipped", ~blank & (full > usual + 0.25), "are white in large parts, which "
         "others are not", "less light, or less exposure"),
    )  # fmt: skip
    for code, bad, what, remedy in faults:
        if bad.any():
            first = _name(windows, int(np.argmax(bad)))
            severity = "trouble" if code == "picture-blank" and bad.mean() > FEW else "warning"
            text = f"{int(bad.sum())} of {len(windows)} pictures {what}, the first is {first}"
            yield Finding(code, severity, text, remedy)


def check_sizes(evidence: Evidence) -> Iterator[Finding]:
    """Files of very different sizes or proportions, or smaller than what is made of them."""
    spec = evidence.windows.spec
    values = _logged(evidence, "picture-sizes")
    if not values or not isinstance(spec, ImageSpec):
        return
    narrow, wide = values["proportions"]
    made = spec.width / spec.height
    if max(wide / made, made / narrow) > 1.5 and spec.fit != "pad":
        lost = "the middle is cut out" if spec.fit == "crop" else "they are stretched"
        yield Finding(
            "picture-proportions",
            "warning",
            f"files are {narrow:.2g} to {wide:.2g} times as wide as high, and {lost}",
            "fit='pad' keeps all of each",
        )
    least, most = values["pixels"]
    if most > 16 * least:
        yield Finding(
            "picture-sizes-differ",
            "warning",
            f"the largest file has {most / least:.0f} times the pixels of the smallest",
            "sharpness differs with it; see that no class has it for its own",
        )
    if least < 0.25 * spec.height * spec.width:
        yield Finding(
            "picture-small",
            "note",
            f"the smallest file has {least} pixels and is enlarged to {_said(evidence.windows)}",
            "a smaller size=... costs less and loses nothing",
        )
    if values["tells_label"] > 0.5:
        yield Finding(
            "size-tells-label",
            "trouble",
            f"the size of a file alone tells its label: {values['tells_label']:.0%} of the way "
            "from guessing to knowing",
            "a model may learn the camera or the source: take all classes with one",
        )


def check_colours(evidence: Evidence) -> Iterator[Finding]:
    """Grey pictures among coloured ones, worst where it goes by label."""
    windows = evidence.windows
    if windows.x.shape[1] != 3 or not len(windows):
        return
    grey = np.array([(p[0] == p[1]).all() and (p[1] == p[2]).all() for p in windows.x])
    if not grey.any() or grey.all():
        return
    told = tells(grey.tolist(), windows.y.tolist())
    by_label = told > 0.5
    yield Finding(
        "colour-tells-label" if by_label else "colour-mixed",
        "trouble" if by_label else "warning",
        f"{int(grey.sum())} of {len(windows)} pictures are grey"
        + (", and that alone tells the label" if by_label else ""),
        "colour='grey' makes all alike",
    )


def check_parts(evidence: Evidence) -> Iterator[Finding]:
    """Folders of training and of test that were opened as one."""
    values = _logged(evidence, "parts-joined")
    if values:
        yield Finding(
            "parts-joined",
            "warning",
            f"the folders {values['parts']} were read as one set",
            "open the one for training, and the other as test data",
        )


def tells(known: list[Any], labels: list[str]) -> float:
    """How much a property tells of the label: 0 as good as guessing, 1 all of it.

    >>> tells([1] * 4 + [2] * 4, list("aaaabbbb")), tells([1, 2] * 4, list("aaaabbbb"))
    (1.0, 0.0)
    """
    pairs = [(one, label) for one, label in zip(known, labels, strict=True) if label != UNLABELLED]
    if len({label for _, label in pairs}) < 2 or 4 * len(dict(pairs)) > len(pairs):
        return 0.0  # what is nearly different for each tells nothing
    guess = max(Counter(label for _, label in pairs).values()) / len(pairs)
    by: dict[Any, Counter[str]] = {}
    for one, label in pairs:
        by.setdefault(one, Counter())[label] += 1
    known_right = sum(max(counts.values()) for counts in by.values()) / len(pairs)
    return (known_right - guess) / (1 - guess)


def summary(evidence: Evidence) -> dict[str, Any]:
    """Size and colours of the pictures, and of their files, in plain values."""
    values = _logged(evidence, "picture-sizes")
    found = {"pictures": _said(evidence.windows)}
    if values:
        more = values["different"] - len(values["sizes"])
        sizes = ", ".join(f"{size} ({count})" for size, count in values["sizes"].items())
        found["files"] = sizes + (f" and {more} more sizes" if more > 0 else "")
    return found


def _said(windows: Windows) -> str:
    spec = windows.spec
    assert isinstance(spec, ImageSpec)
    return f"{spec.width} x {spec.height} {'grey' if spec.n_channels == 1 else 'in colour'}"


def _logged(evidence: Evidence, name: str) -> dict[str, Any]:
    return next((dict(step.values) for step in evidence.dataset.log if step.name == name), {})


def _differ(values: Array, one: int, other: int) -> bool:
    """Whether both are known, and not the same."""
    return bool(values[one] != values[other] and values[one] != "" and values[other] != "")


def _name(windows: Windows, index: int) -> str:
    number = int(windows.recording[index])
    return windows.names[number] if number < len(windows.names) else f"picture {number}"


CHECKS: tuple[Callable[[Evidence], Iterator[Finding]], ...] = (
    check_repeats,
    check_test_repeats,
    check_test_size,
    check_light,
    check_sizes,
    check_colours,
    check_parts,
)
