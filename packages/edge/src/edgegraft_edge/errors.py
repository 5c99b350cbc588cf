"""Every error Edgegraft raises on purpose, in one tree.

::

    EdgegraftError              exit code 3
    +-- OptionError             2   a misspelt name, an impossible option, a missing extra
    +-- DataError               3   rows, files, labels or signals that cannot be used
    |   +-- SplitError          3   groups, classes or folds that do not allow the split
    +-- ModelError              4   weights, cards or programs that are damaged or unsuited
    |   +-- ExportError         4   a target cannot run what it was given
    +-- BundleError             4   a bundle that is damaged, incomplete or unknown
        +-- SignatureError      4   a bundle or file whose signature is missing or wrong

An error carries all the problems that were found, not only the first. Each
:class:`Problem` says what was found, why it is refused and what would work,
under a code that stays the same from version to version.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Self


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        code: stable name, lower case with hyphens, e.g. ``"label-typo"``.
        found: what was found, with its place.
        why: why that is refused (or quarantined).
        remedy: what would work.

    >>> print(Problem("rate-missing", "table has no time column", "windows need a rate",
    ...               "pass --rate-hz 50"))
    [rate-missing] table has no time column: windows need a rate. Try: pass --rate-hz 50
    """

    code: str
    found: str
    why: str
    remedy: str

    def __str__(self) -> str:
        return f"[{self.code}] {self.found}: {self.why}. Try: {self.remedy}"

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


class EdgegraftError(Exception):
    """Base of all errors; `problems` holds everything that was found wrong."""

    exit_code = 3

    def __init__(self, problems: Problem | Iterable[Problem]):
        self.problems: tuple[Problem, ...] = (
            (problems,) if isinstance(problems, Problem) else tuple(problems)
        )
        super().__init__("\n".join(str(problem) for problem in self.problems))

    @property
    def code(self) -> str:
        """Code of the first problem."""
        return self.problems[0].code if self.problems else "unknown"

    @classmethod
    def of(cls, code: str, found: str, why: str, remedy: str) -> Self:
        """Shorthand for an error with one problem."""
        return cls(Problem(code, found, why, remedy))


class OptionError(EdgegraftError):
    """A misspelt name, an impossible option or a missing extra."""

    exit_code = 2


class DataError(EdgegraftError):
    """Rows, files, labels or signals that cannot be used."""


class SplitError(DataError):
    """Groups, classes or folds that do not allow the split asked for."""


class ModelError(EdgegraftError):
    """Weights, cards or programs that are damaged or unsuited."""

    exit_code = 4


class ExportError(ModelError):
    """A target cannot run what it was given."""


class BundleError(EdgegraftError):
    """A bundle that is damaged, incomplete or from an unknown version."""

    exit_code = 4


class SignatureError(BundleError):
    """A signature that is missing, or that does not fit the bytes."""


def nearest(name: str, known: Sequence[str], count: int = 3) -> str:
    """The names closest to a misspelt one, as a phrase for a remedy.

    >>> nearest("minirokcet", ["minirocket", "statistics"])
    'minirocket'
    >>> nearest("zzz", ["a", "b"])
    'one of a, b'
    """
    close = difflib.get_close_matches(name, known, n=count, cutoff=0.6)
    return " or ".join(close) if close else "one of " + ", ".join(sorted(known)[:12])
