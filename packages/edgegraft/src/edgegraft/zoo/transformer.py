"""What transformers are made of: attention, the layers around it, and means over tokens.

Source: Vaswani et al., Attention is all you need, NeurIPS 2017.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgegraft.zoo.layers import Activation, gelu, relu, silu
from edgegraft_edge.errors import ModelError, nearest
from edgegraft_edge.program import Draft

HIDDEN = np.float32(-1e9)
"""Added to what must not be seen before softmax."""


def gelu_tanh(draft: Draft, value: str) -> str:
    """The approximation by tanh of Hendrycks and Gimpel, 2016, as in GPT-2."""
    cube = draft.add("mul", draft.add("mul", value, value), value)
    inner = draft.add("add", value, draft.add("mul", cube, np.float32(0.044715)))
    bent = draft.add("tanh", draft.add("mul", inner, np.float32(np.sqrt(2 / np.pi))))
    half = draft.add("mul", value, np.float32(0.5))
    return draft.add("mul", half, draft.add("add", bent, np.float32(1)))


ACTIVATIONS: Mapping[str, Activation] = {
    "gelu": gelu,
    "gelu_new": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "relu": relu,
    "silu": silu,
    "swish": silu,
}


def activation_of(name: str) -> Activation:
    """By the name that a config.json gives it. Errors: `ModelError` "config-unknown"."""
    if name not in ACTIVATIONS:
        raise ModelError.of(
            "config-unknown",
            f"activation {name!r}",
            "networks of that kind are not written here",
            nearest(name, list(ACTIVATIONS)),
        )
    return ACTIVATIONS[name]


def token_mask(draft: Draft, ids: str, pad: int) -> str:
    """1 where a token stands, 0 where the sentence was filled up: (n_windows, n_tokens)."""
    away = draft.add("abs", draft.add("sub", ids, np.float32(pad)))
    return draft.add("minimum", away, np.float32(1))


def seen_by_all(draft: Draft, mask: str, n_tokens: int) -> str:
    """What attention adds so that nobody sees filling: (n_windows, 1, 1, n_tokens)."""
    absent = draft.add("sub", np.float32(1), mask)
    return draft.add("reshape", draft.add("mul", absent, HIDDEN), shape=[1, 1, n_tokens])


def attention(
    draft: Draft, three: Sequence[str], hidden: str, *, n_tokens: int, dim: int, n_heads: int
) -> str:
    """Each token takes from the others what its query finds: (n_windows, n_tokens, dim).

    `three` are queries, keys and values, each of that shape. `hidden` is added before softmax; it
    stretches to (n_windows, n_heads, n_tokens, n_tokens).
    """
    size = dim // n_heads
    query, key, value = three

    def heads(of: str, axes: list[int]) -> str:
        split = draft.add("reshape", of, shape=[n_tokens, n_heads, size])
        return draft.add("transpose", split, axes=axes)

    scores = draft.add("matmul", heads(query, [0, 2, 1, 3]), heads(key, [0, 2, 3, 1]))
    scores = draft.add("mul", scores, np.float32(1 / np.sqrt(size)))
    share = draft.add("softmax", draft.add("add", scores, hidden), axis=-1)
    mixed = draft.add("matmul", share, heads(value, [0, 2, 1, 3]))
    joined = draft.add("transpose", mixed, axes=[0, 2, 1, 3])
    return draft.add("reshape", joined, shape=[n_tokens, dim])


def mean_over(draft: Draft, value: str, mask: str, n_tokens: int) -> str:
    """Means over the tokens of each sentence: (n_windows, dim); zeros where there is none."""
    weight = draft.add("reshape", mask, shape=[n_tokens, 1])
    total = draft.add("sum", draft.add("mul", value, weight), axes=[1], keepdims=False)
    count = draft.add("maximum", draft.add("sum", mask, axes=[1]), np.float32(1))
    return draft.add("div", total, count)


def last_of(draft: Draft, value: str, mask: str, n_tokens: int) -> str:
    """The last token of each sentence: (n_windows, dim); zeros where there is none."""
    later = draft.add("slice", mask, axis=1, start=1, stop=n_tokens)
    later = draft.add("pad", later, before=[0], after=[1])
    place = draft.add("reshape", draft.add("sub", mask, later), shape=[n_tokens, 1])
    return draft.add("sum", draft.add("mul", value, place), axes=[1], keepdims=False)


def unit_length(draft: Draft, value: str) -> str:
    """Each embedding brought to length one."""
    power = draft.add("sum", draft.add("mul", value, value), axes=[1])
    length = draft.add("sqrt", draft.add("maximum", power, np.float32(1e-24)))
    return draft.add("div", value, length)
