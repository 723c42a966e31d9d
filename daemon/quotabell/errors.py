"""What can go wrong, in the words of the product.

Each class's docstring is its default message, so that an error raised without
arguments still says something a person can act on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class QuotabellError(Exception):
    """Something went wrong in Quotabell."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip().splitlines()[0])


@dataclass(frozen=True, slots=True)
class FieldError:
    """One offending value of a request or a file.

    ``path`` is the field as its sender wrote it (``tokensUsed``, ``keys.auth``; empty: the
    whole), ``index`` the item's place in an array (None: the body is no array).
    """

    path: str
    message: str
    index: int | None = None


class Rejected(QuotabellError):
    """The request holds values that cannot be accepted."""

    def __init__(self, errors: Sequence[FieldError]) -> None:
        super().__init__("; ".join(f"{e.path}: {e.message}" for e in errors[:5]) or None)
        self.errors = tuple(errors)


class Unavailable(QuotabellError):
    """The database cannot be reached at the moment; repeat the request shortly."""

    def __init__(self, message: str | None = None, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after  # seconds


class ConfigError(QuotabellError):
    """The configuration cannot be used."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems) or None)
        self.problems = tuple(problems)


class SchemaTooNew(QuotabellError):
    """The database has been migrated by a newer Quotabell; start that version instead."""


class MigrationFailed(QuotabellError):
    """The database schema could not be brought up to date."""


class UnknownQuota(QuotabellError):
    """No such quota is in force."""


class UnknownChannel(QuotabellError):
    """No such channel is in force."""


class DataDirectoryInUse(QuotabellError):
    """Another daemon holds this data directory."""


class EmbeddedServerError(QuotabellError):
    """The embedded Postgres server could not be started."""


class Malformed(QuotabellError):
    """The body is not what its type says."""


class TooLarge(QuotabellError):
    """The body is larger than this daemon takes."""


class UnsupportedType(QuotabellError):
    """The body has a type or encoding that this daemon does not read."""


class Refused(QuotabellError):
    """The database refuses a value."""


class Conflict(QuotabellError):
    """The transaction met another one and may be repeated."""


class Busy(Conflict):
    """Another transaction holds a row for longer than a report waits for it."""
