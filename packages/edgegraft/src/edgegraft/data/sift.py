"""Which rows of a table can be used, and why the others cannot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc

from edgegraft.data.account import Quarantine
from edgegraft.data.clock import Clock, read_clock
from edgegraft.data.roles import Roles
from edgegraft.data.source import DataOptions
from edgegraft.data.table import MAX_COLUMNS, Table, numbers, split_unit, texts
from edgegraft_edge.errors import DataError, Problem
from edgegraft_edge.signal import Array, Channel

Coded = tuple[Array, list[str]] | None
Steps = list[tuple[str, dict[str, Any]]]


@dataclass(frozen=True)
class Sifted:
    """The good rows of a table, and what stands in each.

    Attributes:
        values: float32 (n_channels, n_rows).
        channels: one per row of `values`.
        rows: int64 (n_rows,), where each stood in the file.
        clock: the time column, None if there is none.
        ns: int64 (n_rows,) its nanoseconds.
        label, group, recording: codes (n_rows,) and the texts they stand for, where known.
        lines: rows of the file in one row here.
    """

    values: Array
    channels: tuple[Channel, ...]
    rows: Array
    clock: Clock | None
    ns: Array | None
    label: Coded
    group: Coded
    recording: Coded
    lines: int = 1


def sift(
    table: Table, roles: Roles, options: DataOptions, place: str
) -> tuple[Sifted, list[Quarantine], Steps]:
    """The rows whose time and values are all known, and the others by reason."""
    steps: Steps = []
    if roles.ignored:
        steps.append(("columns-ignored", {"names": ", ".join(roles.ignored)[:200]}))
    faults: dict[str, Array] = {}
    clock = _clock(table, roles, options)
    if clock is not None:
        faults |= clock.faults
        if clock.wraps:
            steps.append(("counter-wrap", {"times": clock.wraps}))
    coded = {
        role: texts(table.columns[name]) if name else None
        for role, name in (
            ("label", roles.label),
            ("group", roles.group),
            ("recording", roles.recording),
        )
    }
    if roles.channel:
        return _sift_long(table, roles, clock, coded, faults, steps, place)
    columns, channels = _numeric(table, roles.channels, faults, steps, place)
    good, quarantined = _quarantine(faults, table.rows, place)
    rows = Sifted(
        np.stack([column[good] for column in columns]).astype(np.float32),
        tuple(channels),
        table.rows[good],
        clock,
        None if clock is None else clock.ns[good],
        _taken(coded["label"], good),
        _taken(coded["group"], good),
        _taken(coded["recording"], good),
    )
    return rows, quarantined, steps


def _clock(table: Table, roles: Roles, options: DataOptions) -> Clock | None:
    if not roles.time:
        return None
    column = table.columns[roles.time]
    if roles.date:
        column = pc.binary_join_element_wise(table.columns[roles.date], column, " ")
    return read_clock(
        column,
        roles.time,
        unit=options.time_unit,
        form=options.time_format,
        zone=options.timezone,
        rate_hz=options.rate_hz,
    )


def _numeric(
    table: Table, names: Sequence[str], faults: dict[str, Array], steps: Steps, place: str
) -> tuple[list[Array], list[Channel]]:
    """The channels as numbers; adds their faults. Errors: `DataError` "channel-sparse"."""
    columns, channels, sparse, problems = [], [], [], []
    for name in names:
        found = numbers(table.columns[name])
        missing = found.faults.get("value-missing")
        share = 0.0 if missing is None else float(missing.mean())
        if share == 1.0:
            steps.append(("channel-empty", {"channel": name}))
            continue
        if share > 0.5:
            sparse.append((name, share))
        if found.decimal_comma:
            steps.append(("decimal-comma", {"channel": name}))
        for code, rows in found.faults.items():
            faults[code] = faults.get(code, False) | rows
        columns.append(found.values)
        channels.append(Channel(*split_unit(name)))
    for name, share in sparse:
        problems.append(
            Problem(
                "channel-sparse",
                f"{place}: {share:.0%} of channel {name!r} is missing",
                "rows without all channels are set aside, which would be most of them",
                "leave it out with channels=..., or write each sensor to a file of its own",
            )
        )
    if not columns:
        problems.append(Problem("channels-none", place, "every channel is empty", "record again"))
    names_of = [channel.name for channel in channels]
    repeated = sorted({name for name in names_of if names_of.count(name) > 1})
    if repeated:
        problems.append(
            Problem(
                "column-duplicate",
                f"{place}: channel {repeated[0]!r} in several units",
                "channels are bound by name",
                "give every channel a name of its own",
            )
        )
    if problems:
        raise DataError(problems)
    return columns, channels


def _quarantine(
    faults: Mapping[str, Array], rows: Array, place: str
) -> tuple[Array, list[Quarantine]]:
    """Bool (n_rows,): the good rows; the bad ones counted under the first code that fits."""
    bad, found = np.zeros(len(rows), dtype=bool), []
    for code in sorted(faults):
        fresh = faults[code] & ~bad
        if fresh.any():
            first = int(rows[int(np.argmax(fresh))]) + 1
            found.append(Quarantine(code, int(fresh.sum()), f"{place} row {first}"))
            bad |= fresh
    return ~bad, found


def _taken(coded: Coded, index: Array) -> Coded:
    return None if coded is None else (coded[0][index], coded[1])


def _sift_long(
    table: Table,
    roles: Roles,
    clock: Clock | None,
    coded: Mapping[str, Coded],
    faults: dict[str, Array],
    steps: Steps,
    place: str,
) -> tuple[Sifted, list[Quarantine], Steps]:
    """A long table made wide: one row per time (and group and recording), one column per channel.

    Times that lack a channel are set aside; a reading that comes twice is a duplicate if it
    says the same, else it is set aside.
    """
    if clock is None:
        raise DataError.of(
            "time-missing",
            f"{place} is a long table",
            "readings are brought together by time",
            "a time column, or time=...",
        )
    found = numbers(table.columns[roles.value])
    for reason, at in found.faults.items():
        faults[reason] = faults.get(reason, False) | at
    code, names = texts(table.columns[roles.channel])
    used = sorted(set(code.tolist()))
    if len(used) > MAX_COLUMNS:
        raise DataError.of(
            "columns-many",
            f"{place}: {len(used)} channels",
            f"at most {MAX_COLUMNS} are read",
            "check which column names the channel",
        )
    good, quarantined = _quarantine(faults, table.rows, place)
    place_of = np.flatnonzero(good)
    parts = [coded[role] for role in ("group", "recording")]
    key = np.stack([clock.ns, *(part[0] for part in parts if part is not None)])[:, place_of]
    _, first, row = np.unique(key, axis=1, return_index=True, return_inverse=True)
    row = row.reshape(-1)
    n_wide, n_channels = len(first), len(used)
    column = np.searchsorted(used, code[place_of])
    cell = row * n_channels + column
    _, first_cell, of_cell = np.unique(cell, return_index=True, return_inverse=True)
    repeat = np.ones(len(cell), dtype=bool)
    repeat[first_cell] = False
    values = found.values[place_of]
    same = values == values[first_cell][of_cell]
    cells = np.full(n_wide * n_channels, np.nan)
    cells[cell[first_cell]] = values[first_cell]
    wide = cells.reshape(n_wide, n_channels)
    whole = np.isfinite(wide).all(axis=1)
    if n_wide and whole.mean() < 0.5:
        raise DataError.of(
            "channel-sparse",
            f"{place}: {1 - whole.mean():.0%} of the times lack a channel",
            "the channels were sampled at different times",
            "bring them to common times, or choose channels that share theirs",
        )
    in_whole = whole[row]
    counts = {
        "value-missing": int((~repeat & ~in_whole).sum()),
        "time-duplicate": int((repeat & ~same).sum()),
    }
    quarantined += [Quarantine(reason, count, place) for reason, count in counts.items() if count]
    duplicates = int((repeat & same).sum())
    steps.append(("widen", {"channels": n_channels, "rows": int(whole.sum())}))
    if duplicates:
        steps.append(("drop-duplicates", {"rows": duplicates}))
    # In the order in which the times appear, so that a clock set back is still seen.
    kept = np.flatnonzero(whole)
    kept = kept[np.argsort(first[kept], kind="stable")]
    lines = place_of[first[kept]]
    channels = tuple(Channel(*split_unit(names[number])) for number in used)
    rows = Sifted(
        np.ascontiguousarray(wide[kept].T, dtype=np.float32),
        channels,
        table.rows[lines],
        clock,
        clock.ns[lines],
        _taken(coded["label"], lines),
        _taken(coded["group"], lines),
        _taken(coded["recording"], lines),
        n_channels,
    )
    return rows, quarantined, steps
