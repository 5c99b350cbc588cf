"""A bundle: one file that holds all a device needs, checked before anything in it is used.

See docs/guides/bundle.md for the format. In short: a zip file with ``manifest.json`` (what it
is, with the checksum of every other file), the program and its tensors, golden windows with
the probabilities they must give, a card, models for other runtimes, and ``signature.json``.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
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
from edgegraft_edge.errors import BundleError, DataError, ModelError, Problem, SignatureError
from edgegraft_edge.manifest import FileEntry, Manifest
from edgegraft_edge.program import Program
from edgegraft_edge.signal import Array, Windows, WindowSpec
from edgegraft_edge.windowing import bind

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
        program: from a raw window to class probabilities.
        golden: raw windows float32 (n_windows, n_channels, n_timepoints).
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
    def spec(self) -> WindowSpec:
        return self.manifest.spec

    @property
    def classes(self) -> tuple[str, ...]:
        return self.manifest.classes

    @property
    def decision(self) -> Decision:
        return Decision.from_dict(self.manifest.decision)

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
        """Class probabilities of windows; channels are bound by name where names are known.

        Each window is scored by itself, so a stream gives exactly the same numbers.
        """
        order = _order(self.spec, windows.spec)
        x = windows.x if order == list(range(windows.x.shape[1])) else windows.x[:, order]
        return Predictions(self.classes, self.score(x))


def score(run: Run, x: Array, spec: WindowSpec, classes: tuple[str, ...]) -> Array:
    """Score windows one by one with any runtime.

    Args:
        x: float32 (n_windows, n_channels, n_timepoints), as in the spec.

    Returns: float32 (n_windows, n_classes).

    Errors: `DataError` for windows of another shape or that are not finite, `ModelError` when
    the runtime gives anything but one finite number per class.
    """
    x = np.asarray(x, dtype=np.float32)
    if x.ndim != 3 or x.shape[1:] != (spec.n_channels, spec.n_timepoints):
        raise DataError.of(
            "window-shape",
            f"windows of shape {x.shape}",
            f"the bundle takes (n_windows, {spec.n_channels}, {spec.n_timepoints})",
            f"cut windows of {spec.length_s:g} s at {spec.rate_hz:g} Hz",
        )
    if not np.isfinite(x).all():
        count = int((~np.isfinite(x).all(axis=(1, 2))).sum())
        raise DataError.of(
            "samples-not-finite",
            f"{count} of {len(x)} windows hold NaN or infinity",
            "nothing can be said of them",
            "leave these windows out, or fill short gaps before",
        )
    out = np.empty((len(x), len(classes)), np.float32)
    for index in range(len(x)):
        row = run(x[index : index + 1].copy())
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
    spec: WindowSpec,
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
) -> Bundle:
    """Make a bundle from what was adapted.

    Args:
        program: from raw windows to probabilities (n_windows, n_classes).
        golden: raw windows (n_windows, n_channels, n_timepoints) that every runtime is checked
            with; a few per class are enough. Without any, fixed noise stands in.
        card: Markdown; written from the manifest when empty.
        models: runtime -> model, e.g. ``{"onnx": ...}``.

    Errors: `BundleError`, `ModelError` or `DataError` when the parts do not fit.
    """
    if golden is None:
        golden = np.random.default_rng(0).normal(size=(4, spec.n_channels, spec.n_timepoints))
    golden = np.ascontiguousarray(golden, dtype=np.float32)
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
    )
    files = {
        PROGRAM: operations,
        TENSORS: tensors.dump(program.constants),
        GOLDEN: tensors.dump({"x": golden, "probabilities": expected}),
        CARD: (card or _card(manifest)).encode("utf-8"),
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
        members[SIGNATURE] = json_text.dump(
            {
                "algorithm": "ed25519",
                "key": bundle.signature.key.hex(),
                "signature": bundle.signature.value.hex(),
            }
        )
    return archive.pack(members)


def write(path: str | Path, bundle: Bundle) -> Path:
    """Write a bundle whole or not at all: temporary name, fsync, rename.

    Errors: `BundleError` when the disk is full, read-only or otherwise unwilling; a file that
    was there before is then still there.
    """
    path = Path(path)
    data = to_bytes(bundle)
    temporary = ""
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(descriptor, "wb") as target:
            target.write(data)
            target.flush()
            os.fsync(target.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        raise BundleError.of(
            "bundle-unwritable",
            str(path),
            error.strerror or "it cannot be written",
            "free space, or name another folder",
        ) from error
    return path


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
    signature = _signature(members.pop(SIGNATURE, None))
    signed_by = _check_signature(signature, manifest_bytes, key, require_signature)
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
    if not 0 < len(x) <= MAX_GOLDEN or x.shape[1:] != (spec.n_channels, spec.n_timepoints):
        raise _misfit(
            f"golden windows of shape {x.shape}, a spec of {(spec.n_channels, spec.n_timepoints)}"
        )
    if expected.shape != (len(x), len(classes)):
        raise _misfit(f"expected probabilities of shape {expected.shape}, {len(classes)} classes")
    bundle = Bundle(manifest, program, x, expected, files, signature, signed_by)
    Decision.from_dict(manifest.decision)
    bundle.score(x[:1])  # a program for other channels fails here, not in the field
    return bundle


def _signature(data: bytes | None) -> signing.Signature | None:
    if data is None:
        return None
    values = json_text.parse(data, SIGNATURE)
    try:
        if values["algorithm"] != "ed25519" or len(values) != 3:
            raise ValueError("only ed25519 is known")
        key, value = bytes.fromhex(values["key"]), bytes.fromhex(values["signature"])
        if len(key) != signing.KEY_BYTES or len(value) != 64:
            raise ValueError("a key or signature of another length")
    except (KeyError, TypeError, ValueError) as error:
        raise SignatureError.of(
            "signature-form", f"{SIGNATURE}: {error}", "it is no signature", "sign it again"
        ) from error
    return signing.Signature(key, value)


def _check_signature(
    signature: signing.Signature | None, message: bytes, key: bytes | None, required: bool
) -> str:
    """The key (hex) whose signature holds; "" where there was nothing to check."""
    if signature is None:
        if key is not None or required:
            raise SignatureError.of(
                "signature-missing",
                "a bundle without signature",
                "a signature was asked for",
                "edgegraft export --key PRIVATE, or trust it without --key",
            )
        return ""
    if key is not None and signature.key != key:
        raise SignatureError.of(
            "signature-key",
            f"a bundle signed by {signature.key.hex()[:16]}...",
            f"the key given is {key.hex()[:16]}...",
            "fetch the bundle from its owner, or the owner's key",
        )
    if key is None and not required and not signing.available():
        return ""  # its own key proves nothing of its maker; checksums hold all the same
    signing.verify(signature, message)
    return signature.key.hex()


def _order(spec: WindowSpec, given: WindowSpec) -> list[int]:
    """Places of the channels of `spec` in `given`; by position where `given` has no names."""
    anonymous = given.channel_names == tuple(f"c{index}" for index in range(given.n_channels))
    if anonymous and given.channel_names != spec.channel_names:
        if given.n_channels != spec.n_channels:
            raise DataError.of(
                "channel-count",
                f"windows of {given.n_channels} channels without names",
                f"the bundle takes {spec.n_channels}: {', '.join(spec.channel_names[:8])}",
                "name the channels",
            )
        return list(range(spec.n_channels))
    unknown_rate = given.rate_hz == 1.0 or spec.rate_hz == 1.0
    return bind(spec, given.channels, None if unknown_rate else given.rate_hz)


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


def _card(manifest: Manifest) -> str:
    spec = manifest.spec
    channels = ", ".join(f"{c.name} ({c.unit})" if c.unit else c.name for c in spec.channels)
    lines = [
        f"# {manifest.name}, version {manifest.version}",
        "",
        f"Classifies windows of {spec.length_s:g} s at {spec.rate_hz:g} Hz.",
        "",
        f"* Channels: {channels}",
        f"* Classes: {', '.join(manifest.classes)}",
        *(f"* Licence of {what}: {licence}" for what, licence in manifest.licences.items()),
        *(f"* Verdict, {key}: {value}" for key, value in manifest.verdict.items()),
    ]
    return "\n".join(lines) + "\n"


def _sync_folder(folder: Path) -> None:
    """Make a rename last; some systems cannot open folders, and need not."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
