"""Who asks, and what is said to who may not."""

from __future__ import annotations

from dataclasses import dataclass

from quotabell.errors import QuotabellError

SCOPES = frozenset({"ingest", "read", "push", "metrics", "admin"})


class Unauthorized(QuotabellError):
    """This needs a token: send it as `Authorization: Bearer <token>`."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message)
        self.of_token = message is not None  # whether a token came, which is no good


class Forbidden(QuotabellError):
    """This token does not allow that."""

    def __init__(self, message: str | None = None, *, scope: str | None = None) -> None:
        super().__init__(message)
        self.scope = scope  # which is missing


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever a token stands for. ``user`` not None: sees and touches only that user.

    ``name`` is the sender of reports; ``group``, where there are too many names for series of
    metrics, what they are counted under together.
    """

    name: str
    scopes: frozenset[str]
    user: str | None = None
    group: str | None = None

    @property
    def counted_as(self) -> str:
        """The name in metrics: as many as there are tokens in the file, and one more."""
        return self.group or self.name

    def may(self, scope: str) -> bool:
        if "admin" in self.scopes:
            return True
        if scope == "metrics":  # shows every user's usage
            return self.user is None and not self.scopes.isdisjoint({"metrics", "read"})
        return scope in self.scopes

    def counts_for(self, user: str) -> str:
        """The user a report counts for; Forbidden if a bound token names another one."""
        if self.user is None:
            return user
        if user and user != self.user:
            raise Forbidden(f"this token reports for the user {self.user} only")
        return self.user


LOCAL = Caller("local", SCOPES)
