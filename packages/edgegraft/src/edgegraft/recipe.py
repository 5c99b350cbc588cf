"""A recipe: everything that decides a run, in a TOML file that reproduces it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgegraft.options import check_values
from edgegraft_edge.errors import OptionError, Problem

GROUPS = "groups"
"""Instead of a number of folds: leave out one group at a time."""


@dataclass(frozen=True)
class Recipe:
    """What `adapt` was asked to do. Paths are as the user wrote them.

    >>> recipe = Recipe(data="synthetic:", seed=3, options={"finetune.epochs": 5})
    >>> Recipe.from_toml(recipe.to_toml()) == recipe
    True
    """

    data: str = field(metadata={"help": "where the training data is"})
    test: str | None = field(default=None, metadata={"help": "held-out data for the final scores"})
    backbone: str = field(default="auto", metadata={"help": "name, path to weights, or auto"})
    strategy: str = field(default="auto", metadata={"help": "name of a strategy, or auto"})
    labels_per_class: int | None = field(
        default=None, metadata={"help": "use only this many labelled windows of each class"}
    )
    folds: int | str = field(
        default=5,
        metadata={"help": 'folds of the comparison with the controls; "groups": one per group'},
    )
    seed: int = field(default=0, metadata={"help": "fixes every random choice"})
    data_options: Mapping[str, Any] = field(
        default_factory=dict, metadata={"help": "how the data is opened"}
    )
    options: Mapping[str, Any] = field(
        default_factory=dict, metadata={"help": "options, written strategy.field or task.field"}
    )
    task: str = field(
        default="classification",
        metadata={"help": "classification, anomaly, regression or forecasting"},
    )
    normal: str | None = field(
        default=None, metadata={"help": "label that counts as normal, for the task anomaly"}
    )
    unlabelled: str | None = field(
        default=None,
        metadata={"help": "windows without labels of the same device; rest: those of data"},
    )
    source: Mapping[str, Any] = field(
        default_factory=dict, metadata={"help": "labelled data of other devices, by name"}
    )
    transductive: bool = field(
        default=False, metadata={"help": "the test windows join the pool, without their labels"}
    )

    def __post_init__(self) -> None:
        problems = []
        if self.folds != GROUPS and not (isinstance(self.folds, int) and self.folds >= 2):
            problems.append(
                Problem(
                    "folds-range",
                    f"{self.folds!r} folds",
                    "a comparison needs two",
                    "--folds 5, or --folds groups",
                )
            )
        fewest = 0 if self.source else 1
        if self.labels_per_class is not None and self.labels_per_class < fewest:
            problems.append(
                Problem(
                    "labels-range",
                    f"{self.labels_per_class} labels per class",
                    "a class needs at least one",
                    "--labels-per-class 5",
                )
            )
        if self.seed < 0:
            problems.append(
                Problem("seed-range", f"seed {self.seed}", "seeds are 0 or more", "--seed 0")
            )
        if problems:
            raise OptionError(problems)

    def to_toml(self) -> str:
        import tomli_w

        left_out: tuple[Any, ...] = (None, {})
        values = {key: value for key, value in asdict(self).items() if value not in left_out}
        if not self.transductive:
            del values["transductive"]
        return tomli_w.dumps(_plain(values))

    @classmethod
    def from_toml(cls, text: str) -> Recipe:
        """Errors: `OptionError` for TOML that does not parse, for unknown keys and unfit values."""
        try:
            values = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise OptionError.of(
                "recipe-damaged", f"a recipe where {error}", "it is not TOML", "see recipe.toml"
            ) from error
        problems = check_values(cls, values)
        for name, place in dict(values.get("source") or {}).items() if not problems else ():
            if not isinstance(place, str):
                problems.append(
                    Problem("option-value", f"source.{name}={place!r}", "a source is a place",
                            f'{name} = "folder"')
                )  # fmt: skip
        if "data" not in values:
            problems.append(
                Problem("recipe-data", "no key `data`", "a recipe says where the data is",
                        'data = "folder"')
            )  # fmt: skip
        if problems:
            raise OptionError(problems)
        return cls(**values)

    @classmethod
    def read(cls, path: str | Path) -> Recipe:
        try:
            return cls.from_toml(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise OptionError.of(
                "recipe-missing", f"recipe {path}: {error}", "it cannot be read", "a TOML file"
            ) from error


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
