"""From a finished run to what a device takes: load it, make it 8-bit, export it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Literal

from edgegraft.adapt.strategy import Watch, unwatched
from edgegraft.catalog import find
from edgegraft.compress.quantize import quantized_bundle
from edgegraft.workspace import writing
from edgegraft_edge import bundle, runner
from edgegraft_edge.bundle import Bundle
from edgegraft_edge.errors import ModelError, OptionError
from edgegraft_edge.files import replace_file
from edgegraft_edge.runner import Parity
from edgegraft_edge.signal import Array
from edgegraft_edge.tensors import load as load_tensors

MODEL, CALIBRATION = "model.egb", "calibration.safetensors"
Precision = Literal["float", "int8"]


def load(path: Any, **options: Any) -> Bundle:
    """The bundle of a run, of a run's folder, or of a bundle file; has `predict`.

    Errors: `OptionError` ``model-missing``; `BundleError` when it is damaged.
    """
    if isinstance(path, Bundle):
        return path
    if hasattr(path, "bundle"):
        found: Bundle = path.bundle
        return found
    place = Path(fspath(path))
    if place.is_dir():
        place = place / MODEL
    if not place.exists():
        raise OptionError.of(
            "model-missing",
            f"{place}",
            "there is no such file",
            "the folder that adapt wrote (--out), or a bundle file",
        )
    return bundle.read(place, **options)


def calibration_of(model: Any) -> Array | None:
    """Training windows kept by a run, raw as in its spec; None where only a bundle is left.

    Args:
        model: a run, its folder, or a bundle.
    """
    if hasattr(model, "calibration"):
        kept: Array = model.calibration
        return kept
    if isinstance(model, Bundle):
        return None
    place = Path(fspath(model))
    place = (place if place.is_dir() else place.parent) / CALIBRATION
    try:
        return load_tensors(place.read_bytes())["x"]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except KeyError as error:
        raise ModelError.of(
            "calibration-form",
            f"{place} without the tensor 'x'",
            "ranges of 8-bit values are read from it",
            "the file as adapt wrote it, or none",
        ) from error


def at_precision(model: Any, precision: Precision | None) -> Bundle:
    """The bundle of a model in float or in int8; None leaves it as it is.

    Errors: `OptionError` ``precision-gone`` for the float form of what is int8 already.
    """
    source = load(model)
    have = source.precision
    if precision is None or precision == have or (precision == "int8" and have == "mixed"):
        return source
    if precision == "float":
        raise OptionError.of(
            "precision-gone",
            f"a model in {have}, asked for in float",
            "its float weights are not in the bundle",
            "the run that it was made from, or --precision int8",
        )
    return quantized_bundle(source, calibration_of(model))


def verify(model: Any, targets: Sequence[str] = ()) -> tuple[Parity, ...]:
    """Compute the golden windows in runtimes and on boards, and compare.

    Args:
        model: a run, its folder, or a bundle.
        targets: names of runtimes; "c" for C on this machine, "c-m4" and its like for C on an
            emulated core. None for every runtime that the bundle has a model for.
    """
    source = load(model)
    compiled = [name for name in targets if name == "c" or name.startswith("c-")]
    others = [name for name in targets if name not in compiled]
    found = runner.verify(source, others or None) if others or not compiled else ()
    if not compiled:
        return found
    from edgegraft.export import verification

    return (*found, *verification.verify(source, compiled))


def export(
    model: Any,
    *,
    format: str = "onnx",
    precision: Precision | None = None,
    out: str | PathLike[str] | None = None,
    key: bytes | None = None,
    options: Mapping[str, Any] | None = None,
    watch: Watch = unwatched,
) -> Bundle:
    """Write a model for a runtime or a board.

    For a runtime, its model joins the bundle, which is written to `out`, signed if `key` is
    given. What is compiled, such as C, is written as a folder with the bundle in it.

    Args:
        model: a run, its folder, or a bundle.
        format: name of an exporter, e.g. "onnx", "litert", "executorch" or "c".
        precision: "int8" quantises with training windows that the run kept.
        key: private ed25519 key.
        options: of the exporter.
        watch: told of every step.

    Errors: `ExportError` when the target cannot compute the model, or computes something else.
    """
    exporter = find("exporters", format)(**(options or {}))
    watch("stage", {"name": "read", "precision": precision})
    source = at_precision(model, precision)
    watch("stage", {"name": "write and compare", "format": format})
    packed: Bundle = exporter.export(source)
    if key is not None:
        packed = bundle.sign(packed, key)
    if out is None:
        return packed
    place = Path(fspath(out))
    if hasattr(exporter, "sources"):
        files = {**exporter.sources(packed), MODEL: bundle.to_bytes(packed)}
        with writing(place):
            for name, data in files.items():
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                replace_file(place / name, data)
    else:
        bundle.write(place, packed)
    return packed
