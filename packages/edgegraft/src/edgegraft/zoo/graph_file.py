"""A network file as a backbone, frozen, tuned and drawn anew like any other.

It is cut at its last pooled value, or at a value that is named, so that a classifier becomes a
backbone (:mod:`edgegraft.zoo.file_cut`). How windows come to it follows from the shape of its
input, and the card says what was assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from edgegraft.zoo.backbone import BackboneCard
from edgegraft.zoo.file_cut import cut_network, named_cut, usual_cut
from edgegraft.zoo.file_intake import SeriesIntake
from edgegraft.zoo.file_transcript import FileModel, RefusedError, Transcript, Writer
from edgegraft.zoo.graph import Graph, Intake
from edgegraft.zoo.intake import ImageIntake
from edgegraft.zoo.sound_front import FRONTS, SoundIntake
from edgegraft_edge.errors import ModelError, OptionError, Problem, nearest

MAX_BYTES = 1 << 30  # of a file
_SMALLEST = 8  # pixels along a side of what is taken for a picture
_RANGES: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "-1..1": ((0.5,), (0.5,)),
    "0..1": ((0.0,), (1.0,)),
    "0..255": ((0.0,), (1 / 255,)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""Names of scales: what pixels become, as mean and scale of a pixel from 0 to 1."""
_OPTIONS = ("cut", "front", "pixels", "reversed", "shape")


def file_card(path: Path, kind: str, cut: str = "") -> tuple[BackboneCard, bytes]:
    """The bytes of a network file, and a card for it. Errors: `ModelError` "weights-missing"."""
    import hashlib

    try:
        if path.stat().st_size > MAX_BYTES:
            raise ModelError.of(
                "weights-size",
                f"{path} of {path.stat().st_size} bytes",
                f"a network file has at most {MAX_BYTES}",
                "a smaller network",
            )
        data = path.read_bytes()
    except OSError as error:
        raise ModelError.of(
            "weights-missing",
            f"no file {path} that can be read",
            "it is named as a backbone",
            "check the path",
        ) from error
    card = BackboneCard(
        name=f"{kind}:{path.stem}" + (f"@{cut}" if cut else ""),
        architecture=kind,
        summary="",
        kind="pretrained",
        licence="not stated",
        checksum=hashlib.sha256(data).hexdigest(),
        weights=path.name,
        options={"cut": cut} if cut else {},
    )
    return card, data


def of_bytes(
    card: BackboneCard,
    data: bytes | None,
    read: Callable[[bytes], FileModel],
    writers: Mapping[str, Writer],
) -> Graph:
    """The network of a file's bytes as a backbone; see `backbone`.

    Errors: `ModelError` "weights-missing" without any, since the file is the network.
    """
    if data is None:
        raise ModelError.of(
            "weights-missing",
            f"{card.name} without a file",
            "the file is the network",
            f"FILE.{card.architecture} as the backbone",
        )
    return backbone(card, read(data), writers)


def backbone(card: BackboneCard, model: FileModel, writers: Mapping[str, Writer]) -> Graph:
    """The network of a file as a backbone.

    Options of the card: `cut`, the name of the value that is the embedding (of the file's own
    names, or a part that only one name has); `pixels`, what the network takes pixels as:
    "-1..1", "0..1", "0..255" or "imagenet"; `reversed`, blue first; `front`, how windows come
    to it: "pixels", "series", or the name of a sound front end; `shape` of one window, channels
    first, where the file leaves it open.

    Errors: `ModelError` "operator-unknown" and "operator-form" with all that stand before the
    cut, "cut-unknown", "network-input"; `OptionError`.
    """
    check_options(card)
    model, opened = closed(model, card)
    transcript = Transcript(model)
    problems = write_nodes(transcript, writers)
    wanted = str(card.options.get("cut", ""))
    cut = named_cut(transcript, wanted) if wanted else usual_cut(model)
    if cut not in transcript.values:
        raise ModelError(problems or [_constant(cut)])
    network = cut_network(transcript, cut, named=bool(wanted))
    intake, takes, said = intake_of(card, model)
    shape = " x ".join(str(n) for n in model.shape[1:])
    found = replace(
        card,
        summary=card.summary or f"{card.weights}, {shape}{opened} -> {cut[:60]}; {said}",
        n_parameters=sum(array.size for array in network.weights.values()),
        licence=model.licence if model.licence and card.licence == "not stated" else card.licence,
        takes=takes,
    )
    return Graph(found, intake, network)


def check_options(card: BackboneCard) -> None:
    problems = [
        Problem(
            "option-unknown",
            f"option {name!r} of {card.name!r}",
            "a network file has no such option",
            nearest(name, _OPTIONS),
        )
        for name in card.options
        if name not in _OPTIONS
    ]
    for name, known in (("pixels", list(_RANGES)), ("front", ["pixels", "series", *FRONTS])):
        if card.options.get(name, known[0]) not in known:
            problems.append(
                Problem(
                    "option-value",
                    f"{name}={card.options[name]!r}",
                    "there is none of that name",
                    nearest(str(card.options[name]), known),
                )
            )
    if problems:
        raise OptionError(problems)


def closed(model: FileModel, card: BackboneCard) -> tuple[FileModel, str]:
    """The model with a size for each axis of its input, and what to say of them."""
    shape = model.shape
    if card.options.get("shape"):
        first = [int(n) for n in card.options["shape"]]
        sizes = [*first[1:], first[0]] if model.channels_last else first
        fits = len(sizes) == len(shape) - 1 and all(
            known in (0, size) for known, size in zip(shape[1:], sizes, strict=True)
        )
        if not fits or min(sizes) < 1:
            raise OptionError.of(
                "option-value",
                f"shape={list(card.options['shape'])}",
                f"the file takes windows of {_shown(model)}",
                "channels first, then places",
            )
        return replace(model, shape=(1, *sizes)), ""
    if 0 not in shape[1:]:
        return model, ""
    channels = shape[-1] if model.channels_last else shape[1]
    if len(shape) == 4 and channels in (1, 3):
        return replace(model, shape=tuple(n or 224 for n in shape)), " (sides of 224 assumed)"
    raise ModelError.of(
        "network-input",
        f"{card.name} takes windows of {_shown(model)}",
        "the file leaves sizes open",
        "a card beside it with options = {shape = [channels, places]}",
    )


def _shown(model: FileModel) -> str:
    return " x ".join(str(n or "?") for n in model.shape[1:])


def write_nodes(transcript: Transcript, writers: Mapping[str, Writer]) -> list[Problem]:
    """Write all that can be written; what cannot, and why."""
    problems: list[Problem] = []
    unknown: dict[str, str] = {}
    for node in transcript.model.nodes:
        if not all(transcript.knows(name) for name in node.inputs):
            if node.kind not in writers:
                unknown.setdefault(node.kind, node.outputs[0])
            continue
        if node.kind not in writers:
            unknown.setdefault(node.kind, node.outputs[0])
            continue
        try:
            writers[node.kind](transcript, node)
        except RefusedError as error:
            problems.append(
                Problem(
                    "operator-form",
                    f"{node.kind} (giving {node.outputs[0]!r}) with {error}",
                    "it cannot be written as a program in that form",
                    "cut the network before it, with FILE@NAME",
                )
            )
        except (ValueError, IndexError, TypeError, OverflowError, KeyError) as error:
            problems.append(
                Problem(
                    "operator-form",
                    f"{node.kind} (giving {node.outputs[0]!r}) that contradicts itself ({error})",
                    "what it reads does not have the form that it wants",
                    "convert the file again",
                )
            )
    known = ", ".join(sorted(writers))
    return [
        Problem(
            "operator-unknown",
            f"{kind} (first giving {first!r})",
            "there is no such operator here",
            f"cut the network before it, with FILE@NAME; known are {known}",
        )
        for kind, first in unknown.items()
    ] + problems[:8]


def intake_of(card: BackboneCard, model: FileModel) -> tuple[Intake, tuple[str, ...], str]:
    """How windows come to the network, which kinds, and what was assumed, in words."""
    sizes = model.shape[1:]
    if model.channels_last and len(sizes) > 1:
        sizes = (sizes[-1], *sizes[:-1])
    front = str(card.options.get("front", "")) or _front(sizes)
    if front == "series":
        return SeriesIntake(sizes), ("series", "audio"), "series of that shape"
    if front in FRONTS:
        known = FRONTS[front]
        if sizes[1:] != known.places or sizes[0] != known.channels:
            raise OptionError.of(
                "option-value",
                f"front={front!r} for windows of {_shown(model)}",
                f"it gives {known.channels} x {' x '.join(map(str, known.places))}",
                'front = "series"',
            )
        return SoundIntake(front), ("audio",), f"sound through the front end {front!r} (assumed)"
    if len(sizes) != 3 or sizes[0] not in (1, 3):
        raise OptionError.of(
            "option-value",
            f"front='pixels' for windows of {_shown(model)}",
            "a picture has 1 or 3 channels",
            'front = "series"',
        )
    given, said = card.options.get("pixels"), ""
    if model.pixels is not None and not given:
        mean, scale = (tuple(n / 255 for n in numbers) for numbers in model.pixels)
        said = "pixels as the file states"
    else:
        usual = "-1..1" if model.channels_last else "imagenet" if sizes[0] == 3 else "0..1"
        name = str(given or usual)
        mean, scale = _RANGES[name]
        said = f"pixels {name}" + ("" if given else " assumed")
    reverse = bool(card.options.get("reversed", False))
    channels, height, width = sizes
    return ImageIntake(height, width, channels, mean, scale, reverse), ("image", "audio"), said


def _front(sizes: Sequence[int]) -> str:
    """The front end that such an input usually has."""
    for name, front in FRONTS.items():
        if tuple(sizes) == (front.channels, *front.places):
            return name
    picture = len(sizes) == 3 and sizes[0] in (1, 3) and min(sizes[1:]) >= _SMALLEST
    return "pixels" if picture else "series"


def _constant(cut: str) -> Problem:
    return Problem(
        "cut-unknown",
        f"the value {cut!r}",
        "it does not depend on the input",
        "name another value with FILE@NAME",
    )
