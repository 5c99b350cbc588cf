"""Generated C on this machine: compiled to a shared library and called from Python."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import cast

import numpy as np

from edgegraft.export.c.emit import model_of, runtime, sources_of
from edgegraft.export.c.model import Model
from edgegraft_edge.errors import ExportError
from edgegraft_edge.program import Program
from edgegraft_edge.signal import Array

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror")
FAST = ("-O3", "-march=native", "-ffp-contract=off", "-fno-trapping-math")
SANITIZED = (
    "-O1", "-g", "-ffp-contract=off", "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
)  # fmt: skip
_TIMEOUT_S = 600
_DOT_PRODUCTS = ("__AVX512VNNI__", "__AVX512BW__", "__AVX512VL__")


def compiler() -> str | None:
    """The C compiler of this machine: $CC, cc, gcc or clang; None if there is none."""
    for name in (os.environ.get("CC", ""), "cc", "gcc", "clang"):
        if name and shutil.which(name):
            return name
    return None


def compiled(sources: Mapping[str, bytes], folder: Path, output: str, flags: Iterable[str]) -> Path:
    """Compile all ``.c`` files of a generated folder into one library or program.

    Errors: `ExportError` "c-compiler-missing", or "c-compile" with what the compiler said.
    """
    found = compiler()
    if found is None:
        raise ExportError.of(
            "c-compiler-missing",
            "no C compiler on this machine",
            "the generated C cannot be compiled and compared here",
            "install one (Debian: apt install gcc), or set CC",
        )
    for path, data in sources.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    names = [path for path in sources if path.endswith(".c")]
    command = [found, *STRICT, *flags, "-Isrc", *names, "-o", output, "-lm"]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
    )
    if done.returncode:
        said = "; ".join(done.stderr.splitlines()[:3])
        raise ExportError.of(
            "c-compile",
            f"{found} refuses the generated C ({said})",
            "it is written to compile without warnings",
            "report the bundle and the compiler to Edgegraft",
        )
    return folder / output


@dataclass(frozen=True)
class HostModel:
    """A model in a shared library: callable like any runtime.

    Attributes:
        model: what was compiled.

    Call it with windows float32 (n_windows, ...) for what the program gives, float32.
    """

    model: Model
    _library: ctypes.CDLL = field(repr=False)
    _folder: tempfile.TemporaryDirectory[str] = field(repr=False)  # lives as long as the model

    def __call__(self, x: Array) -> Array:
        shape = self.model.input_shape
        windows = np.ascontiguousarray(x, np.float32).reshape(-1, *shape)
        out = np.empty((len(windows), *self.model.output_shape), np.float32)
        run = self._function("run")
        arena = _arena(self.model.arena_bytes)
        for window, row in zip(windows, out.reshape(len(windows), -1), strict=True):
            run(_at(window), _at(row), _at(arena))
        return out

    def quantized(self, x: Array) -> Array:
        """Windows float32 (n_windows, ...) as int8 (n_windows, ...), as `run_s8` takes them."""
        assert self.model.integers is not None, "the model is not integer throughout"
        windows = np.ascontiguousarray(x, np.float32).reshape(-1, *self.model.input_shape)
        out = np.empty((len(windows), *self.model.integers.input_shape[1:]), np.int8)
        quantize = self._function("quantize")
        for window, row in zip(windows, out, strict=True):
            quantize(_at(window), _at(row))
        return out

    def counted(self, counts: Array) -> Array:
        """Raw counts int16 (n_windows, n_timepoints, n_channels) as int8, in integers only."""
        assert self.model.integers is not None, "the model is not integer throughout"
        given = np.ascontiguousarray(counts, np.int16)
        out = np.empty((len(given), *self.model.integers.input_shape[1:]), np.int8)
        function = self._function("quantize_i16")
        for window, row in zip(given, out, strict=True):
            function(_at(window), _at(row))
        return out

    def scores(self, q: Array) -> Array:
        """int8 (n_windows, ...) -> int8 (n_windows, n_classes), in integers only."""
        integers = self.model.integers
        assert integers is not None, "the model is not integer throughout"
        steps = np.ascontiguousarray(q, np.int8)
        out = np.empty((len(steps), *integers.output_shape[1:]), np.int8)
        run = self._function("run_s8")
        arena = _arena(self.model.s8_arena_bytes)
        for window, row in zip(steps, out, strict=True):
            run(_at(window), _at(row), _at(arena))
        return out

    def _function(self, name: str) -> Callable[..., None]:
        function = getattr(self._library, f"{self.model.prefix}_{name}")
        function.restype = None
        return cast("Callable[..., None]", function)


def hosted(model: Model, flags: Iterable[str] = FAST) -> HostModel:
    """Compile one model for this machine. Errors: as `compiled`."""
    return hosted_all([model], flags)[model.prefix]


def fastest(program: Program, *shape: int) -> HostModel:
    """The program as this machine runs it fastest: weights in blocks where its processor has dot
    products for them. Errors: as `compiled`, and those of `model_of`."""
    return hosted(model_of(program, *shape, blocks=takes_blocks()))


@cache
def takes_blocks() -> bool:
    """Whether the compiler, asked for this machine's processor, offers AVX-512 VNNI."""
    found = compiler()
    if found is None:
        return False
    done = subprocess.run(
        [found, "-march=native", "-dM", "-E", "-x", "c", os.devnull],
        capture_output=True, text=True, check=False, timeout=_TIMEOUT_S,
    )  # fmt: skip
    return all(f"#define {name} 1" in done.stdout for name in _DOT_PRODUCTS)


def hosted_all(models: Iterable[Model], flags: Iterable[str] = FAST) -> dict[str, HostModel]:
    """Compile models of different prefixes into one library: prefix -> model."""
    given = list(models)
    sources = dict(runtime(any(model.blocks for model in given)))
    for model in given:
        sources |= sources_of(model)
    folder = tempfile.TemporaryDirectory(prefix="edgegraft-c-")
    path = compiled(sources, Path(folder.name), "model.so", ["-shared", "-fPIC", *flags])
    library = ctypes.CDLL(str(path))
    return {model.prefix: HostModel(model, library, folder) for model in given}


def _arena(size_bytes: int) -> Array:
    """Memory aligned to 16 bytes, filled with noise: nothing may count on zeros."""
    raw = np.full(size_bytes + 16, 0xA5, np.uint8)
    start = -raw.ctypes.data % 16
    return raw[start : start + max(size_bytes, 1)]


def _at(array: Array) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
