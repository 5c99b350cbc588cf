"""A network that somebody else made, as a bundle: read, wrapped, and compared with its original.

A ``.tflite`` of 8 bits keeps its own integers (:mod:`edgegraft.zoo.tflite_int8`); float files of
both kinds become float programs. What the program gives is compared, window by window, with what
the file gives in its own runtime before there is a bundle.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import prod
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np

from edgegraft.export import original
from edgegraft.export.litert import METADATA as OWN
from edgegraft.zoo.backbone import BackboneCard
from edgegraft.zoo.file_transcript import FileModel, RefusedError, Transcript, Writer
from edgegraft.zoo.graph_file import check_options, closed, file_card, intake_of, write_nodes
from edgegraft.zoo.intake import ImageIntake
from edgegraft.zoo.sound_front import FRONTS, RATE_HZ, SoundIntake
from edgegraft.zoo.tflite_int8 import (
    Int8Model,
    is_hybrid,
    is_int8,
    metadata_names,
    read_int8,
)
from edgegraft_edge import bundle as bundles
from edgegraft_edge.bundle import Bundle
from edgegraft_edge.errors import DataError, ExportError, ModelError, OptionError
from edgegraft_edge.program import INPUT, Draft, Program, chain
from edgegraft_edge.signal import (
    FULL_SCALE,
    GREY,
    RGB,
    Array,
    Channel,
    ImageSpec,
    Spec,
    Windows,
    WindowSpec,
)

KINDS = {".tflite": "litert", ".onnx": "onnx"}
"""Ending of a file -> the runtime that it is compared in."""
MAX_CLASSES, GOLDEN_WINDOWS = 10_000, 12
CLOSE, ONE_STEP = 1e-4, 1.01


@dataclass(frozen=True)
class Agreement:
    """How the program of a file compares with the file in its own runtime.

    Attributes:
        runtime: "litert" (its reference kernels) or "onnx".
        max_abs: largest difference of an output.
        max_steps: the same in steps of an 8-bit output; None of a float one.
        equal: share of outputs that are equal.
        labels_agree: windows with the same highest output, of `n_windows`.
    """

    runtime: str
    max_abs: float
    max_steps: float | None
    equal: float
    labels_agree: int
    n_windows: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Taken:
    """A bundle made of a file, and how it compares with it.

    Attributes:
        said: what was assumed of its windows, in words.
    """

    bundle: Bundle
    agreement: Agreement
    said: str


@dataclass(frozen=True, eq=False)
class _Network:
    """A network from what an intake gives, channels first, to (n_windows, n_classes)."""

    program: Program
    model: FileModel
    int8: Int8Model | None = field(default=None)


def take(
    path: str | PathLike[str],
    *,
    classes: Sequence[str] = (),
    windows: Windows | None = None,
    rate_hz: float = 1.0,
    options: Mapping[str, Any] | None = None,
) -> Taken:
    """The network of a ``.tflite`` or ``.onnx`` file as a bundle.

    Args:
        classes: names of its outputs in their order; numbers from 0 without any.
        windows: golden windows are taken from these; seeded noise without any. They must fit
            `spec_of` the file.
        rate_hz: of windows of a series that the file takes.
        options: as on the card of a network file: `front`, `pixels`, `reversed`, `shape`.

    Errors: `ModelError` as of the readers ("tflite-damaged", "onnx-damaged", "operator-unknown",
    "operator-form", "network-input"), "import-onnx-int8", "import-hybrid", "import-own",
    "import-runtime"; `ExportError` "import-parity" when the program gives something else than
    the file; `OptionError`.
    """
    card, data = _read(Path(fspath(path)), options or {})
    network = _network(card, data)
    n_classes = _n_outputs(network)
    names = tuple(classes) or tuple(str(index) for index in range(n_classes))
    if len(names) != n_classes or len(set(names)) != len(names):
        raise OptionError.of(
            "option-value",
            f"{len(names)} classes, {len(set(names))} of them different",
            f"the network gives {n_classes} numbers",
            f"{n_classes} names in the order of its outputs",
        )
    spec, front, said = _windows_of(card, network, rate_hz)
    program = chain(front, network.program)
    exact = _exact_pixels(card, network, spec)
    golden = _golden(windows, spec, network)
    expected = _original(card, data, network, front.run(golden.astype(np.float32)))
    bundle = bundles.make(
        exact or program,
        spec,
        names,
        golden=golden,
        name=Path(fspath(path)).stem,
        lineage={
            "imported": {
                "file": Path(fspath(path)).name,
                "checksum": hashlib.sha256(data).hexdigest(),
                "windows": said,
            }
        },
        licences={"model": network.model.licence} if network.model.licence else {},
    )
    found = _compared(bundle.expected, expected, network, KINDS[f".{card.architecture}"])
    return Taken(bundle, found, said)


def spec_of(
    path: str | PathLike[str],
    *,
    rate_hz: float = 1.0,
    options: Mapping[str, Any] | None = None,
) -> Spec:
    """The windows that the network of a file takes. Errors: as of `take`."""
    card, data = _read(Path(fspath(path)), options or {})
    return _windows_of(card, _network(card, data), rate_hz)[0]


def _read(path: Path, options: Mapping[str, Any]) -> tuple[BackboneCard, bytes]:
    ending = path.suffix.lower()
    if ending not in KINDS:
        raise OptionError.of(
            "import-kind",
            f"{path.name}",
            "a network file ends in .tflite or .onnx",
            "convert the network to one of these",
        )
    card, data = file_card(path, ending[1:])
    card = replace(card, options={name: value for name, value in options.items() if value})
    check_options(card)
    return card, data


# -- the network


def _network(card: BackboneCard, data: bytes) -> _Network:
    from edgegraft.zoo.onnx_file import read_onnx
    from edgegraft.zoo.onnx_operators import WRITERS as ONNX
    from edgegraft.zoo.tflite_file import read_tflite
    from edgegraft.zoo.tflite_operators import WRITERS as TFLITE

    if card.architecture == "onnx":
        model = read_onnx(data)
        eight = sorted({n.kind for n in model.nodes if "Quantize" in n.kind or "QLinear" in n.kind})
        if eight:
            raise ModelError.of(
                "import-onnx-int8",
                f"an .onnx file of 8 bits ({', '.join(eight)})",
                "its rounding is ONNX Runtime's own; integers are read from .tflite files",
                "the float .onnx, then edgegraft export --precision int8",
            )
        return _float_network(card, model, ONNX)
    if OWN in metadata_names(data):
        raise ModelError.of(
            "import-own",
            "a .tflite file that Edgegraft wrote",
            "it lacks what its bundle says of windows and classes",
            "the bundle that it was exported to",
        )
    if is_int8(data):
        int8 = read_int8(data)
        return _int8_network(replace(read_tflite(data), shape=(1, *int8.shape)), int8)
    model = read_tflite(data)
    if is_hybrid(data):
        raise ModelError.of(
            "import-hybrid",
            "a .tflite file with weights of 8 bits under values in float",
            "LiteRT rounds these values too, anew for each window, so no program equals it",
            "the float file of the network, or one that is int8 throughout",
        )
    return _float_network(card, model, TFLITE)


def _float_network(card: BackboneCard, model: FileModel, writers: Mapping[str, Writer]) -> _Network:
    model, _ = closed(model, card)
    transcript = Transcript(model)
    problems = write_nodes(transcript, writers)
    found = transcript.values.get(model.outputs[0])
    if found is None or problems:
        raise ModelError(problems or [_no_output(model.outputs[0]).problems[0]])
    try:
        value = transcript.filed(found)
        flat = transcript.draft.add("reshape", value.name, shape=[prod(value.shape)])
    except RefusedError as error:
        raise _no_output(model.outputs[0]) from error
    return _Network(transcript.draft.finish(flat), model)


def _no_output(name: str) -> ModelError:
    return ModelError.of(
        "network-input",
        f"a network whose output {name!r} is not computed from its windows",
        "scores must come out",
        "a network with one output",
    )


def _int8_network(model: FileModel, int8: Int8Model) -> _Network:
    """With channels first at the front, as intakes give them, and flat at the end."""
    draft, rank = Draft(), len(int8.shape)
    value = INPUT
    if rank > 1:
        value = draft.add("transpose", INPUT, axes=[0, *range(2, rank + 1), 1])
    value = draft.call(int8.program, value)
    if len(int8.output_shape) != 1:
        value = draft.add("reshape", value, shape=[prod(int8.output_shape)])
    return _Network(draft.finish(value), model, int8)


def _n_outputs(network: _Network) -> int:
    from edgegraft.passes.trace import trace

    forms = trace(network.program, *_channels_first(network.model))
    count = forms[network.program.output].shape[1]
    if count > MAX_CLASSES:
        raise ModelError.of(
            "network-input",
            f"a network that gives {count} numbers",
            f"a bundle names up to {MAX_CLASSES}",
            "a network that ends in scores",
        )
    return int(count)


def _channels_first(model: FileModel) -> tuple[int, ...]:
    sizes = model.shape[1:]
    if model.channels_last and len(sizes) > 1:
        return (sizes[-1], *sizes[:-1])
    return sizes


# -- its windows


def _windows_of(card: BackboneCard, network: _Network, rate_hz: float) -> tuple[Spec, Program, str]:
    """The spec of its windows, the program that brings them to the network, and what is said."""
    sizes = _channels_first(network.model)
    chosen = card
    if not card.options.get("front") and _is_sound(sizes):
        chosen = replace(card, options={**card.options, "front": "series"})
    intake, _, said = intake_of(chosen, network.model)
    if isinstance(intake, SoundIntake):
        length = FRONTS[intake.front].n_timepoints / RATE_HZ
        spec: Spec = WindowSpec(length, length, RATE_HZ, (Channel("sound", FULL_SCALE),))
    elif isinstance(intake, ImageIntake):
        spec = ImageSpec(sizes[1], sizes[2], GREY if sizes[0] == 1 else RGB)
    else:
        spec = WindowSpec.from_shape(*_series(sizes), rate_hz)
    return spec, intake.program(spec), said


def _is_sound(sizes: Sequence[int]) -> bool:
    """Spectra of sound are a series, until somebody names the front end that made them."""
    return any(tuple(sizes) == (f.channels, *f.places) for f in FRONTS.values())


def _series(sizes: Sequence[int]) -> tuple[int, int]:
    """Channels and timepoints of a series that the network takes."""
    if len(sizes) == 1:
        return 1, sizes[0]
    if len(sizes) == 2:
        return sizes[0], sizes[1]
    if sizes[0] == 1:
        return sizes[2], sizes[1]
    if 1 in sizes[1:]:
        return sizes[0], sizes[1] * sizes[2]
    raise OptionError.of(
        "option-value",
        f"windows of {' x '.join(map(str, sizes))}",
        "a series has channels and time",
        'front "pixels", for pictures',
    )


def _exact_pixels(card: BackboneCard, network: _Network, spec: Spec) -> Program | None:
    """The int8 network on raw pixels: a pixel is one step, so nothing in front needs floats."""
    if network.int8 is None or not isinstance(spec, ImageSpec):
        return None
    if network.model.pixels is None or {"pixels", "reversed"} & set(card.options):
        return None
    ops = tuple(
        replace(op, attrs={"scale": 1.0, "zero": -128}) if op.kind == "quantize" else op
        for op in network.program.ops
    )
    return Program(ops, network.program.constants, network.program.output)


def _golden(windows: Windows | None, spec: Spec, network: _Network) -> Array:
    if windows is not None:
        if windows.spec.shape != spec.shape or not len(windows):
            raise DataError.of(
                "window-shape",
                f"{len(windows)} windows of {windows.spec.shape}",
                f"the network takes {spec.shape}",
                "data opened like the spec of the file",
            )
        places = np.unique(np.linspace(0, len(windows) - 1, GOLDEN_WINDOWS).astype(int))
        return np.asarray(windows.x[places])
    random = np.random.default_rng(0)
    shape = (GOLDEN_WINDOWS, *spec.shape)
    if isinstance(spec, ImageSpec):
        return random.integers(0, 256, shape).astype(np.uint8)
    if spec.kind == "audio":
        return random.normal(0, 0.1, shape).clip(-1, 1).astype(np.float32)
    if network.int8 is not None:
        steps = random.integers(-128, 128, shape)
        told = network.int8.input
        return np.asarray((steps - told.zero) * told.scale, np.float32)
    return random.normal(size=shape).astype(np.float32)


# -- the original


def _original(card: BackboneCard, data: bytes, network: _Network, x: Array) -> Array:
    """What the file gives in its own runtime for what an intake gives, (n_windows, n_classes)."""
    if network.model.channels_last and x.ndim > 2:
        x = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    x = x.reshape(len(x), *network.model.shape[1:])
    run = original.run_onnx if card.architecture == "onnx" else original.run_tflite
    return run(data, x).reshape(len(x), -1)


def _compared(found: Array, expected: Array, network: _Network, runtime: str) -> Agreement:
    if found.shape != expected.shape:
        raise _differs(f"outputs of shape {found.shape}, not {expected.shape}")
    difference = np.abs(found - expected)
    steps = None
    if network.int8 is not None:
        steps = float(difference.max() / network.int8.output.scale)
    agreement = Agreement(
        runtime=runtime,
        max_abs=float(difference.max()),
        max_steps=None if steps is None else round(steps, 3),
        equal=float((difference <= 1e-6 * np.abs(expected)).mean()),
        labels_agree=int((found.argmax(axis=1) == expected.argmax(axis=1)).sum()),
        n_windows=len(found),
    )
    allowed = CLOSE * max(1.0, float(np.abs(expected).max()))
    if not np.isfinite(expected).all() or (
        steps > ONE_STEP if steps is not None else not difference.max() <= allowed
    ):
        by = f"{difference.max():.2g}" if steps is None else f"{steps:.1f} steps"
        raise _differs(f"outputs that differ by {by} on {len(found)} windows")
    return agreement


def _differs(found: str) -> ExportError:
    return ExportError.of(
        "import-parity",
        found,
        "the bundle must compute what the file computes in its own runtime",
        "report the file to Edgegraft, or another format of the same network",
    )
