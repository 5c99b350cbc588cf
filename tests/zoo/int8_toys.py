"""Small quantised .tflite files, one for each operator, written for the tests."""

import numpy as np
import tflite_toys as toys
from tflite_toys import operator, tensor, write

SCALE, ZERO = 0.05, -3


def eight(name, shape, scale=SCALE, zero=ZERO):
    return tensor(name, shape, "b", None, [scale], [zero])


def _weights(rng, shape, axis):
    n = shape[axis]
    scales = (0.002 * (1 + np.arange(n) % 5)).tolist()
    return tensor("w", shape, "b", rng.integers(-127, 128, shape), scales, [0] * n, axis)


def _bias(rng, n, scale=(0.0005,)):
    return tensor("b", [n], "i", rng.integers(-500, 500, n), scale, [0] * len(scale))


def _numbers(name, values):
    return tensor(name, [len(np.ravel(values))], "i", np.ravel(values))


def one(code, shape, out, *, others=(), options=(), scale=SCALE, zero=ZERO):
    """A file of one operator on one int8 value."""
    tensors = [eight("x", [1, *shape]), *others, eight("y", [1, *out], scale, zero)]
    last = len(tensors) - 1
    return write(tensors, [operator(code, list(range(last)), [last], options)], [0], [last])


def _conv(seed=0):
    rng = np.random.default_rng(seed)
    others = (_weights(rng, [5, 3, 2, 4], 0), _bias(rng, 5))
    options = [(0, "b", 0), (1, "i", 1), (2, "i", 2), (3, "b", 1)]
    return one(3, [7, 6, 4], [4, 6, 5], others=others, options=options, scale=0.1, zero=-128)


def _grouped():
    rng = np.random.default_rng(1)
    others = (_weights(rng, [6, 2, 2, 2], 0), _bias(rng, 6))
    options = [(0, "b", 1), (1, "i", 1), (2, "i", 1), (3, "b", 0)]
    return one(3, [5, 5, 4], [4, 4, 6], others=others, options=options, scale=0.1)


def _depthwise():
    rng = np.random.default_rng(2)
    others = (_weights(rng, [1, 3, 3, 8], 3), _bias(rng, 8))
    options = [
        (0, "b", 0), (1, "i", 1), (2, "i", 1), (3, "i", 2), (4, "b", 3), (5, "i", 2), (6, "i", 1)
    ]  # fmt: skip
    return one(4, [6, 9, 4], [6, 9, 8], others=others, options=options, scale=0.04)


def _dense(keep=False):
    rng = np.random.default_rng(3)
    w = tensor("w", [6, 8], "b", rng.integers(-127, 128, (6, 8)), [0.0103], [0])
    shape = [3, 8] if keep else [8]
    out = [3, 6] if keep else [6]
    return one(
        9,
        shape,
        out,
        others=(w, _bias(rng, 6, (0.000515,))),
        options=[(2, "b", int(keep))],
        scale=0.2,
    )


def _two(code, options=((0, "b", 1),)):
    tensors = [eight("x", [1, 4, 6]), eight("t", [1, 4, 6], 1 / 128, 0)]
    tensors.append(eight("y", [1, 4, 6], 0.06, 4))
    steps = [operator(28, [0], [1]), operator(code, [0, 1], [2], options)]
    return write(tensors, steps, [0], [2])


def _joined():
    tensors = [eight("x", [1, 4, 6]), eight("c", [1, 4, 6]), eight("y", [1, 4, 12])]
    steps = [operator(19, [0], [1]), operator(2, [0, 1], [2], [(0, "i", 2)])]
    return write(tensors, steps, [0], [2])


def _float_ends():
    tensors = [tensor("x", [1, 9]), eight("q", [1, 9]), eight("r", [1, 9], 0.11, 30)]
    tensors.append(tensor("y", [1, 9]))
    steps = [operator(114, [0], [1]), operator(114, [1], [2]), operator(6, [2], [3])]
    return write(tensors, steps, [0], [3])


def _pool(code, fused=0):
    options = [(0, "b", 0), (1, "i", 2), (2, "i", 1), (3, "i", 2), (4, "i", 3), (5, "b", fused)]
    return one(code, [5, 7, 3], [5, 4, 3], options=options)


def files():
    """Name -> bytes of a file whose every value is int8."""
    return {
        "conv": _conv(),
        "grouped": _grouped(),
        "depthwise": _depthwise(),
        "dense": _dense(),
        "dense-rows": _dense(keep=True),
        "add": _two(0),
        "mul": _two(18),
        "average": _pool(1),
        "largest": _pool(17),
        "largest-relu": _pool(17, fused=1),
        "mean": one(
            40, [5, 7, 3], [1, 1, 3], others=(_numbers("a", [1, 2]),), options=[(0, "b", 1)],
            scale=0.02,
        ),
        "mean-rows": one(40, [5, 7, 3], [5, 3], others=(_numbers("a", [2]),)),
        "reshape": one(22, [4, 6], [3, 8], others=(_numbers("a", [1, 3, 8]),)),
        "squeeze": one(43, [4, 1, 6], [4, 6], options=[(0, "v", [2])]),
        "expand": one(70, [4, 6], [4, 1, 6], others=(_numbers("a", [2]),)),
        "transpose": one(39, [4, 6, 2], [2, 4, 6], others=(_numbers("a", [0, 3, 1, 2]),)),
        "pad": one(
            34, [4, 6], [6, 9],
            others=(tensor("a", [3, 2], "i", [[0, 0], [1, 1], [0, 3]]),),
        ),
        "slice": one(
            45, [4, 9], [2, 5],
            others=(_numbers("s", [0, 1, 0]), _numbers("e", [1, 3, 9]), _numbers("t", [1, 1, 2])),
        ),
        "joined": _joined(),
        "softmax": one(25, [7], [7], options=[(0, "f", 1.0)], scale=1 / 256, zero=-128),
        "logistic": one(14, [30], [30], scale=1 / 256, zero=-128),
        "tanh": one(28, [30], [30], scale=1 / 128, zero=0),
        "hard-swish": one(117, [30], [30]),
        "leaky": one(98, [30], [30], options=[(0, "f", 0.2)], scale=0.04),
        "relu": one(19, [30], [30], scale=0.03, zero=-100),
        "relu6": one(21, [30], [30], scale=0.03, zero=-100),
        "float-ends": _float_ends(),
    }  # fmt: skip


def picture(shape=(8, 9, 3)):
    """A convolution, a mean, a matrix and a softmax on pictures of 8 bits."""
    rng = np.random.default_rng(5)
    tensors = [
        eight("pixels", [1, *shape], 1 / 255, -128),
        _weights(rng, [4, 3, 3, 3], 0),
        _bias(rng, 4),
        eight("map", [1, *shape[:2], 4], 0.02, -128),
        _numbers("axes", [1, 2]),
        eight("mean", [1, 4], 0.01, -128),
        tensor("top", [3, 4], "b", rng.integers(-127, 128, (3, 4)), [0.02], [0]),
        tensor("b", [3], "i", [5, -70, 30], [0.0002], [0]),
        eight("scores", [1, 3], 0.03, 5),
        eight("probabilities", [1, 3], 1 / 256, -128),
    ]
    steps = [
        operator(3, [0, 1, 2], [3], [(0, "b", 0), (1, "i", 1), (2, "i", 1), (3, "b", 1)]),
        operator(40, [3, 4], [5], [(0, "b", 0)]),
        operator(9, [5, 6, 7], [8]),
        operator(25, [8], [9], [(0, "f", 1.0)]),
    ]
    return write(tensors, steps, [0], [9])


__all__ = ["files", "picture", "one", "toys"]
