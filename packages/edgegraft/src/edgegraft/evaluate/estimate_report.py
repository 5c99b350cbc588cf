"""What the pages show of estimates, in plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgegraft_edge.estimate import Outputs
from edgegraft_edge.signal import Array, Windows


def estimate_section(
    outputs: Outputs,
    windows: Windows,
    truth: Array,
    table: Array,
    others: Mapping[str, Array],
) -> dict[str, Any]:
    """The report's `estimates`."""
    return {"outputs": outputs.as_dict()}
