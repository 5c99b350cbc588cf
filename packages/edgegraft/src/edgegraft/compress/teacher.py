"""What a teacher says of many windows: labelled ones, unlabelled ones, and changed copies of both.

A student sees the same copy that its teacher was asked about (L. Beyer et al., Knowledge
distillation: a good teacher is patient and consistent, CVPR 2022), so a copy need not keep its
label: two windows mixed (H. Zhang et al., mixup, ICLR 2018), a sensor turned in space (T. Um et
al., Data Augmentation of Wearable Sensor Data, ICMI 2017), or channels that stray, get whatever the
teacher says of them. The more a student hears of how people and mountings could differ, the less
it differs from its teacher on people it has not seen. The teacher is asked once; with a cache,
not again by the next run.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgegraft.adapt import checkpoint as store
from edgegraft.adapt.adapted import Predictor
from edgegraft.adapt.augment import vary
from edgegraft.adapt.strategy import Watch, unwatched
from edgegraft.fingerprint import fingerprint
from edgegraft_edge.errors import DataError, ModelError
from edgegraft_edge.signal import Array, Spec, Windows, WindowSpec

MOST_ASKED = {"series": 36_000, "audio": 6_000, "image": 4_000}
"""Windows that a teacher is asked about, copies included, by kind."""
MOST_HELD_OUT = 400
_HELD_OUT = 0.1
_ENOUGH = 60  # windows: of fewer none are held out
_CHUNK = 512
_TURN = 20.0  # degrees: deviation of the angle by which a sensor is turned, about any axis
_STRAY, _STRAY_TURNED = (0.3, 0.3), (0.1, 0.15)
"""Deviations of offsets, in those of a channel, and of the logarithm of gains."""


@dataclass(frozen=True)
class Taught:
    """Windows and what the teacher says of them.

    Attributes:
        x: raw windows (n_versions, n_windows, ...): version 0 as they are, then changed copies.
        probabilities: the teacher's, float32 (n_versions, n_windows, n_classes).
        codes: position of the label in `classes`, int (n_windows,); -1 where there is none.
        groups: text (n_windows,), "" where unknown.
        held_out: whether a window is kept for validation, bool (n_windows,); none of its copies
            is trained on.
        classes: of the teacher.
        spec: of the windows.
    """

    x: Array
    probabilities: Array
    codes: Array
    groups: Array
    held_out: Array
    classes: tuple[str, ...]
    spec: Spec

    @property
    def rows(self) -> Array:
        """Windows to train on."""
        return np.flatnonzero(~self.held_out)

    @property
    def validation(self) -> Array:
        """Windows held out."""
        return np.flatnonzero(self.held_out)

    @property
    def labelled(self) -> Array:
        """Labelled windows to train on."""
        return np.flatnonzero(~self.held_out & (self.codes >= 0))


def taught(
    teacher: Predictor,
    labelled: Windows,
    pool: Windows | None = None,
    *,
    copies: int = 6,
    mixed: int = 6,
    held_out: float = _HELD_OUT,
    held_groups: Sequence[str] = (),
    seed: int = 0,
    watch: Watch = unwatched,
    cache: Path | None = None,
) -> Taught:
    """Ask the teacher.

    Args:
        labelled: what the teacher learned from, or part of it.
        pool: more windows of the same spec; their labels, if any, are not looked at.
        copies: versions of every window that are moved, stretched and scaled; in every other one
            sensors are also turned (channels named x, y, z) and each channel strays by itself.
        mixed: versions in which such a copy is mixed with that of another window.
        held_out: share of the windows kept for validation, at most 400.
        held_groups: keep the windows of these people or machines instead.
        cache: folder; what a teacher said is kept there under the name of its windows.

    Errors: `DataError` "kind-differs" for text, of which nothing here makes a small student.

    >>> from edgegraft.adapt.probe import Probe
    >>> from edgegraft.testing.samples import sample_windows
    >>> from edgegraft.tasks.classification import Classification
    >>> from edgegraft.zoo.registry import load_backbone
    >>> windows = sample_windows()
    >>> model = Probe().adapt(load_backbone("statistics"), windows, Classification(), seed=0)
    >>> found = taught(model, windows, copies=1, mixed=1)
    >>> found.x.shape, found.probabilities.shape
    ((3, 24, 3, 64), (3, 24, 3))
    """
    if labelled.spec.kind == "text":
        raise DataError.of(
            "kind-differs",
            "windows of kind text",
            "no small student reads text",
            "windows of a signal, sound or pictures, or int8 (methods=int8)",
        )
    classes = _classes(teacher, labelled)
    codes, x, groups = labelled.codes(classes), labelled.x, labelled.groups
    if pool is not None and len(pool):
        x = np.concatenate([x, pool.x])
        codes = np.concatenate([codes, np.full(len(pool), -1)])
        groups = np.concatenate([groups, pool.groups])
    random = np.random.default_rng(seed)
    most = MOST_ASKED[labelled.spec.kind]
    if len(x) > most:  # labelled windows come first and stay
        n_labelled = min(len(labelled), most)
        picked = n_labelled + random.permutation(len(x) - n_labelled)[: most - n_labelled]
        rows = np.concatenate([np.arange(n_labelled), np.sort(picked)])
        x, codes, groups = x[rows], codes[rows], groups[rows]
    held = _held(codes, groups, held_out, held_groups, random)
    n_more = max(0, most // len(x) - 1)
    if x.ndim == 3 and x.shape[2] < 3:
        n_more = 0
    if copies + mixed > n_more:
        copies = round(n_more * copies / (copies + mixed))
        mixed = n_more - copies
    versions, triads = [x], axes_of(labelled.spec)
    for index in range(copies + mixed):
        version = vary(x, 1, seed=int(random.integers(1 << 31)))
        if index >= copies:
            version = _mixture(version, held, random)
        versions.append(_strayed(version, triads, random) if index % 2 else version)
    everything = np.stack(versions)
    said = _ask(teacher, everything, labelled.spec, watch, cache)
    return Taught(everything, said, codes, groups, held, classes, labelled.spec)


def _classes(teacher: Predictor, labelled: Windows) -> tuple[str, ...]:
    return tuple(teacher.predict(labelled.take(np.arange(min(1, len(labelled))))).classes)


def _held(
    codes: Array, groups: Array, share: float, names: Sequence[str], random: np.random.Generator
) -> Array:
    """Whole groups where they are named, else windows by chance; of few windows none."""
    if names:
        return np.isin(groups, list(names))
    held = np.zeros(len(codes), dtype=bool)
    if len(codes) >= _ENOUGH and share > 0:
        # a label is worth more in training, as long as there are others to hold out
        order = np.concatenate(
            [random.permutation(np.flatnonzero(own)) for own in (codes < 0, codes >= 0)]
        )
        held[order[: min(MOST_HELD_OUT, int(share * len(codes)))]] = True
    return held


def _mixture(x: Array, held: Array, random: np.random.Generator) -> Array:
    """Each window with another on its own side of the validation."""
    partner = np.arange(len(x))
    for rows in (np.flatnonzero(held), np.flatnonzero(~held)):
        partner[rows] = random.permutation(rows)
    share = random.uniform(0, 1, (len(x), *[1] * (x.ndim - 1))).astype(np.float32)
    mixed = share * x + (1 - share) * x[partner]
    return np.asarray(np.rint(mixed).astype(x.dtype) if x.dtype == np.uint8 else mixed)


def axes_of(spec: Spec) -> tuple[tuple[int, int, int], ...]:
    """Channels that are the x, y and z of one sensor, by their names and units.

    >>> from edgegraft_edge.signal import Channel, WindowSpec
    >>> names = ("acc_x", "acc_y", "acc_z", "gyro_x", "temp")
    >>> axes_of(WindowSpec(1.0, 1.0, 50.0, tuple(Channel(name, "") for name in names)))
    ((0, 1, 2),)
    """
    if not isinstance(spec, WindowSpec):
        return ()
    found: dict[tuple[str, str], dict[str, int]] = {}
    for index, channel in enumerate(spec.channels):
        match = re.fullmatch(r"(.*?)[ _.-]?([xyz])", channel.name, re.IGNORECASE)
        if match:
            found.setdefault((match[1], channel.unit), {})[match[2].lower()] = index
    return tuple((own["x"], own["y"], own["z"]) for own in found.values() if len(own) == 3)


def _strayed(
    x: Array, triads: Sequence[tuple[int, int, int]], random: np.random.Generator
) -> Array:
    """Signals of sensors that are turned, and of channels that differ each by itself."""
    if x.ndim != 3:
        return x
    if triads:
        turned, matrices = x.copy(), _rotations(len(x), random)
        for triad in triads:  # one device: all its sensors turn alike
            turned[:, triad] = np.einsum("nij,njt->nit", matrices, x[:, triad])
        x = turned
    level, gain = _STRAY_TURNED if triads else _STRAY
    shape = (*x.shape[:2], 1)
    moved = level * random.standard_normal(shape) * x.std(axis=(0, 2), keepdims=True)
    louder = np.exp(gain * random.standard_normal(shape))
    mean = x.mean(axis=2, keepdims=True)
    return np.asarray(mean + moved + (x - mean) * louder, dtype=np.float32)


def _rotations(count: int, random: np.random.Generator) -> Array:
    """Matrices (count, 3, 3) about axes in all directions (Rodrigues' formula)."""
    angle = np.deg2rad(_TURN) * random.standard_normal((count, 1, 1))
    axis = random.standard_normal((count, 3))
    x, y, z = (axis / np.linalg.norm(axis, axis=1, keepdims=True)).T
    zero = np.zeros(count)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=1).reshape(count, 3, 3)
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * (cross @ cross))


def _ask(teacher: Predictor, x: Array, spec: Spec, watch: Watch, cache: Path | None) -> Array:
    """Probabilities float32 (n_versions, n_windows, n_classes)."""
    path = None
    if cache is not None and (mark := _mark(teacher, x)):
        path = cache / f"teacher-{mark[:16]}.safetensors"
        kept = store.read(path)
        if kept is not None and "probabilities" in kept.tensors:
            return kept.tensors["probabilities"]
    flat = x.reshape(-1, *x.shape[2:])
    parts = []
    for first in range(0, len(flat), _CHUNK):
        part = flat[first : first + _CHUNK]
        blank = np.full(len(part), "")
        said = teacher.predict(Windows(part, blank, blank, spec))
        parts.append(np.asarray(said.probabilities, np.float32))
        watch("asked", {"windows": first + len(part), "of": len(flat)})
    table = np.concatenate(parts).reshape(*x.shape[:2], -1)
    if not np.isfinite(table).all():
        raise ModelError.of(
            "probabilities-nan",
            f"a teacher that gave {int((~np.isfinite(table)).sum())} values that are no number",
            "nothing can be learned from such a teacher",
            "look for missing values in the windows (edgegraft doctor)",
        )
    if path is not None:
        store.write(path, store.Checkpoint({"probabilities": table}, {}))
    return table


def _mark(teacher: Predictor, x: Array) -> str:
    """What an answer depends on; "" for a teacher whose content cannot be told."""
    program = getattr(teacher, "program", None)
    return "" if program is None else fingerprint(program, x)
