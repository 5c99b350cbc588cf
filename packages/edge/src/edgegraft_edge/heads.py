"""Heads: from an embedding to probabilities or estimates. Frozen values; each is a program too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from edgegraft_edge.program import IDENTITY, Draft, Program
from edgegraft_edge.signal import Array


class Head(Protocol):
    """Anything that turns embeddings (n_windows, embedding_dim) into probabilities."""

    def scores(self, z: Array) -> Array:
        """Probabilities float32 (n_windows, n_classes), rows summing to one."""
        ...

    def program(self) -> Program:
        """The same as a program that starts from the embedding."""
        ...


@dataclass(frozen=True)
class LinearHead:
    """Softmax of an affine map; scaling of features and temperature are folded into it.

    Attributes:
        weight: float32 (embedding_dim, n_classes).
        bias: float32 (n_classes,).

    >>> import numpy as np
    >>> head = LinearHead(np.eye(2, dtype=np.float32), np.zeros(2, dtype=np.float32))
    >>> head.scores(np.array([[0.0, 0.0]])).tolist()
    [[0.5, 0.5]]
    """

    weight: Array
    bias: Array

    def scores(self, z: Array) -> Array:
        return self.program().run(z)

    def program(self) -> Program:
        draft = Draft()
        logits = draft.add("add", draft.add("matmul", "x", self.weight), self.bias)
        return draft.finish(draft.add("softmax", logits, axis=-1))


@dataclass(frozen=True)
class AffineHead:
    """An affine map without softmax, for estimates.

    Attributes:
        weight: float32 (embedding_dim, n_columns).
        bias: float32 (n_columns,).

    >>> import numpy as np
    >>> AffineHead(np.ones((2, 1)), np.zeros(1)).scores(np.array([[1.0, 2.0]])).tolist()
    [[3.0]]
    """

    weight: Array
    bias: Array

    def scores(self, z: Array) -> Array:
        return self.program().run(z)

    def program(self) -> Program:
        draft = Draft()
        return draft.finish(draft.add("add", draft.add("matmul", "x", self.weight), self.bias))


@dataclass(frozen=True)
class IdentityHead:
    """The embedding as it is, where a backbone gives the answer itself."""

    def scores(self, z: Array) -> Array:
        return z

    def program(self) -> Program:
        return IDENTITY


@dataclass(frozen=True)
class DenseHead:
    """Affine layers with an activation between them, and softmax at the end.

    Attributes:
        weights: float32 (n_in, n_out) per layer; the first takes the embedding.
        biases: float32 (n_out,) per layer.
        activation: a primitive of one input: relu, leaky_relu, sigmoid or tanh.

    >>> import numpy as np
    >>> one = np.ones((1, 1), dtype=np.float32)
    >>> none = np.zeros(2, dtype=np.float32)
    >>> head = DenseHead((one, np.array([[0.0, 5.0]])), (none[:1], none), "relu")
    >>> head.scores(np.array([[-3.0], [3.0]])).round(2).tolist()
    [[0.5, 0.5], [0.0, 1.0]]
    """

    weights: tuple[Array, ...]
    biases: tuple[Array, ...]
    activation: str

    def scores(self, z: Array) -> Array:
        return self.program().run(z)

    def program(self) -> Program:
        draft, value = Draft(), "x"
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if index:
                value = draft.add(self.activation, value)
            value = draft.add("add", draft.add("matmul", value, weight), bias)
        return draft.finish(draft.add("softmax", value, axis=-1))


@dataclass(frozen=True)
class TreesHead:
    """Mean of the leaf values of binary trees: probabilities, or estimates.

    Attributes:
        feature: int64 (n_nodes,), the feature that a node asks.
        threshold: float32 (n_nodes,), go left where the feature is at most this.
        left, right: int64 (n_nodes,), the next nodes; left is -1 at a leaf.
        value: float32 (n_nodes, n_columns), at a leaf.
        roots: int64 (n_trees,).
    """

    feature: Array
    threshold: Array
    left: Array
    right: Array
    value: Array
    roots: Array

    def scores(self, z: Array) -> Array:
        return self.program().run(z)

    def program(self) -> Program:
        draft = Draft()
        return draft.finish(
            draft.add(
                "trees",
                "x",
                self.feature,
                self.threshold,
                self.left,
                self.right,
                self.value,
                self.roots,
            )
        )
