"""Named parts of any installed package, found by entry points; looking imports none of them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from edgegraft_edge.errors import OptionError, nearest

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


@cache
def entries(group: str) -> Mapping[str, EntryPoint]:
    """Entry points of a group by name, looked up once: reading them takes milliseconds."""
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in entry_points(group=group)}


def refresh() -> None:
    """Look anew, after packages were installed or removed while this process runs."""
    entries.cache_clear()


def load(group: str, name: str, what: str) -> Any:
    """Import one part. `what` is a word for it, e.g. "strategy".

    Errors: `OptionError`: ``name-unknown`` with the nearest names, ``extra-missing`` with what is
    to be installed, ``part-broken`` when its own package is not whole.
    """
    found = entries(group)
    if name not in found:
        raise OptionError.of(
            "name-unknown",
            f"{what} {name!r}",
            "nothing is registered under that name",
            nearest(name, list(found)) if found else "nothing of that kind is installed",
        )
    entry = found[name]
    package = entry.dist.name if entry.dist else entry.module.partition(".")[0]
    try:
        return entry.load()
    except ModuleNotFoundError as error:
        lacking = (error.name or name).partition(".")[0]
        if lacking == entry.module.partition(".")[0]:
            raise _broken(what, name, package, str(error)) from error
        raise missing(f"{what} {name!r}", lacking, package, name) from error
    except AttributeError as error:  # the module is there, the name in it is not
        raise _broken(what, name, package, str(error)) from error


def missing(found: str, lacking: str, package: str, extra: str) -> OptionError:
    """The error for a package that is needed and not there; names the extra if there is one."""
    from importlib.metadata import PackageNotFoundError, metadata

    try:
        extras = metadata(package).get_all("Provides-Extra") or []
    except PackageNotFoundError:
        extras = []
    install = f"pip install '{package}[{extra}]' or " if extra in extras else ""
    return OptionError.of(
        "extra-missing",
        f"{found} needs {lacking!r}",
        "that package is not installed",
        f"{install}pip install {lacking}",
    )


def _broken(what: str, name: str, package: str, found: str) -> OptionError:
    return OptionError.of(
        "part-broken",
        f"{what} {name!r} of {package}: {found}",
        "the package that declares it does not hold it",
        f"pip install --force-reinstall {package}",
    )
