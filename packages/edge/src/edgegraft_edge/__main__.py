"""The command ``edgegraft-edge``, also as ``python -m edgegraft_edge``.

Sets the number of threads before NumPy is imported, since afterwards it is too late: a device
scores one window at a time, and two threads that wait for each other on a busy device are far
slower than one. A number that is set already stays.
"""

from __future__ import annotations

import os
import sys

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def main() -> int:
    """Run the command in one thread."""
    for name in _THREADS:
        os.environ.setdefault(name, "1")
    from edgegraft_edge.cli import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
