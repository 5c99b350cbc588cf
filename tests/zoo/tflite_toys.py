"""Small .tflite files, written for the tests."""

import flatbuffers
import numpy as np

KINDS = {"f": (0, np.float32), "i": (2, np.int32), "B": (3, np.uint8), "b": (9, np.int8)}
CONV, DEPTHWISE, DENSE, POOL, SOFTMAX, CUSTOM, WHILE, RELU, RESHAPE = (
    3,
    4,
    9,
    1,
    25,
    32,
    119,
    19,
    22,
)

OPTIONS = {
    3: 1, 4: 2, 1: 5, 17: 5, 9: 8, 25: 9, 2: 10, 0: 11, 22: 17, 18: 21, 34: 22, 39: 26, 40: 27,
    43: 30, 45: 32, 70: 52, 98: 75,
}  # fmt: skip
"""Operator -> number of the kind of its options, where a runtime reads them."""


def tensor(name, shape, kind="f", data=None, scale=(), zero=(), axis=0):
    return {
        "name": name,
        "shape": shape,
        "kind": kind,
        "data": None if data is None else np.asarray(data, KINDS[kind][1]),
        "scale": scale,
        "zero": zero,
        "axis": axis,
    }


def operator(code, inputs, outputs, options=(), custom=""):
    """`options` are (field, form, value), form "b", "i", "f", or "v" of a list of "i"."""
    return {"code": code, "in": inputs, "out": outputs, "options": options, "custom": custom}


def _vector(b, values, size, prepend):
    b.StartVector(size, len(values), size)
    for value in reversed(values):
        prepend(value)
    return b.EndVector()


def _table(b, fields):
    """`fields`: (number, form, value); "o" is an offset."""
    b.StartObject(max((f[0] for f in fields), default=-1) + 1)
    for number, form, value in fields:
        if form == "o":
            b.PrependUOffsetTRelativeSlot(number, value, 0)
        elif form == "b":
            b.PrependInt8Slot(number, value, None)
        elif form == "f":
            b.PrependFloat32Slot(number, value, None)
        elif form == "I":
            b.PrependUint32Slot(number, value, None)
        else:
            b.PrependInt32Slot(number, value, None)
    return b.EndObject()


def _tables(b, tables):
    return _vector(b, tables, 4, b.PrependUOffsetTRelative)


def write(tensors, operators, inputs, outputs, metadata=None):
    """The bytes of a file; the first buffer is empty, as the format wants."""
    b = flatbuffers.Builder(1024)
    arrays = [t["data"].tobytes() if t["data"] is not None else None for t in tensors]
    arrays = [None, *arrays, metadata]
    buffers = [
        _table(b, [(0, "o", b.CreateByteVector(a))] if a is not None else []) for a in arrays
    ]
    made = []
    for index, t in enumerate(tensors, start=1):
        name = b.CreateString(t["name"])
        shape = _vector(b, t["shape"], 4, b.PrependInt32)
        fields = [(0, "o", shape), (1, "b", KINDS[t["kind"]][0]), (3, "o", name)]
        fields.append((2, "I", index))
        if t["scale"]:
            scale = _vector(b, t["scale"], 4, b.PrependFloat32)
            zero = _vector(b, t["zero"], 8, b.PrependInt64)
            table = _table(b, [(2, "o", scale), (3, "o", zero), (6, "i", t["axis"])])
            fields.append((4, "o", table))
        made.append(_table(b, fields))
    tensors_at = _tables(b, made)
    codes = list(dict.fromkeys((o["code"], o["custom"]) for o in operators))
    code_tables = []
    for code, custom in codes:
        fields = [(0, "b", min(code, 127)), (3, "i", code)]
        if custom:
            fields.append((1, "o", b.CreateString(custom)))
        code_tables.append(_table(b, fields))
    codes_at = _tables(b, code_tables)
    written = []
    for o in operators:
        read, give = (_vector(b, o[key], 4, b.PrependInt32) for key in ("in", "out"))
        options = _table(
            b,
            [
                (field, "o", _vector(b, value, 4, b.PrependInt32))
                if form == "v"
                else (field, form, value)
                for field, form, value in o["options"]
            ],
        )
        index = codes.index((o["code"], o["custom"]))
        written.append(
            _table(
                b,
                [
                    (0, "I", index),
                    (1, "o", read),
                    (2, "o", give),
                    (3, "b", OPTIONS.get(o["code"], 0)),
                    (4, "o", options),
                ],
            )
        )
    operators_at = _tables(b, written)
    ends = [_vector(b, each, 4, b.PrependInt32) for each in (inputs, outputs)]
    graph = _table(
        b, [(0, "o", tensors_at), (1, "o", ends[0]), (2, "o", ends[1]), (3, "o", operators_at)]
    )
    graphs = _tables(b, [graph])
    fields = [(0, "i", 3), (1, "o", codes_at), (2, "o", graphs)]
    if metadata is not None:
        name = b.CreateString("TFLITE_METADATA")
        entry = _table(b, [(0, "o", name), (1, "I", len(arrays) - 1)])
        fields.append((6, "o", _tables(b, [entry])))
    fields.append((4, "o", _tables(b, buffers)))
    b.Finish(_table(b, fields), file_identifier=b"TFL3")
    return bytes(b.Output())


def metadata(mean, scale, licence):
    """The bytes of metadata with the normalisation of the input."""
    b = flatbuffers.Builder(256)
    vectors = [_vector(b, values, 4, b.PrependFloat32) for values in (mean, scale)]
    options = _table(b, [(0, "o", vectors[0]), (1, "o", vectors[1])])
    unit = _table(b, [(0, "b", 1), (1, "o", options)])
    given = _table(b, [(4, "o", _tables(b, [unit]))])
    graph = _table(b, [(2, "o", _tables(b, [given]))])
    text = b.CreateString(licence)
    b.Finish(_table(b, [(3, "o", _tables(b, [graph])), (5, "o", text)]), file_identifier=b"M001")
    return bytes(b.Output())


def classifier(n_classes=3, size=12, quantised=True, metadata=None, seed=0, extra=()):
    """A convolution with stride 2, a depthwise one, a mean, a matrix and a softmax."""
    rng = np.random.default_rng(seed)
    if quantised:
        stem = rng.integers(-127, 128, (4, 3, 3, 3))
        deep = rng.integers(-127, 128, (1, 3, 3, 4))
        scales = [0.001 * (i + 1) for i in range(4)]
        x = tensor("pixels", [1, size, size, 3], "B", None, [1 / 128], [128])
        w = tensor("stem/kernel", [4, 3, 3, 3], "b", stem, scales, [0] * 4, 0)
        d = tensor("deep/kernel", [1, 3, 3, 4], "b", deep, scales, [0] * 4, 3)
    else:
        x = tensor("pixels", [1, size, size, 3])
        w = tensor("stem/kernel", [4, 3, 3, 3], "f", rng.normal(0, 0.3, (4, 3, 3, 3)))
        d = tensor("deep/kernel", [1, 3, 3, 4], "f", rng.normal(0, 0.3, (1, 3, 3, 4)))
    half = -(-size // 2)
    tensors = [
        x,
        w,
        tensor("stem/bias", [4], "f", rng.normal(0, 0.1, 4)),
        tensor("stem/out", [1, half, half, 4]),
        d,
        tensor("deep/bias", [4], "f", rng.normal(0, 0.1, 4)),
        tensor("deep/out", [1, half, half, 4]),
        tensor("pool/out", [1, 1, 1, 4]),
        tensor("top/kernel", [n_classes, 4], "f", rng.normal(size=(n_classes, 4))),
        tensor("top/bias", [n_classes], "f", rng.normal(size=n_classes)),
        tensor("top/out", [1, n_classes]),
        tensor("probabilities", [1, n_classes]),
    ]
    operators = [
        operator(CONV, [0, 1, 2], [3], [(0, "b", 0), (1, "i", 2), (2, "i", 2), (3, "b", 3)]),
        operator(
            DEPTHWISE,
            [3, 4, 5],
            [6],
            [(0, "b", 0), (1, "i", 1), (2, "i", 1), (3, "i", 1), (4, "b", 1)],
        ),
        operator(
            POOL, [6], [7], [(0, "b", 1), (1, "i", 1), (2, "i", 1), (3, "i", half), (4, "i", half)]
        ),
        operator(DENSE, [7, 8, 9], [10]),
        operator(SOFTMAX, [10], [11], [(0, "f", 1.0)]),
        *extra,
    ]
    return write(tensors, operators, [0], [11], metadata)
