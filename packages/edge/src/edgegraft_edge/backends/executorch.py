"""ExecuTorch. Needs the extra ``executorch``, whose Python runtime needs torch.

A model is a .pte file followed by a seal: eight bytes of name and the SHA-256 of the file. The
runtime follows offsets inside a file without checking all of them and ends the process on some
damaged ones, so nothing is given to it but bytes that are as they were written. A seal is no
signature: whoever makes a file can seal it. What comes from outside is to be signed as a bundle.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, ClassVar

import numpy as np

from edgegraft_edge.backends import Run, missing
from edgegraft_edge.errors import ModelError
from edgegraft_edge.signal import Array

_MARK = b"EGSEAL01"
_SEAL_BYTES = len(_MARK) + hashlib.sha256().digest_size
_IDENTIFIER = slice(4, 6)
MAX_BYTES = 1 << 30


def sealed(file: bytes) -> bytes:
    """A .pte file with its seal.

    >>> unsealed(sealed(b"    ET12 and so on"))
    b'    ET12 and so on'
    """
    return file + _MARK + hashlib.sha256(file).digest()


def unsealed(model: bytes) -> bytes:
    """The .pte file of a model. Errors: `ModelError` when it is not what was written."""
    file, seal = model[:-_SEAL_BYTES], model[-_SEAL_BYTES:]
    if len(model) > MAX_BYTES or file[_IDENTIFIER] != b"ET" or not seal.startswith(_MARK):
        raise ModelError.of(
            "executorch-form",
            f"{len(model)} bytes that are no .pte file with a seal",
            "the runtime would follow whatever stands in them",
            "export the model with edgegraft export --format executorch",
        )
    if seal[len(_MARK) :] != hashlib.sha256(file).digest():
        raise ModelError.of(
            "executorch-damaged",
            "a .pte file whose checksum is another",
            "the runtime would follow whatever stands in it",
            "fetch or export the model again",
        )
    return file


@dataclass(frozen=True)
class ExecutorchBackend:
    """Runs .pte files that take one window and give its probabilities.

    The runtime has one pool of threads for the whole process, so `threads` holds for all models.
    """

    name: ClassVar[str] = "executorch"
    threads: int = field(default=1, metadata={"help": "Threads of the whole runtime."})

    def open(self, model: bytes) -> Run:
        """Errors: `ModelError` for damaged bytes and for operators the runtime does not have."""
        file = unsealed(model)
        compiled = runtime()
        compiled._unsafe_reset_threadpool(self.threads)
        try:
            # The runtime reads the bytes in place: `program` must not outlive them.
            program = compiled._load_program_from_buffer(
                file, program_verification=compiled.Verification.InternalConsistency
            )
            method = program.load_method("forward")
            meta = method.method_meta()
            one = (meta.num_inputs(), meta.num_outputs()) == (1, 1)
            shape = tuple(meta.input_tensor_meta(0).sizes()) if one else ()
        except Exception as error:  # RuntimeError with a number of the runtime's own
            raise ModelError.of(
                "executorch-load",
                str(error),
                "this ExecuTorch cannot load the model",
                "pip install --upgrade executorch, or export the model again",
            ) from error
        if shape[:1] != (1,):
            raise ModelError.of(
                "executorch-input",
                f"{meta.num_inputs()} inputs, {meta.num_outputs()} outputs, shape {shape}",
                "one window in and its probabilities out are needed",
                "export the model with edgegraft export --format executorch",
            )
        return _Opened(file, program, method, shape)


@dataclass(frozen=True)
class _Opened:
    """A model that is open, with the bytes that the runtime reads while it runs."""

    file: bytes = field(repr=False)
    program: Any = field(repr=False)
    method: Any = field(repr=False)
    shape: tuple[int, ...]

    def __call__(self, x: Array) -> Array:
        x = np.array(x, dtype=np.float32, order="C")
        if x.shape[1:] != self.shape[1:]:
            raise ModelError.of(
                "channel-count",
                f"windows of shape {x.shape} for a model of shape {self.shape}",
                "channels and timepoints must agree",
                "give the windows the model was made for",
            )
        from_numpy = import_module("torch").from_numpy
        try:
            found = [self.method.call([from_numpy(row)])[0].numpy() for row in x[:, None]]
        except Exception as error:
            raise ModelError.of(
                "executorch-run", str(error), "ExecuTorch stopped", "export the model again"
            ) from error
        return np.asarray(np.concatenate(found), dtype=np.float32)


def runtime() -> Any:
    """The compiled runtime; torch first, whose libraries it needs.

    Not through ``executorch.runtime``, which also imports what lowers models: that takes four
    times as long and half as much memory again.
    """
    try:
        import_module("torch")
        compiled = import_module("executorch.extension.pybindings._C")
        import_module("executorch.kernels.quantized")  # kernels that (de)quantise
    except ImportError as error:
        raise missing("executorch", "executorch") from error
    return compiled
