"""A bundle: one file that holds all a device needs, checked before anything in it is used.

See docs/guides/bundle.md for the format. In short: a zip file with ``manifest.json`` (what it
is, with the checksum of every other file), the program and its tensors, golden windows with
the probabilities they must give, a card, models for other runtimes, and ``signature.json``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from edgegraft_edge import archive, json_text, signing, tensors
from edgegraft_edge.backends import Run
from edgegraft_edge.backends import numpy as reference
from edgegraft_edge.decision import Decision, Predictions
from edgegraft_edge.errors import BundleError, DataError, ModelError, OptionError, Problem
from edgegraft_edge.estimate import Outputs
from edgegraft_edge.manifest import FileEntry, Manifest, said
from edgegraft_edge.program import Precision, Program
from edgegraft_edge.signal import Array, Spec, Windows
from edgegraft_edge.windowing import bind_windows

MANIFEST, SIGNATURE = "manifest.json", "signature.json"
PROGRAM, TENSORS, GOLDEN, CARD = (
    "program.json",
    "tensors.safetensors",
    "golden.safetensors",
    "card.md",
)
MAX_GOLDEN = 1000


@dataclass(frozen=True, eq=False)
class Bundle:
    """A frozen, checked bundle. Make one with :func:`make`, load one with :func:`read`.

    Attributes:
        manifest: what it says of itself.
        program: from a raw window to class probabilities, or to estimates.
        golden: raw windows as in the spec, e.g. float32 (n_windows, n_channels, n_timepoints).
        expected: their probabilities float32 (n_windows, n_classes).
        files: every file but manifest and signature.
        signature: as found in the file; None if unsigned.
        signed_by: the public key (hex) whose signature was checked; "" if none was.
    """

    manifest: Manifest
    program: Program = field(repr=False)
    golden: Array = field(repr=False)
    expected: Array = field(repr=False)
    files: Mapping[str, bytes] = field(repr=False)
    signature: signing.Signature | None = field(default=None, repr=False)
    signed_by: str = ""
    _run: Run = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", MappingProxyType(dict(self.files)))
        object.__setattr__(self, "_run", reference.guard(self.program))

    @property
    def spec(self) -> Spec:
        return self.manifest.spec

    @property
    def classes(self) -> tuple[str, ...]:
        return self.manifest.classes

    @property
    def outputs(self) -> Outputs | None:
        """What the columns are, where the model estimates numbers."""
        return self.manifest.outputs

    @property
    def decision(self) -> Decision:
        return Decision.from_dict(self.manifest.decision)

    @property
    def precision(self) -> Precision:
        """ "float", "int8" or "mixed": see `Program.precision`."""
        return self.program.precision

    @property
    def card(self) -> str:
        """The model card, Markdown."""
        return self.files[CARD].decode("utf-8")

    @property
    def runtimes(self) -> tuple[str, ...]:
        """Names of the runtimes it holds a model for; ``numpy`` first, as always."""
        return ("numpy", *sorted(self.manifest.models))

    def model(self, runtime: str) -> bytes:
        """The model for one runtime. Errors: `BundleError` when there is none."""
        if runtime == "numpy":
            return reference.pack(self.files[PROGRAM], self.program.constants)
        if runtime not in self.manifest.models:
            raise BundleError.of(
                "runtime-missing",
                f"no model for {runtime!r}",
                f"the bundle has {', '.join(self.runtimes)}",
                f"edgegraft export --format {runtime}, or another backend",
            )
        return self.files[self.manifest.models[runtime]]

    def score(self, x: Array) -> Array:
        """Probabilities float32 (n_windows, n_classes) of raw windows in the order of the spec."""
        return score(self._run, x, self.spec, self.classes)

    def predict(self, windows: Windows) -> Predictions:
        """Class probabilities, or estimates, of windows; channels are bound by name if known.

        Each window is scored by itself, so a stream gives exactly the same numbers.
        """
        table = self.score(bind_windows(self.spec, windows))
        return Predictions(self.classes, table, self.outputs)


def score(run: Run, x: Array, spec: Spec, classes: tuple[str, ...]) -> Array:
    """Score windows one by one with any runtime.

    Args:
        x: windows as in the spec, e.g. float32 (n_windows, n_channels, n_timepoints).

    Returns: float32 (n_windows, n_classes).

    Errors: `DataError` for windows of another shape or that are not finite, `ModelError` when
    the runtime gives anything but one finite number per class.
    """
    x = np.asarray(x)
    if x.shape[1:] != spec.shape:
        raise DataError.of(
            "window-shape",
            f"windows of shape {x.shape}",
            f"the bundle takes {('n_windows', *spec.shape)}",
            f"give {said(spec)}",
        )
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        count = int((~np.isfinite(x.reshape(len(x), -1)).all(axis=1)).sum())
        raise DataError.of(
            "windows-not-finite",
            f"{count} of {len(x)} windows hold NaN or infinity",
            "nothing can be said of them",
            "leave these windows out, or fill short gaps before",
        )
    out = np.empty((len(x), len(classes)), np.float32)
    for index in range(len(x)):
        row = run(np.array(x[index : index + 1], dtype=np.float32))
        if row.shape != (1, len(classes)) or not np.isfinite(row).all():
            raise ModelError.of(
                "scores-form",
                f"scores of shape {row.shape} for one window and {len(classes)} classes",
                "each class needs one finite probability",
                "export the bundle again",
            )
        out[index] = row[0]
    return out


def make(
    program: Program,
    spec: Spec,
    classes: tuple[str, ...],
    decision: Decision | None = None,
    golden: Array | None = None,
    *,
    name: str = "model",
    version: int = 1,
    created: str = "",
    lineage: Mapping[str, Any] | None = None,
    verdict: Mapping[str, Any] | None = None,
    licences: Mapping[str, str] | None = None,
    card: str = "",
    models: Mapping[str, bytes] | None = None,
    outputs: Outputs | None = None,
) -> Bundle:
    """Make a bundle from what was adapted.

    Args:
        program: from raw windows to probabilities (n_windows, n_classes), or to estimates.
        outputs: what the estimates are; `classes` are then its columns.
        golden: raw windows, as in the spec, that every runtime is checked with; a few per class
            are enough. Without any, fixed noise stands in.
        card: Markdown; written from the manifest when empty.
        models: runtime -> model, e.g. ``{"onnx": ...}``.

    Errors: `BundleError`, `ModelError` or `DataError` when the parts do not fit.
    """
    if golden is None:
        golden = _noise(spec)
    golden = np.ascontiguousarray(golden)
    if golden.dtype != np.uint8:
        golden = golden.astype(np.float32)
    operations = json_text.dump(program.as_dict())
    # Read back at once: what is made here is what a device will read.
    program = reference.read(operations, program.constants)
    expected = score(reference.guard(program), golden, spec, tuple(classes))
    manifest = Manifest(
        spec=spec,
        classes=tuple(classes),
        decision=(decision or Decision()).as_dict(),
        name=name,
        version=version,
        created=created,
        lineage=lineage or {},
        licences=licences or {},
        verdict=verdict or {},
        outputs=outputs,
    )
    files = {
        PROGRAM: operations,
        TENSORS: tensors.dump(program.constants),
        GOLDEN: tensors.dump({"x": golden, "probabilities": expected}),
        CARD: (card or manifest.card()).encode("utf-8"),
    }
    bundle = _checked(_listing(manifest, files), files)
    for runtime, model in sorted((models or {}).items()):
        bundle = with_model(bundle, runtime, model)
    return bundle


def with_model(bundle: Bundle, runtime: str, model: bytes) -> Bundle:
    """The bundle with a model for one more runtime (or another one); unsigned again."""
    if runtime == "numpy":
        raise BundleError.of(
            "runtime-fixed", "a model for 'numpy'", "that is the program itself", "make a bundle"
        )
    file = f"model.{runtime}"
    models = {**bundle.manifest.models, runtime: file}
    files = {**bundle.files, file: bytes(model)}
    return _checked(_listing(replace(bundle.manifest, files={}, models=models), files), files)


def sign(bundle: Bundle, private_key: bytes) -> Bundle:
    """The bundle, signed; the signature covers the manifest and so every checksum in it."""
    signature = signing.sign(private_key, bundle.manifest.to_bytes())
    return replace(bundle, signature=signature, signed_by=signature.key.hex())


def to_bytes(bundle: Bundle) -> bytes:
    """The bundle as the bytes of its file; the same bundle gives the same bytes."""
    members = {**bundle.files, MANIFEST: bundle.manifest.to_bytes()}
    if bundle.signature is not None:
        members[SIGNATURE] = json_text.dump(bundle.signature.as_dict())
    return archive.pack(members)


def write(path: str | Path, bundle: Bundle) -> Path:
    """Write a bundle whole or not at all: temporary name, fsync, rename.

    Errors: `BundleError` when the disk is full, read-only or otherwise unwilling; a file that
    was there before is then still there.
    """
    return archive.write(Path(path), to_bytes(bundle))


def read(path: str | Path, *, key: bytes | None = None, require_signature: bool = False) -> Bundle:
    """Read and check a bundle.

    Args:
        key: public key (32 bytes); the bundle must then be signed by it.
        require_signature: refuse a bundle without a signature, whoever made it.

    Errors: `SignatureError` first, before anything is parsed; then `BundleError` or
    `ModelError` with what is wrong.
    """
    members = archive.read_members(Path(path))
    missing = [name for name in (MANIFEST, PROGRAM, TENSORS, GOLDEN, CARD) if name not in members]
    if missing:
        raise BundleError(_member_problem(name, "missing") for name in missing)
    manifest_bytes = members.pop(MANIFEST)
    found = members.pop(SIGNATURE, None)
    signature = None
    if found is not None:
        signature = signing.Signature.from_dict(json_text.parse(found, SIGNATURE))
    signed_by = signing.check(signature, manifest_bytes, key=key, required=require_signature)
    manifest = Manifest.from_bytes(manifest_bytes)
    return _checked(manifest, members, signature, signed_by)


def _listing(manifest: Manifest, files: Mapping[str, bytes]) -> Manifest:
    """The manifest with checksums of the files, as it will be read back."""
    listed = replace(manifest, files={name: FileEntry.of(data) for name, data in files.items()})
    return Manifest.from_bytes(listed.to_bytes())


def _checked(
    manifest: Manifest,
    files: Mapping[str, bytes],
    signature: signing.Signature | None = None,
    signed_by: str = "",
) -> Bundle:
    """Checksums first, then the parts, then that the parts fit each other."""
    problems = [_member_problem(name, "missing") for name in manifest.files if name not in files]
    problems += [_member_problem(name, "extra") for name in files if name not in manifest.files]
    problems += [
        _member_problem(name, "changed")
        for name, data in files.items()
        if name in manifest.files and FileEntry.of(data) != manifest.files[name]
    ]
    if problems:
        raise BundleError(problems)
    program = reference.read(files[PROGRAM], tensors.load(files[TENSORS]))
    golden = tensors.load(files[GOLDEN])
    try:
        x, expected = golden["x"], golden["probabilities"]
        files[CARD].decode("utf-8")
    except (KeyError, ValueError) as error:
        raise _misfit(f"golden windows or card: {error}") from error
    spec, classes = manifest.spec, manifest.classes
    if x.ndim == 0 or not 0 < len(x) <= MAX_GOLDEN or x.shape[1:] != spec.shape:
        raise _misfit(f"golden windows of shape {x.shape}, a spec of {spec.shape}")
    if expected.shape != (len(x), len(classes)):
        raise _misfit(f"expected probabilities of shape {expected.shape}, {len(classes)} classes")
    bundle = Bundle(manifest, program, x, expected, files, signature, signed_by)
    try:
        Decision.from_dict(manifest.decision)
    except OptionError as error:  # nobody typed it: it is the bundle that is wrong
        raise BundleError(error.problems) from error
    bundle.score(x[:1])  # a program for other channels fails here, not in the field
    return bundle


def _noise(spec: Spec) -> Array:
    random = np.random.default_rng(0)
    if spec.kind in ("series", "audio"):
        return random.normal(size=(4, *spec.shape))
    return random.integers(32, 127, size=(4, *spec.shape)).astype(np.uint8)


def _member_problem(name: str, how: str) -> Problem:
    why = {
        "missing": "a bundle is refused when a file is missing",
        "extra": "a bundle is refused when it holds a file that its manifest does not list",
        "changed": "its checksum or size is not the one in the manifest",
    }[how]
    code = "bundle-checksum" if how == "changed" else f"bundle-{how}"
    return Problem(code, f"member {name!r}", why, "fetch the bundle again, or export it anew")


def _misfit(found: str) -> BundleError:
    why = "the parts of the bundle do not belong together"
    return BundleError.of("bundle-misfit", found, why, "export the bundle again")
