"""How sentences come to a network: as numbers of tokens, as many as the sentences need."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from edgegraft.zoo.graph import Graph
from edgegraft.zoo.intake import kind_error
from edgegraft.zoo.layers import Network
from edgegraft_edge import json_text
from edgegraft_edge.bytepair import byte_letters
from edgegraft_edge.errors import EdgegraftError, ModelError
from edgegraft_edge.program import Draft, Program
from edgegraft_edge.signal import Array, Spec, TextSpec, Windows
from edgegraft_edge.vocabulary import packed

LENGTHS = (16, 32, 64, 128, 256, 512, 1024)
"""Numbers of tokens that networks are built for."""
_USUAL = 0.99  # of the training sentences are read whole
MARKERS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


class TextIntake(Protocol):
    """An intake whose program gives numbers of tokens, float32 (n_windows, n_tokens)."""

    n_tokens: int

    @property
    def pad(self) -> int:
        """The number that fills up."""
        ...

    @property
    def n_vocabulary(self) -> int: ...

    def program(self, spec: Spec) -> Program: ...


@dataclass(frozen=True, eq=False)
class WordPieceIntake:
    """Word pieces, as BERT knows them; see `edgegraft_edge.wordpiece`.

    >>> intake = WordPieceIntake(packed([*MARKERS, "on"]), n_tokens=4)
    >>> intake.program(TextSpec(8)).run(TextSpec(8).pack(["On"])).tolist()
    [[2.0, 5.0, 3.0, 0.0]]
    """

    vocabulary: Array
    n_tokens: int = 32
    lower: bool = True
    accents: bool | None = None
    pad: int = 0

    @property
    def n_vocabulary(self) -> int:
        return int((self.vocabulary == 10).sum()) + 1

    def program(self, spec: Spec) -> Program:
        """Errors: `DataError` "kind-differs"."""
        if not isinstance(spec, TextSpec):
            raise kind_error(spec, "text")
        draft = Draft()
        options: dict[str, Any] = {"size": self.n_tokens, "lower": self.lower}
        if self.accents is not None:
            options["accents"] = self.accents
        return draft.finish(draft.add("wordpiece", "x", self.vocabulary, **options))


@dataclass(frozen=True, eq=False)
class BytePairIntake:
    """Byte pairs, as GPT-2 knows them; see `edgegraft_edge.bytepair`."""

    vocabulary: Array
    merges: Array
    pad: int
    n_tokens: int = 32

    @property
    def n_vocabulary(self) -> int:
        return int((self.vocabulary == 10).sum()) + 1

    def program(self, spec: Spec) -> Program:
        """Errors: `DataError` "kind-differs"."""
        if not isinstance(spec, TextSpec):
            raise kind_error(spec, "text")
        draft = Draft()
        options = {"size": self.n_tokens, "pad": self.pad}
        return draft.finish(draft.add("bytepair", "x", self.vocabulary, self.merges, **options))


class Shape(Protocol):
    """What a network is like, whatever the length of its sentences."""

    @property
    def n_positions(self) -> int: ...

    def network(self, n_tokens: int, taps: tuple[str, ...] = ()) -> Network: ...


@dataclass(frozen=True, eq=False)
class TextGraph(Graph):
    """A network over tokens, built anew for the length that training sentences have.

    The time that attention takes grows with the length, and most sentences are short: `fit`
    takes the shortest of `LENGTHS` that holds 99 of 100 training sentences. A longer sentence is
    cut there, in training as on the device.
    """

    shape: Shape | None = None
    taps: tuple[str, ...] = ()

    def fit(self, windows: Windows, *, seed: int) -> TextGraph:
        """Bind to sentences of this spec and about this length."""
        longest = replace_tokens(self.intake, self._most(windows.spec))
        ids = longest.program(windows.spec).run(windows.x)
        used = (ids != longest.pad).sum(axis=1) if len(ids) else np.ones(1)
        wanted = float(np.quantile(used, _USUAL))
        n_tokens = min(longest.n_tokens, next((n for n in LENGTHS if n >= wanted), LENGTHS[-1]))
        bound = super(TextGraph, self._of_length(n_tokens)).fit(windows, seed=seed)
        return cast(TextGraph, bound)

    def tapped(self, blocks: tuple[str, ...]) -> TextGraph:
        """The same network, embedding by the means of several blocks."""
        unknown = [name for name in blocks if name not in self.blocks]
        if unknown:
            raise ModelError.of(
                "block-unknown",
                f"blocks {', '.join(unknown)}",
                "the network has no such tap",
                f"of {', '.join(self.blocks)}",
            )
        return replace(self, taps=blocks)._of_length(self._intake.n_tokens)

    @property
    def one_scale(self) -> bool:
        """Whether embeddings have length one, so that heads leave their scale as it is."""
        return bool(getattr(self.shape, "unit", False))

    @property
    def _intake(self) -> TextIntake:
        return self.intake  # type: ignore[return-value]

    def _most(self, spec: Spec) -> int:
        """No sentence of so many bytes has more tokens than these, nor has the network."""
        assert self.shape is not None
        n_bytes = spec.n_bytes if isinstance(spec, TextSpec) else 0
        return max(2, min(self.shape.n_positions, n_bytes + 2))

    def _of_length(self, n_tokens: int) -> TextGraph:
        assert self.shape is not None
        network = self.shape.network(n_tokens, self.taps)
        kept = {name: self.network.weights[name] for name in network.weights}
        network = network.with_weights(kept)  # what lies above the last tap is left out
        return replace(self, intake=replace_tokens(self.intake, n_tokens), network=network)


def replace_tokens(intake: Any, n_tokens: int) -> Any:
    """The same intake for another number of tokens."""
    return replace(intake, n_tokens=n_tokens)


# -- vocabularies of folders


def wordpiece_of(folder: Path, pad: int = 0) -> WordPieceIntake:
    """From vocab.txt, or tokenizer.json, with tokenizer_config.json where it is.

    Errors: `ModelError` "folder-form".
    """
    settings = _json(folder / "tokenizer_config.json")
    lower, accents = bool(settings.get("do_lower_case", True)), settings.get("strip_accents")
    plain = folder / "vocab.txt"
    if plain.is_file():
        entries = plain.read_text(encoding="utf-8").replace("\r\n", "\n").rstrip("\n").split("\n")
    else:
        whole = _json(folder / "tokenizer.json")
        model = whole.get("model", {})
        if model.get("type") != "WordPiece":
            raise _form(folder, "vocab.txt, or a tokenizer.json of type WordPiece")
        entries = _ordered(model["vocab"], folder)
        normal = whole.get("normalizer") or {}
        lower, accents = bool(normal.get("lowercase", lower)), normal.get("strip_accents", accents)
    keep = None if accents is None else not accents
    return WordPieceIntake(packed(entries), lower=lower, accents=keep, pad=pad)


def bytepair_of(folder: Path) -> BytePairIntake:
    """From vocab.json and merges.txt, or tokenizer.json; the last token fills up.

    Errors: `ModelError` "folder-form".
    """
    merges = folder / "merges.txt"
    if merges.is_file() and (folder / "vocab.json").is_file():
        numbers = _json(folder / "vocab.json")
        rules = merges.read_text(encoding="utf-8").replace("\r\n", "\n").rstrip("\n").split("\n")
    else:
        model = _json(folder / "tokenizer.json").get("model", {})
        if model.get("type") != "BPE":
            raise _form(folder, "vocab.json and merges.txt, or a tokenizer.json of type BPE")
        numbers = model["vocab"]
        rules = [rule if isinstance(rule, str) else " ".join(rule) for rule in model["merges"]]
    pad = int(numbers.get("<|endoftext|>", len(numbers) - 1))
    return BytePairIntake(packed(_ordered(numbers, folder)), packed(rules), pad)


def letters_wordpiece() -> WordPieceIntake:
    """A vocabulary of single letters, for networks that know nothing yet."""
    letters = [chr(code) for code in range(33, 127)]
    return WordPieceIntake(packed([*MARKERS, *letters, *(f"##{letter}" for letter in letters)]))


def letters_bytepair() -> BytePairIntake:
    """A vocabulary of single bytes, for networks that know nothing yet."""
    return BytePairIntake(packed([*byte_letters(), "<|endoftext|>"]), packed([]), 256)


def config_of(folder: Path) -> dict[str, Any]:
    """The config.json of a folder. Errors: `ModelError` "folder-form"."""
    found = _json(folder / "config.json")
    if not found:
        raise _form(folder, "config.json")
    return found


def weights_of(folder: Path, checksum: str = "") -> bytes:
    """The weights of a folder: model.safetensors, or pytorch_model.bin.

    Errors: `ModelError` "folder-form"; "checksum-mismatch" for others than the card's.
    """
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            data = (folder / name).read_bytes()
            found = hashlib.sha256(data).hexdigest()
            if checksum and found != checksum:
                raise ModelError.of(
                    "checksum-mismatch",
                    f"{folder / name} with sha256 {found[:12]}...",
                    f"its card says {checksum[:12]}...",
                    "install or fetch the weights again",
                )
            return data
    raise _form(folder, "model.safetensors or pytorch_model.bin, in one piece")


def licence_of(folder: Path) -> str:
    """What the head of the folder's README says, else "not stated"."""
    try:
        with (folder / "README.md").open(encoding="utf-8", errors="replace") as readme:
            head = readme.read(4096)
    except OSError:
        return "not stated"
    found = re.search(r"^license:\s*([\w.+-]{1,40})\s*$", head, re.MULTILINE)
    return found[1] if found else "not stated"


def _ordered(numbers: dict[str, int], folder: Path) -> list[str]:
    """Tokens in the order of their numbers, with blanks where a number is not used."""
    try:
        most = max(numbers.values()) + 1
        if min(numbers.values()) < 0 or most > 4 * len(numbers) + 1000:
            raise ValueError
        out = [""] * most
        for token, number in numbers.items():
            out[number] = token
    except (TypeError, ValueError, AttributeError) as error:
        raise _form(folder, "a vocabulary of tokens with their numbers") from error
    return out


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return json_text.parse(path.read_bytes(), path.name)
    except (OSError, EdgegraftError) as error:
        raise _form(path.parent, f"a {path.name} that can be read") from error


def _form(folder: Path, lacking: str) -> ModelError:
    return ModelError.of(
        "folder-form",
        f"{folder} without {lacking}",
        "a folder of weights holds the network, its weights and its vocabulary",
        "fetch the whole folder again",
    )
