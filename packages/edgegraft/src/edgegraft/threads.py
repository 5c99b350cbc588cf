"""One thread for each worker: on few cores, threads that wait for each other cost most."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits


@contextmanager
def one_thread() -> Iterator[None]:
    """Linear algebra in one thread, around a block or as a decorator.

    SciPy brings a pool of threads of its own. Only what is loaded can be limited, so it is loaded
    first: a Cholesky factor of 672 rows took 0.47 s beside other work, and takes 0.012 s so.

    >>> import threadpoolctl
    >>> with one_thread():
    ...     {pool["num_threads"] for pool in threadpoolctl.threadpool_info()}
    {1}
    """
    import scipy.linalg  # noqa: F401

    with threadpool_limits(limits=1):
        yield
