"""Where in a picture a model looked: class-activation maps of any program.

The last maps of a network, those that are averaged over all places and not convolved again,
are weighed by the gradient of what was said (Grad-CAM: Selvaraju et al., ICCV 2017). For one
linear head on averages that is the class-activation map of Zhou et al., CVPR 2016. A model
without such maps, with very coarse ones, or with trees on top of them, is asked instead: the
picture is covered patch by patch, and what each patch costs is the map (Zeiler and Fergus, ECCV
2014).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edgegraft_edge.bundle import Bundle
from edgegraft_edge.errors import DataError, OptionError, nearest
from edgegraft_edge.files import replace_file
from edgegraft_edge.picture import resizing
from edgegraft_edge.program import INPUT, Op, Program
from edgegraft_edge.signal import Array, Windows

if TYPE_CHECKING:
    from torch import Tensor

N_PATCHES = 8
COARSE = 6
"""Places a side below which a map of a network says too little of where."""
FEW = 8
"""Pictures whose mean says what is usual."""
_AT_ONCE = 32
How = Literal["auto", "gradient", "cover"]


def activation_maps(
    program: Program,
    x: Array,
    targets: Array | None = None,
    *,
    how: How = "auto",
    usual: Array | None = None,
) -> Array:
    """How much each place of a picture spoke for a class.

    Args:
        program: from raw pictures to class probabilities, e.g. ``bundle.program``.
        x: (n_windows, n_channels, height, width).
        targets: int (n_windows,), the class asked about; what the model says, if not given.
        how: "gradient" where the program has maps that lead to its answer smoothly, "cover"
            for any; "auto" takes the first that works.
        usual: pictures (n_windows, n_channels, height, width) whose mean map is taken off, so
            that edges and what all pictures share do not count, e.g. ``bundle.golden``; `x`
            itself where there are `FEW` of them, if not given.

    Returns: float32 (n_windows, height, width), 0 to 1 in each picture; all 0 where nothing spoke
    for the class.

    >>> from edgegraft.testing.samples import sample_pictures
    >>> from edgegraft_edge.program import Draft
    >>> draft = Draft()
    >>> bright = draft.add("mean", draft.add("relu", "x"), axes=[2, 3], keepdims=False)
    >>> program = draft.finish(draft.add("softmax", draft.add("mul", bright, np.float32(0.01))))
    >>> activation_maps(program, sample_pictures().x).shape
    (12, 32, 40)
    """
    x = np.asarray(x)
    if targets is None:
        targets = program.run(x).argmax(axis=1)
    tops = last_maps(program) if how != "cover" else ()
    if how == "auto" and tops and _places(program, x[:1], tops) < COARSE:
        tops = ()
    if tops:
        usual = x if usual is None and len(x) >= FEW else usual
        shared = {} if usual is None else _mean_values(program, usual, tops)
        maps = np.concatenate(
            [
                _gradient(program, x[i : i + _AT_ONCE], targets[i : i + _AT_ONCE], tops, shared)
                for i in range(0, len(x), _AT_ONCE)
            ]
        )
        if how == "gradient" or maps.any():
            return maps
    return _cover(program, x, targets)


def _places(program: Program, x: Array, tops: tuple[str, ...]) -> int:
    """Places along the shorter side of the finest of the last maps."""
    shapes = [value.shape[2:] for value in _mean_values(program, x, tops).values()]
    return max((min(shape) for shape in shapes if len(shape) == 2), default=0)


def last_maps(program: Program) -> tuple[str, ...]:
    """Values that are averaged over both axes of a picture and not convolved after that."""
    convolved: set[str] = set()  # values that lead to a convolution
    for op in reversed(program.ops):
        if op.kind in ("conv2d", "max_pool2d") or op.output in convolved:
            convolved.update(op.inputs)
    averaged: set[str] = set()  # values that have no places any more
    found: dict[str, None] = {}
    for op in program.ops:
        if averaged & set(op.inputs):
            averaged.add(op.output)
        elif _averages(op) and op.output not in convolved and op.inputs[0] != INPUT:
            found[op.inputs[0]] = None
            averaged.add(op.output)
    return tuple(found)


def _averages(op: Op) -> bool:
    axes = op.attrs.get("axes")
    return op.kind in ("mean", "max") and axes is not None and sorted(axes) == [2, 3]


def _mean_values(program: Program, x: Array, tops: tuple[str, ...]) -> dict[str, Tensor]:
    """The mean over windows of values inside a program."""
    import torch

    from edgegraft.zoo.torch_program import run_torch

    total: dict[str, Tensor] = {}
    with torch.no_grad():
        for i in range(0, len(x), _AT_ONCE):
            part = torch.tensor(x[i : i + _AT_ONCE], dtype=torch.float32)
            found = run_torch(program, part, outputs=tops)
            for name, value in zip(tops, found, strict=True):
                total[name] = value.sum(dim=0, keepdim=True) + total.get(name, 0)
    return {name: value / len(x) for name, value in total.items()}


def _gradient(
    program: Program,
    x: Array,
    targets: Array,
    tops: tuple[str, ...],
    shared: Mapping[str, Tensor],
) -> Array:
    import torch

    height, width = x.shape[2:]
    values, said = _watched(program, torch.tensor(x, dtype=torch.float32), tops)
    picked = said[torch.arange(len(x)), torch.tensor(targets)].sum()
    total = np.zeros((len(x), height, width), np.float32)
    if not picked.requires_grad:
        return total
    slopes = torch.autograd.grad(picked, values, allow_unused=True)
    for name, value, slope in zip(tops, values, slopes, strict=True):
        if slope is None or value.ndim != 4:
            continue
        weight = slope.sum(dim=(2, 3), keepdim=True)
        above = value - shared.get(name, torch.zeros(()))
        small = torch.relu((weight * above).sum(dim=1)).detach().numpy()
        total += resizing(small.shape[1], height).T @ (small @ resizing(small.shape[2], width))
    return _unit(total)


def _watched(program: Program, x: Tensor, tops: tuple[str, ...]) -> tuple[list[Tensor], Tensor]:
    """Values of `tops` as leaves of the gradient, and the logits that come of them.

    Of logits, because where a model is sure its probabilities hardly change any more.
    """
    import torch

    from edgegraft.zoo.torch_program import run_torch

    with torch.no_grad():
        found = run_torch(program, x, outputs=tops)
    leaves = [value.detach().clone().requires_grad_(True) for value in found]
    held = dict(zip(tops, leaves, strict=True))
    last = program.ops[-1]
    smooth = last.kind == "softmax" and last.output == program.output
    output = last.inputs[0] if smooth else program.output
    needed, rest = {output}, []
    for op in reversed(program.ops):
        if op.output in needed and op.output not in held:
            needed.update(op.inputs)
            rest.append(op)
    given = {name: np.zeros(0, np.float32) for name in held}
    after = Program(tuple(reversed(rest)), {**program.constants, **given}, output)
    said = run_torch(after, x, {**_tensors(program.constants), **held})
    assert not isinstance(said, tuple)
    return leaves, said


def _tensors(constants: Mapping[str, Array]) -> dict[str, Any]:
    import torch

    return {name: torch.from_numpy(np.array(array)) for name, array in constants.items()}


def _cover(program: Program, x: Array, targets: Array) -> Array:
    """What covering each patch with the picture's mean costs the class."""
    n_windows, _, height, width = x.shape
    rows = np.linspace(0, height, min(N_PATCHES, height) + 1).astype(int)
    columns = np.linspace(0, width, min(N_PATCHES, width) + 1).astype(int)
    everyone = np.arange(n_windows)
    mean = x.reshape(n_windows, x.shape[1], -1).mean(axis=2)[:, :, None, None]
    known = _said(program, x)[everyone, targets]
    cost = np.zeros((n_windows, len(rows) - 1, len(columns) - 1), np.float32)
    for i in range(len(rows) - 1):
        for j in range(len(columns) - 1):
            covered = np.array(x, dtype=np.float32)
            covered[:, :, rows[i] : rows[i + 1], columns[j] : columns[j + 1]] = mean
            cost[:, i, j] = known - _said(program, covered)[everyone, targets]
    small = np.maximum(cost, 0)
    grown = resizing(small.shape[1], height).T @ (small @ resizing(small.shape[2], width))
    return _unit(grown)


def _said(program: Program, x: Array) -> Array:
    """Probabilities, by torch, which is faster at this than the interpreter in NumPy."""
    import torch

    from edgegraft.zoo.torch_program import run_torch

    parts = []
    with torch.no_grad():
        for i in range(0, len(x), _AT_ONCE):
            found = run_torch(program, torch.tensor(x[i : i + _AT_ONCE], dtype=torch.float32))
            assert not isinstance(found, tuple)
            parts.append(found.numpy())
    return np.concatenate(parts)


def _unit(maps: Array) -> Array:
    top = maps.reshape(len(maps), -1).max(axis=1)[:, None, None]
    return np.asarray(maps / np.where(top > 1e-8, top, np.inf), dtype=np.float32)


def overlay(picture: Array, heat: Array, *, strength: float = 0.6) -> Array:
    """A picture with its map over it, from blue (little) over yellow to red (most).

    Args:
        picture: uint8 (n_channels, height, width), 1 or 3 channels.
        heat: (height, width), 0 to 1.

    Returns: uint8 (height, width, 3), as picture files have it.
    """
    grey = picture.mean(axis=0) / 255.0
    colour = np.stack(
        [
            np.clip(2.0 * heat, 0, 1),
            np.clip(np.minimum(2.0 * heat, 2.0 - 1.6 * heat), 0, 1),
            np.clip(1.0 - 2.0 * heat, 0, 1),
        ],
        axis=2,
    )
    share = strength * np.sqrt(heat)[:, :, None]
    mixed = (1 - share) * grey[:, :, None] + share * colour
    return np.asarray(np.clip(np.rint(255 * mixed), 0, 255), dtype=np.uint8)


def as_png(pixels: Array) -> bytes:
    """A picture uint8 (height, width, 3) as the bytes of a PNG file."""
    import io

    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", optimize=True)
    return out.getvalue()


def write_maps(
    bundle: Bundle,
    windows: Windows,
    folder: Path,
    *,
    wanted: str | None = None,
    most: int = 50,
) -> list[dict[str, Any]]:
    """Overlays of the first `most` pictures as PNG files, and ``index.json`` that tells of them.

    Args:
        wanted: class asked about; what the model says, if none.

    Errors: `DataError` "kind-differs" for what is no picture; `OptionError` "class-unknown".
    """
    if windows.spec.kind != "image":
        raise DataError.of(
            "kind-differs",
            f"data of kind {windows.spec.kind}",
            "maps are drawn over pictures",
            "a model and data of kind image",
        )
    if wanted is not None and wanted not in bundle.classes:
        raise OptionError.of(
            "class-unknown",
            f"class {wanted!r}",
            "the model does not know it",
            nearest(wanted, list(bundle.classes)),
        )
    windows = windows.take(np.arange(min(most, len(windows))))
    said = bundle.predict(windows)
    targets = said.probabilities.argmax(axis=1)
    if wanted is not None:
        targets = np.full(len(windows), bundle.classes.index(wanted))
    maps = activation_maps(bundle.program, windows.x, targets, usual=bundle.golden)
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for row, heat in enumerate(maps):
        name = f"{row:04d}.png"
        replace_file(folder / name, as_png(overlay(windows.x[row], heat)))
        recording = int(windows.recording[row])
        place = np.unravel_index(int(heat.argmax()), heat.shape)
        found.append(
            {
                "file": name,
                "picture": windows.names[recording] if recording < len(windows.names) else "",
                "said": bundle.classes[int(said.probabilities[row].argmax())],
                "about": bundle.classes[int(targets[row])],
                "probability": round(float(said.probabilities[row, targets[row]]), 4),
                "strongest": {"row": int(place[0]), "column": int(place[1])},
            }
        )
    replace_file(folder / "index.json", json.dumps(found, indent=1).encode())
    return found
