"""What an exporter is: it adds a model for one more runtime to a bundle, and proves it."""

from __future__ import annotations

from typing import Protocol

from edgegraft_edge.bundle import Bundle


class Exporter(Protocol):
    """A frozen dataclass of options, registered under ``edgegraft.exporters``.

    Its name there is the name of the runtime: the backend that runs the model is registered
    under the same name in ``edgegraft_edge.backends``.
    """

    def export(self, bundle: Bundle) -> Bundle:
        """The bundle with one more model, which agrees with the program on the golden windows.

        Errors: `ExportError` when the runtime cannot compute the program, or computes something
        else.
        """
        ...
