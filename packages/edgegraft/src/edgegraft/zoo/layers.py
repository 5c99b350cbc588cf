"""Networks as data: a program with named weights, written layer by layer.

A weight is named "block.part", and blocks are what strategies freeze and unfreeze. Nothing in
a network depends on the size of a batch, and there is no normalisation by batches: that of a
pretrained network is folded into its convolutions when it is read (`fold`), since in use both
are the same affine map, and only that form runs everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np

from edgegraft_edge.errors import ModelError, Problem
from edgegraft_edge.program import Draft, Program
from edgegraft_edge.signal import Array

Activation = Callable[[Draft, str], str]


@dataclass(frozen=True)
class Network:
    """A network from prepared windows (n_windows, ...) to embeddings (n_windows, embedding_dim).

    Attributes:
        program: its constants with a dot in their name are the weights.
        blocks: names from the input up.
        taps: block -> the value that it gives, (n_windows, n_features, ...).
        top: the last value that still has places in it, (n_windows, n_features, height, width);
            "" where there is none.
        start: weights that do not start as He et al. (ICCV 2015) draw them -> their start: the
            last of a residual branch at 0, gains at 1.
    """

    program: Program
    blocks: tuple[str, ...]
    taps: Mapping[str, str] = field(default_factory=dict)
    top: str = ""
    start: Mapping[str, float] = field(default_factory=dict)

    @property
    def weights(self) -> Mapping[str, Array]:
        """Float32 by name."""
        constants = self.program.constants
        return MappingProxyType({name: constants[name] for name in constants if "." in name})

    def with_weights(self, weights: Mapping[str, Array]) -> Network:
        """The same network with other weights.

        Errors: `ModelError` "weights-shape" with every weight that is missing, unknown or of
        another shape.
        """
        own = self.weights
        problems = [
            Problem(
                "weights-shape",
                f"weight {name!r} of shape {_shape(weights.get(name))}",
                f"the network has it as {_shape(own.get(name))}",
                "take weights and options of one network",
            )
            for name in sorted({*own, *weights})
            if _shape(own.get(name)) != _shape(weights.get(name))
        ]
        if problems:
            raise ModelError(problems[:8])
        constants = dict(self.program.constants)
        constants.update({n: np.asarray(a, dtype=np.float32) for n, a in weights.items()})
        return replace(self, program=replace(self.program, constants=constants))

    def drawn(self, seed: int) -> Network:
        """The same network with random weights."""
        random = np.random.default_rng(seed)
        weights = {}
        for name, array in self.weights.items():
            if name in self.start:
                weights[name] = np.full(array.shape, self.start[name], np.float32)
            elif array.ndim < 2:
                weights[name] = np.zeros(array.shape, np.float32)
            else:
                n_inputs = array.shape[0] if array.ndim == 2 else np.prod(array.shape[1:])
                spread = np.sqrt(2.0 / n_inputs)
                weights[name] = random.normal(0, spread, array.shape).astype(np.float32)
        return self.with_weights(weights)

    def tapped(self, blocks: Sequence[str]) -> Network:
        """The same network, whose embedding is the means over all places of these blocks' values.

        Errors: `ModelError` "block-unknown".
        """
        unknown = [name for name in blocks if name not in self.taps]
        if unknown:
            raise ModelError.of(
                "block-unknown",
                f"blocks {', '.join(unknown)}",
                "the network has no such tap",
                f"of {', '.join(self.taps)}",
            )
        layers = Layers()
        layers.draft.keep(self.program)
        pools = [layers.pool(self.taps[block]) for block in blocks]
        joined = layers.draft.add("concat", *pools, axis=1) if len(pools) > 1 else pools[0]
        return replace(self, program=layers.draft.finish(joined))


def _shape(array: Array | None) -> str:
    return "nothing" if array is None else str(tuple(array.shape))


def relu(draft: Draft, value: str) -> str:
    return draft.add("relu", value)


def relu6(draft: Draft, value: str) -> str:
    return draft.add("minimum", draft.add("relu", value), np.float32(6))


def silu(draft: Draft, value: str) -> str:
    return draft.add("mul", value, draft.add("sigmoid", value))


def gelu(draft: Draft, value: str) -> str:
    """Exact (Hendrycks and Gimpel, 2016): x times the normal distribution up to x."""
    half = draft.add("erf", draft.add("mul", value, np.float32(np.sqrt(0.5))))
    up_to = draft.add("mul", draft.add("add", half, np.float32(1)), np.float32(0.5))
    return draft.add("mul", value, up_to)


class Layers:
    """Writes a network. Weights are zeros of their shape until `Network.with_weights` or `drawn`.

    >>> layers = Layers()
    >>> x = layers.conv("stem", "x", 3, 8, kernel=3, stride=2, activation=relu)
    >>> network = layers.finish(layers.pool(x), blocks=("stem",), taps={"stem": x}, top=x)
    >>> sorted(network.weights), network.drawn(0).program.run(np.ones((2, 3, 8, 8))).shape
    (['stem.bias', 'stem.weight'], (2, 8))
    """

    def __init__(self) -> None:
        self.draft = Draft()
        self._start: dict[str, float] = {}

    def weight(self, name: str, *shape: int, start: float | None = None) -> str:
        """A weight of that shape."""
        if start is not None:
            self._start[name] = start
        return self.draft.constant(np.zeros(shape, np.float32), name)

    def conv(
        self,
        name: str,
        value: str,
        n_in: int,
        n_out: int,
        *,
        kernel: int | tuple[int, int] = 1,
        stride: int | tuple[int, int] = 1,
        pad: int | tuple[int, int, int, int] | None = None,
        groups: int = 1,
        activation: Activation | None = None,
        start: float | None = None,
    ) -> str:
        """A convolution (n, n_in, h, w) -> (n, n_out, h, w) with weights `name`.weight, .bias.

        `pad` is half the kernel where it is not given; `start` is for residual branches.
        """
        high, wide = (kernel, kernel) if isinstance(kernel, int) else kernel
        steps = [stride, stride] if isinstance(stride, int) else list(stride)
        if pad is None:
            pad = (high // 2, wide // 2, high // 2, wide // 2)
        edges = [pad] * 4 if isinstance(pad, int) else list(pad)
        weight = self.weight(f"{name}.weight", n_out, n_in // groups, high, wide, start=start)
        bias = self.weight(f"{name}.bias", n_out)
        out = self.draft.add("conv2d", value, weight, bias, stride=steps, groups=groups, pad=edges)
        return activation(self.draft, out) if activation else out

    def linear(
        self,
        name: str,
        value: str,
        n_in: int,
        n_out: int,
        *,
        activation: Activation | None = None,
        start: float | None = None,
    ) -> str:
        """A matrix (..., n_in) -> (..., n_out); its weight is (n_in, n_out)."""
        product = self.draft.add(
            "matmul", value, self.weight(f"{name}.weight", n_in, n_out, start=start)
        )
        out = self.draft.add("add", product, self.weight(f"{name}.bias", n_out))
        return activation(self.draft, out) if activation else out

    def layer_norm(self, name: str, value: str, size: int, *, epsilon: float = 1e-5) -> str:
        """Zero mean and unit deviation along the last axis (Ba, Kiros, Hinton, 2016)."""
        draft = self.draft
        centred = draft.add("sub", value, draft.add("mean", value, axes=[-1]))
        power = draft.add("mean", draft.add("mul", centred, centred), axes=[-1])
        spread = draft.add("sqrt", draft.add("add", power, np.float32(epsilon)))
        unit = draft.add("div", centred, spread)
        scaled = draft.add("mul", unit, self.weight(f"{name}.weight", size, start=1.0))
        return draft.add("add", scaled, self.weight(f"{name}.bias", size))

    def add(self, one: str, other: str, activation: Activation | None = None) -> str:
        """The sum of two values, as of a residual block."""
        total = self.draft.add("add", one, other)
        return activation(self.draft, total) if activation else total

    def pool(self, value: str, axes: Sequence[int] = (2, 3)) -> str:
        """The mean over all places: (n, n_features, h, w) -> (n, n_features)."""
        return self.draft.add("mean", value, axes=list(axes), keepdims=False)

    def finish(
        self,
        output: str,
        *,
        blocks: tuple[str, ...],
        taps: Mapping[str, str] | None = None,
        top: str = "",
    ) -> Network:
        return Network(self.draft.finish(output), blocks, taps or {}, top, dict(self._start))


def fold(
    weight: Array,
    bias: Array | None,
    *,
    gain: Array,
    shift: Array,
    mean: Array,
    variance: Array,
    epsilon: float = 1e-5,
) -> tuple[Array, Array]:
    """A convolution and the normalisation by batches after it as one convolution.

    Args:
        weight: (n_out, ...); bias: (n_out,) or None; the others float (n_out,), as trained
            (Ioffe and Szegedy, ICML 2015).

    Returns: float32 weight and bias.
    """
    scale = np.asarray(gain, np.float64) / np.sqrt(np.asarray(variance, np.float64) + epsilon)
    before = np.zeros(len(scale)) if bias is None else np.asarray(bias, np.float64)
    folded = np.asarray(weight, np.float64) * scale.reshape(-1, *[1] * (weight.ndim - 1))
    return folded.astype(np.float32), ((before - mean) * scale + shift).astype(np.float32)
