"""What is known of a picture (or any file that is one window) from outside: its label and group.

Labels and groups come from ``metadata.csv|jsonl``, as Hugging Face's ImageFolder writes it, from
folders, or from parts of the path picked by a pattern.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgegraft.data.conventions import METADATA, PARTS, FileFacts, facts_of, read_metadata
from edgegraft.data.roles import GROUP, LABEL, LABEL_TEXT
from edgegraft.data.source import DataOptions
from edgegraft_edge.errors import DataError, OptionError, nearest
from edgegraft_edge.signal import UNLABELLED

FROM_FOLDER, FROM_NAME = "folder", "filename"


@dataclass(frozen=True)
class Known:
    """Of each file its name below the root, label and group; "" where it is not known.

    Attributes:
        absent: files that metadata names and that are not there.
        parts: names of folders such as "train" and "test" that were read as one.
    """

    names: tuple[str, ...]
    labels: tuple[str, ...]
    groups: tuple[str, ...]
    absent: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()


def known_of(files: Sequence[Path], root: Path, options: DataOptions) -> Known:
    """Label and group of files.

    The option `label` (or `group`) is "folder", "filename" (what stands before its first dot), a
    field of the metadata, or a pattern with one part in parentheses that is looked for in the
    path, e.g. ``(cam\\d+)_``. Without it, the label is the usual field of the metadata, else the
    innermost folder; the group is the usual field of the metadata, else the outermost of two
    folders or more.

    Errors: `DataError` "column-missing" for a field that is not there; `OptionError`
    "option-value" for a pattern that is none.
    """
    metadata = _metadata(root)
    facts = [facts_of(file, root, metadata) for file in files]
    names = tuple(file.relative_to(root).as_posix() for file in files)
    fields = sorted({name for fact in facts for name in fact.fields})
    labels = _labels(facts, names, fields, options)
    groups = _groups(facts, names, fields, options)
    if options.group is None and _is_kind_of_label(labels, groups):
        groups = [""] * len(groups)
    parts = {part for name in names for part in name.split("/")[:-1] if part.lower() in PARTS}
    return Known(
        names, tuple(labels), tuple(groups), _absent(metadata, names), tuple(sorted(parts))
    )


def _metadata(root: Path) -> dict[str, dict[str, str]]:
    """Metadata of the root folder, and of the parts below it ("train/metadata.csv")."""
    found = read_metadata(root)
    for part in sorted(root.iterdir()) if root.is_dir() else []:
        if part.name.lower() in PARTS and part.is_dir():
            found |= {f"{part.name}/{name}": row for name, row in read_metadata(part).items()}
    return found


def _labels(
    facts: Sequence[FileFacts], names: Sequence[str], fields: Sequence[str], options: DataOptions
) -> list[str]:
    asked = options.label
    if asked is not None:
        return [text or UNLABELLED for text in _asked(asked, facts, names, fields)]
    field = next((name for name in (*LABEL, *LABEL_TEXT) if name in fields), "")
    found = []
    for fact in facts:
        folders = fact.folders
        if options.group == FROM_FOLDER:
            folders = folders[1:]  # the outer one is the group, as asked for
        folder = folders[-1] if folders else UNLABELLED
        found.append(fact.fields.get(field, folder) if field else folder)
    return found


def _groups(
    facts: Sequence[FileFacts], names: Sequence[str], fields: Sequence[str], options: DataOptions
) -> list[str]:
    if options.group == FROM_FOLDER:
        return [fact.folders[0] if fact.folders else "" for fact in facts]
    if options.group is not None:
        return _asked(options.group, facts, names, fields)
    field = next((name for name in GROUP if name in fields), "")
    if field:
        return [fact.fields.get(field, "") for fact in facts]
    return [fact.folders[0] if len(fact.folders) > 1 else "" for fact in facts]


def _asked(
    asked: str, facts: Sequence[FileFacts], names: Sequence[str], fields: Sequence[str]
) -> list[str]:
    if asked == FROM_FOLDER:
        return [fact.folders[-1] if fact.folders else "" for fact in facts]
    if asked == FROM_NAME:
        return [fact.stem for fact in facts]
    if "(" in asked:
        try:
            pattern = re.compile(asked)
        except re.error as error:
            raise OptionError.of(
                "option-value", repr(asked), f"it is no pattern: {error}", r"as (person\d+)_"
            ) from error
        if pattern.groups != 1:
            raise OptionError.of(
                "option-value", repr(asked), "it has not one part in parentheses", r"(person\d+)_"
            )
        found = (pattern.search(name) for name in names)
        return [(match.group(1) or "") if match else "" for match in found]
    if asked not in fields:
        if not fields:
            raise DataError.of(
                "column-missing",
                f"no field {asked!r}: there is no {METADATA[0]}",
                "it was asked for by name",
                "'folder', 'filename', or a pattern with a part in parentheses",
            )
        raise DataError.of(
            "column-missing",
            f"the metadata has no field {asked!r}",
            "it was asked for by name",
            nearest(asked, fields),
        )
    return [fact.fields.get(asked, "") for fact in facts]


def _is_kind_of_label(labels: Sequence[str], groups: Sequence[str]) -> bool:
    """Whether outer folders only sort the labels, so that nothing could be left out by them."""
    of: dict[str, set[str]] = {}
    for label, group in zip(labels, groups, strict=True):
        of.setdefault(label, set()).add(group)
    return len(of) > 1 and all(len(each) == 1 for each in of.values())


def _absent(metadata: Mapping[str, object], names: Sequence[str]) -> tuple[str, ...]:
    there = set()
    for name in names:
        path = Path(name)
        there |= {name, path.with_suffix("").as_posix(), path.name, path.stem}
    return tuple(sorted(set(metadata) - there))
