"""A backbone embeds windows; its card says what it is and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, Literal, Protocol

import numpy as np

from edgegraft import catalog
from edgegraft_edge.errors import ModelError
from edgegraft_edge.program import Program
from edgegraft_edge.signal import Array, Windows

Kind = Literal["fixed", "pretrained", "random"]
_BATCH_BYTES = 1 << 18


@dataclass(frozen=True)
class BackboneCard:
    """What is known of a backbone: `fixed` features, `pretrained` weights or `random` weights.

    `takes` are the kinds of windows it embeds: series, audio, image, text. `fetch` names where
    weights that do not ship can be had, e.g. "hf:timm/resnet18.a1_in1k/model.safetensors".
    """

    name: str
    architecture: str
    summary: str
    kind: Kind
    licence: str
    n_parameters: int = 0
    rate_hz: float | None = None
    data: str = ""
    recipe: str = ""
    seed: int = 0
    weights: str = ""
    checksum: str = ""
    citation: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    takes: tuple[str, ...] = ("series",)
    fetch: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "takes", tuple(self.takes))  # a list in TOML

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> BackboneCard:
        """A card from TOML; an unknown or missing key is an error."""
        known = {entry.name for entry in fields(cls)}
        needed = {entry.name for entry in fields(cls) if _is_needed(entry)}
        wrong = [f"unknown key {key!r}" for key in sorted(set(data) - known)]
        wrong += [f"no key {key!r}" for key in sorted(needed - set(data))]
        if wrong:
            raise ModelError.of(
                "card-form",
                f"card {data.get('name', '?')!r} with {', '.join(wrong)}",
                "a card has the keys of BackboneCard",
                "see docs/add",
            )
        return cls(**data)


def _is_needed(entry: Field[Any]) -> bool:
    return entry.default is MISSING and entry.default_factory is MISSING


def shipped_card(name: str) -> BackboneCard:
    """The card of that name in this package.

    >>> shipped_card("minirocket").kind
    'fixed'
    """
    return BackboneCard.from_dict(catalog.cards("zoo/cards")[name])


def unfitted(name: str) -> ModelError:
    """The error for embedding with a backbone that has not seen any training windows."""
    return ModelError.of(
        "backbone-unfitted",
        f"{name} before fit",
        "its channels, ranges and thresholds come from training windows",
        "call fit(windows, seed=...) and use what it returns",
    )


def embed_in_batches(program: Program, x: Array) -> Array:
    """Interpret a program on batches of windows that stay in the processor's cache."""
    x = np.asarray(x, dtype=np.float32)
    at_once = max(1, _BATCH_BYTES // max(1, x[:1].nbytes))
    if len(x) <= at_once:
        return program.run(x)
    return np.concatenate([program.run(x[i : i + at_once]) for i in range(0, len(x), at_once)])


class Backbone(Protocol):
    """Embeds windows. A frozen value: `fit` gives a new one."""

    @property
    def card(self) -> BackboneCard: ...

    def fit(self, windows: Windows, *, seed: int) -> Backbone:
        """Bind to these training windows (channels, rate, length, thresholds); no labels used."""
        ...

    def embed(self, x: Array) -> Array:
        """Windows (n_windows, ...) -> float32 (n_windows, embedding_dim)."""
        ...

    def program(self, *shape: int) -> Program:
        """The same computation as a program for the device, for windows of that shape."""
        ...
