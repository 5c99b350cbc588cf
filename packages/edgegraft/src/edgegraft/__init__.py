"""Edgegraft: transfer learning for the Internet of Things.

>>> import edgegraft as eg
>>> windows = eg.open_data("synthetic:n=60,seed=1").windows()
>>> windows.classes
('circle', 'idle', 'shake')
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgegraft_edge import __version__

if TYPE_CHECKING:
    from edgegraft.data.audit import audit
    from edgegraft.data.dataset import Dataset, open_data
    from edgegraft.estimator import TransferClassifier
    from edgegraft.labels import label_next
    from edgegraft.shipping import export, load
    from edgegraft.workflow import Run, adapt, evaluate, predict, recommend
    from edgegraft_edge.bundle import Bundle
    from edgegraft_edge.errors import EdgegraftError
    from edgegraft_edge.signal import Channel, Recording, Windows, WindowSpec

_PLACES = {
    "Bundle": "edgegraft_edge.bundle",
    "Channel": "edgegraft_edge.signal",
    "Dataset": "edgegraft.data.dataset",
    "EdgegraftError": "edgegraft_edge.errors",
    "Recording": "edgegraft_edge.signal",
    "Run": "edgegraft.workflow",
    "TransferClassifier": "edgegraft.estimator",
    "WindowSpec": "edgegraft_edge.signal",
    "Windows": "edgegraft_edge.signal",
    "adapt": "edgegraft.workflow",
    "audit": "edgegraft.data.audit",
    "evaluate": "edgegraft.workflow",
    "export": "edgegraft.shipping",
    "label_next": "edgegraft.labels",
    "load": "edgegraft.shipping",
    "open_data": "edgegraft.data.dataset",
    "predict": "edgegraft.workflow",
    "recommend": "edgegraft.workflow",
}

__all__ = [
    "Bundle",
    "Channel",
    "Dataset",
    "EdgegraftError",
    "Recording",
    "Run",
    "TransferClassifier",
    "WindowSpec",
    "Windows",
    "__version__",
    "adapt",
    "audit",
    "evaluate",
    "export",
    "label_next",
    "load",
    "open_data",
    "predict",
    "recommend",
]


def __getattr__(name: str) -> Any:
    """Public names are loaded when first asked for, so that importing costs nothing."""
    if name not in _PLACES:
        raise AttributeError(f"module 'edgegraft' has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)


# `adapt`, `evaluate` and `export` are functions here and packages beside this file. Python binds a
# package in its parent when it is first imported, which would hide the function from then on: so
# that happens now, and the names are given back to `__getattr__`.
for _name in ("adapt", "evaluate", "export"):
    import_module(f"{__name__}.{_name}")
    globals().pop(_name, None)
