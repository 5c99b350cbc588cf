"""What a bundle says of itself: versioned JSON, read strictly."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, get_args

from edgegraft_edge import derived, json_text
from edgegraft_edge.errors import BundleError, ModelError, Problem, nearest
from edgegraft_edge.estimate import Outputs
from edgegraft_edge.signal import Channel, Fit, ImageSpec, Spec, TextSpec, WindowSpec

SCHEMA = 2
"""2 came with estimates; what does not need it is still written as 1, for older readers."""
MAX_WINDOW_VALUES = 1 << 26
_SHA256 = re.compile(r"[0-9a-f]{64}")
_RUNTIME = re.compile(r"[a-z][a-z0-9_]{0,31}")


@dataclass(frozen=True)
class FileEntry:
    """Checksum and size of one file of a bundle."""

    sha256: str
    size: int

    @classmethod
    def of(cls, data: bytes) -> FileEntry:
        return cls(hashlib.sha256(data).hexdigest(), len(data))


@dataclass(frozen=True)
class Manifest:
    """Everything about a bundle but its numbers.

    Attributes:
        spec: the raw windows it takes: length, stride, rate, channels with their units; height
            and width of pictures; bytes of sentences.
        classes: names of the columns of the probabilities, or of the estimates.
        decision: options of :class:`edgegraft_edge.decision.Decision`.
        files: checksum and size of every file but the manifest and the signature.
        models: runtime -> file, besides the program, which every bundle has.
        name: what the model is called.
        version: rises with each release of that name.
        created: ISO 8601 time, or "" (a bundle is made the same way twice).
        lineage: how the model came about, plain JSON values.
        licences: what was used -> its licence.
        verdict: what the transfer brought, plain JSON values.
        outputs: what the columns are, where the model estimates numbers.
        schema: version of this format; 0 for the lowest that can say all this.

    Errors: `BundleError` with every problem found.

    >>> spec = WindowSpec(2.0, 1.0, 50.0, (Channel("acc_x", "m/s2"),))
    >>> manifest = Manifest(spec, ("rest", "walk"))
    >>> Manifest.from_bytes(manifest.to_bytes()) == manifest
    True
    """

    spec: Spec
    classes: tuple[str, ...]
    decision: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, FileEntry] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    name: str = "model"
    version: int = 1
    created: str = ""
    lineage: Mapping[str, Any] = field(default_factory=dict)
    licences: Mapping[str, str] = field(default_factory=dict)
    verdict: Mapping[str, Any] = field(default_factory=dict)
    outputs: Outputs | None = None
    schema: int = 0

    def __post_init__(self) -> None:
        if self.schema == 0:
            object.__setattr__(self, "schema", 1 if self.outputs is None else 2)
        problems = [
            Problem("manifest-form", found, why, "export the bundle again")
            for found, why in _faults(self)
        ]
        if problems:
            raise BundleError(problems)

    def to_bytes(self) -> bytes:
        """Canonical JSON: sorted keys, no spaces, ASCII; the bytes that a signature signs."""
        values = asdict(self)
        outputs = values.pop("outputs")
        if outputs is not None:
            values["outputs"] = outputs
        for channel in values["spec"].get("channels", ()):
            if not channel["derive"]:
                del channel["derive"]
        return json_text.dump(values)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical bytes: it names the whole content of a bundle."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def card(self) -> str:
        """A short model card, Markdown."""
        lines = [
            f"# {self.name}, version {self.version}",
            "",
            f"{'Classifies' if self.outputs is None else 'Estimates from'} {said(self.spec)}.",
            "",
            *_channel_lines(self.spec),
            *_answer_lines(self),
            *(f"* Licence of {what}: {licence}" for what, licence in self.licences.items()),
            *(
                f"* Verdict, {key}: {value}"
                for key, value in self.verdict.items()
                if isinstance(value, str | int | float)
            ),
        ]
        return "\n".join(lines) + "\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Errors: `BundleError` for other versions, unknown keys and wrong types."""
        values = json_text.parse(data, "manifest.json")
        schema = values.get("schema")
        if type(schema) is int and schema > SCHEMA:
            raise BundleError.of(
                "bundle-version",
                f"a bundle of format {schema}",
                f"this edgegraft-edge reads formats up to {SCHEMA}",
                "update edgegraft-edge, or export for the older format",
            )
        known = [entry.name for entry in fields(cls)]
        problems = [
            Problem("manifest-form", f"key {key!r}", "unknown", f"{nearest(key, known)}")
            for key in values
            if key not in known
        ]
        if problems:
            raise BundleError(problems)
        try:
            values["spec"] = _spec(values["spec"])
            values["classes"] = tuple(values["classes"])
            values["files"] = {
                str(name): FileEntry(**entry) for name, entry in values["files"].items()
            }
            if values.get("outputs") is not None:
                values["outputs"] = Outputs.from_dict(values["outputs"])
            return cls(**values)
        except ModelError as error:
            raise BundleError(error.problems) from error
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise BundleError.of(
                "manifest-form",
                f"a manifest that cannot be read: {error!r}",
                "it lacks a key, or a value has another type",
                "export the bundle again",
            ) from error


def _spec(data: Mapping[str, Any]) -> Spec:
    """Of the kind whose fields these are."""
    if "n_bytes" in data:
        return TextSpec(**data)
    channels = tuple(Channel(**channel) for channel in data["channels"])
    kind = ImageSpec if "height" in data else WindowSpec
    return kind(**{**data, "channels": channels})


def said(spec: Spec) -> str:
    """What a window is, in words."""
    if isinstance(spec, TextSpec):
        return f"sentences of up to {spec.n_bytes} bytes"
    if isinstance(spec, ImageSpec):
        return f"pictures of {spec.width} x {spec.height} pixels"
    return f"windows of {spec.length_s:g} s at {spec.rate_hz:g} Hz"


def _channel_lines(spec: Spec) -> list[str]:
    if isinstance(spec, TextSpec):
        return []
    named = [f"{c.name} ({c.unit})" if c.unit else c.name for c in spec.channels]
    return [f"* Channels: {', '.join(named)}"]


def _answer_lines(manifest: Manifest) -> list[str]:
    outputs = manifest.outputs
    if outputs is None:
        return [f"* Classes: {', '.join(manifest.classes)}"]
    named = [f"{n} ({u})" if u else n for n, u in zip(outputs.names, outputs.units, strict=True)]
    levels = ", ".join(f"{level:g}" for level in outputs.levels)
    return [
        f"* Estimates: {', '.join(named)}, {_steps_said(outputs.steps)}; quantiles {levels}",
    ]


def _steps_said(steps: tuple[int, ...]) -> str:
    if steps == (0,):
        return "at the end of the window"
    return f"{len(steps)} steps ahead, up to {steps[-1]} samples"


def _faults(manifest: Manifest) -> list[tuple[str, str]]:
    """Every (what was found, why it is refused)."""
    spec, faults = manifest.spec, []
    outputs = manifest.outputs
    if outputs is not None and (
        not isinstance(outputs, Outputs) or outputs.columns != tuple(manifest.classes)
    ):
        faults.append((f"{len(manifest.classes)} columns beside other outputs",
                       "the columns are named after what is estimated"))  # fmt: skip
    if outputs is not None and manifest.schema == 1:
        faults.append(("estimates in format 1", "they came with format 2"))
    sizes = _sizes(spec)
    bad = [f"{key} = {value!r}" for key, value in sizes.items() if not _is_positive(value)]
    faults += [(found, "it must be a number above 0") for found in bad]
    channels = () if isinstance(spec, TextSpec) else spec.channels
    names = [channel.name for channel in channels]
    texts = [*names, *(t for c in channels for t in (c.unit, c.derive)), *manifest.classes]
    texts += [manifest.name, manifest.created]
    unnamed = not names and not isinstance(spec, TextSpec)
    if not all(isinstance(text, str) for text in texts):
        faults.append(("a name that is no text", "channels, units and classes are text"))
    elif unnamed or len(set(names)) != len(names) or "" in names:
        faults.append((f"channels {names}", "each needs a name of its own"))
    elif len(set(manifest.classes)) != len(manifest.classes) or "" in manifest.classes:
        faults.append((f"classes {list(manifest.classes)}", "each needs a name of its own"))
    elif channels and all(channel.derive for channel in channels):
        faults.append((f"channels {names}", "one at least is measured"))
    else:
        faults += [(problem.found, problem.why) for problem in derived.faults(channels)]
    if isinstance(spec, ImageSpec) and spec.fit not in get_args(Fit):
        faults.append((f"fit = {spec.fit!r}", f"it is one of {', '.join(get_args(Fit))}"))
    if not manifest.classes:
        faults.append(("no class", "there is nothing to say"))
    if not bad:
        size: float = math.prod(spec.shape)
        if isinstance(spec, WindowSpec):
            size = spec.n_channels * max(spec.length_s, spec.stride_s) * spec.rate_hz
        if size > MAX_WINDOW_VALUES:
            faults.append((f"windows of {size:.3g} values", "windows are bounded"))
    for key in ("version", "schema"):
        if type(number := getattr(manifest, key)) is not int or not 1 <= number < 1 << 53:
            faults.append((f"{key} = {number!r}", "it must be a whole number from 1"))
    for key in ("decision", "files", "models", "lineage", "licences", "verdict"):
        if not isinstance(getattr(manifest, key), Mapping):
            faults.append((f"{key} of type {type(getattr(manifest, key)).__name__}", "a mapping"))
    return faults or _file_faults(manifest)


def _sizes(spec: Spec) -> dict[str, Any]:
    """The numbers of a spec, which must be above 0; whole ones where they count."""
    if isinstance(spec, WindowSpec):
        return {"length_s": spec.length_s, "stride_s": spec.stride_s, "rate_hz": spec.rate_hz}
    names = ("n_bytes",) if isinstance(spec, TextSpec) else ("height", "width")
    sizes = {name: getattr(spec, name) for name in names}
    return {name: size if type(size) is int else None for name, size in sizes.items()}


def _file_faults(manifest: Manifest) -> list[tuple[str, str]]:
    faults = [
        (f"file {name!r}", "its entry needs a SHA-256 and a size")
        for name, entry in manifest.files.items()
        if not (isinstance(entry.sha256, str) and _SHA256.fullmatch(entry.sha256))
        or type(entry.size) is not int
        or entry.size < 0
    ]
    faults += [
        (f"model {runtime!r} in {file!r}", "a runtime is a lower-case word, its file is listed")
        for runtime, file in manifest.models.items()
        if not _RUNTIME.fullmatch(runtime) or (manifest.files and file not in manifest.files)
    ]
    faults += [
        (f"licence of {what!r}: {licence!r}", "it must be text")
        for what, licence in manifest.licences.items()
        if not isinstance(licence, str)
    ]
    return faults


def _is_positive(value: Any) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and value > 0
    )
