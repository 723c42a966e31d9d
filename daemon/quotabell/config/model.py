"""The configuration as types: a value of type ``Config`` has passed every rule.

The defaults stand here and nowhere else; ``config.example.yaml`` repeats them for people and
a test keeps the two equal.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from quotabell.config import net, units
from quotabell.config.base import Section, part, revealed
from quotabell.config.channels import Channel, HeartbeatUrl
from quotabell.config.channels import contradictions as between_channels
from quotabell.config.fields import (
    Contact,
    Duration,
    ExternalUrl,
    HostPattern,
    Listen,
    ListenUrl,
    Located,
    Number,
    Origin,
    Percentages,
    PostgresUrl,
    ReadableFile,
    Scopes,
    Size,
    TokenName,
    TokenSecret,
    Truth,
    User,
    Whole,
    between,
    bytes_between,
    never_or,
)
from quotabell.config.jwt import Jwt
from quotabell.config.problems import BROKEN, Loc, key_path
from quotabell.config.quotas import Quota
from quotabell.config.quotas import contradictions as between_quotas
from quotabell.config.sources import LONGEST, SHORTEST, Identity, Sources
from quotabell.config.tls import Tls

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["logfmt", "json", "console"]

KIB, MIB, GIB = 1024, 1024**2, 1024**3


def default_data_dir(environ: Mapping[str, str]) -> Path:
    """Below the user's home; for root a directory outside /root.

    As root the embedded server runs as an unprivileged user, who cannot enter /root.
    """
    if os.geteuid() == 0:
        return Path("/var/lib/quotabell")
    return Path(environ.get("HOME") or Path.home(), ".local/share/quotabell")


class Database(Section):
    """Where the data is. Without a URL Quotabell runs a Postgres server of its own."""

    url: PostgresUrl = SecretStr("")
    url_file: Located | None = None
    listen_url: ListenUrl = SecretStr("")
    listen_url_file: Located | None = None
    pool_size: Annotated[Whole, between(2, 200)] = 8
    prepared_statements: Truth = True

    @field_validator("listen_url")
    @classmethod
    def _needs_url(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        url = info.data.get("url")
        if value.get_secret_value() not in ("", "off") and url is not None and not revealed(url):
            raise ValueError("is set, but database.url is not; the embedded server has its own")
        return value

    @property
    def embedded(self) -> bool:
        """Whether Quotabell runs the server itself."""
        return not self.url.get_secret_value()

    @property
    def polls(self) -> bool:
        """Whether LISTEN is switched off, so that changes are found by polling only."""
        return self.listen_url.get_secret_value() == "off"


class Token(Section):
    """Who may do what. With a user, its holder sees and touches only that user's data."""

    name: TokenName
    token: TokenSecret
    token_file: Located | None = None
    scopes: Scopes
    user: User | None = None

    @classmethod
    def contradictions(cls, raw: Mapping[str, Any]) -> Iterator[tuple[Loc, str]]:
        scopes = raw.get("scopes")
        if raw.get("user") is None or not isinstance(scopes, list | tuple):
            return
        for scope in ("admin", "metrics"):
            if scope in scopes:
                yield (
                    ("user",),
                    f"contradicts the scope {scope}, which sees every user; drop one of them",
                )


class Auth(Section):
    """Who may use the HTTP API. Without tokens and jwt, only this machine can connect."""

    tokens: tuple[Token, ...] = ()
    jwt: Jwt | None = None
    open_metrics: Truth = False
    cors_origins: tuple[Origin, ...] = ()
    failures_per_minute: Annotated[Whole, between(1, 1_000_000)] = 60

    @property
    def asks(self) -> bool:
        """Whether callers must say who they are."""
        return bool(self.tokens) or self.jwt is not None

    @classmethod
    def contradictions(cls, raw: Mapping[str, Any]) -> Iterator[tuple[Loc, str]]:
        tokens = raw.get("tokens")
        names: dict[str, int] = {}
        secrets: dict[str, int] = {}
        for i, token in enumerate(tokens if isinstance(tokens, list | tuple) else ()):
            name, secret = part(token, "name"), revealed(part(token, "token"))
            if isinstance(name, str) and names.setdefault(name, i) != i:
                first = key_path(("auth", "tokens", names[name]))
                yield ("tokens", i, "name"), f"{name[:64]!r} is the name of {first} already"
            if secret and secrets.setdefault(secret, i) != i:
                first = key_path(("auth", "tokens", secrets[secret]))
                yield ("tokens", i, "token"), f"is the token of {first} already"


class Ingest(Section):
    """Bounds of what reports may ask for."""

    max_body: Annotated[Size, bytes_between(KIB, GIB)] = 32 * MIB
    max_batch: Annotated[Whole, between(1, 100_000)] = 10_000
    max_pending: Annotated[Whole, between(1, 1_000_000), Field(validate_default=True)] = 50_000
    future_skew: Annotated[Duration, between(timedelta(0), timedelta(days=1))] = timedelta(
        minutes=5
    )

    @field_validator("max_pending")
    @classmethod
    def _holds_a_batch(cls, value: int, info: ValidationInfo) -> int:
        batch = info.data.get("max_batch", 0)
        if value < batch:
            raise ValueError(f"is {value}, but must hold at least one batch (max_batch: {batch})")
        return value


class Thresholds(Section):
    """When to ring, in percent of a limit; ``default`` is ascending and without repeats."""

    default: Percentages = (75.0, 90.0, 100.0)
    hysteresis: Annotated[Number, between(0.0, 100.0)] = 5.0


class Forecast(Section):
    """How fast usage grows, and when it is told where that leads."""

    burn_window: Annotated[Duration, between(timedelta(minutes=5), timedelta(days=1))] = timedelta(
        minutes=10
    )
    hold: Annotated[Duration, between(timedelta(0), timedelta(days=1))] = timedelta(minutes=2)
    min_elapsed: Annotated[Number, between(0.0, 1.0)] = 0.05
    horizon: Annotated[Duration, between(timedelta(0), timedelta(days=366))] = timedelta(0)


class Alerts(Section):
    """The level check that runs beside the trigger, and how often people are told."""

    evaluate_every: Annotated[
        Duration, between(timedelta(milliseconds=50), timedelta(minutes=5))
    ] = timedelta(seconds=5)
    stale_after: Annotated[Duration, never_or(SHORTEST, LONGEST)] = timedelta(0)
    heartbeat_url: HeartbeatUrl = SecretStr("")
    heartbeat_url_file: Located | None = None
    min_interval: Annotated[Duration, between(timedelta(0), timedelta(days=1))] = timedelta(
        minutes=5
    )
    repeat_interval: Annotated[Duration, between(timedelta(0), timedelta(days=30))] = timedelta(
        hours=24
    )
    forecast: Forecast = Forecast()


class Push(Section):
    """Web Push: who sends, with which keys, and to which hosts."""

    subject: Contact = "mailto:quotabell@example.com"
    key_files: tuple[ReadableFile, ...] = ()
    allowed_hosts: tuple[HostPattern, ...] = ()
    trusted_origins: tuple[Origin, ...] = ()
    tests_per_minute: Annotated[Whole, between(1, 1_000_000)] = 10
    subscribes_per_minute: Annotated[Whole, between(1, 1_000_000)] = 60


class Retention(Section):
    """For how long things are kept."""

    events: Annotated[Duration, between(timedelta(days=2), timedelta(days=3650))] = timedelta(
        days=35
    )
    samples: Annotated[Duration, between(timedelta(days=2), timedelta(days=3650))] = timedelta(
        days=90
    )
    periods: Annotated[Duration, between(timedelta(days=2), timedelta(days=3650))] = timedelta(
        days=400
    )
    history: Annotated[Duration, between(timedelta(days=1), timedelta(days=3650))] = timedelta(
        days=400
    )


class Metrics(Section):
    """How much ``/metrics`` tells of users."""

    per_user: Truth = True
    max_series: Annotated[Whole, between(1, 1_000_000)] = 200_000


class Log(Section):
    """What is logged, and how it looks."""

    level: LogLevel = "info"
    format: LogFormat = "logfmt"


class Config(Section):
    """Everything that can be configured."""

    listen: Listen = net.Address("127.0.0.1", 3001)
    external_url: ExternalUrl = ""
    tls: Tls | None = None
    max_connections: Annotated[Whole, between(16, 1_000_000)] = 4_096
    data_dir: Annotated[Located, Field(default_factory=lambda: default_data_dir(os.environ))]
    database: Database = Database()
    auth: Auth = Auth()
    ingest: Ingest = Ingest()
    identity: Identity = Identity()
    sources: Sources = Sources()
    quotas: tuple[Quota, ...] = ()
    thresholds: Thresholds = Thresholds()
    alerts: Alerts = Alerts()
    push: Push = Push()
    channels: tuple[Channel, ...] = ()
    retention: Retention = Retention()
    metrics: Metrics = Metrics()
    log: Log = Log()

    @classmethod
    def contradictions(cls, raw: Mapping[str, Any]) -> Iterator[tuple[Loc, str]]:
        yield from between_quotas(raw.get("quotas"), _retention(raw.get("retention", {})))
        yield from between_channels(raw.get("channels"))
        try:
            listen = net.parse_listen(raw.get("listen", "127.0.0.1:3001"))
        except ValueError:
            return
        auth = raw.get("auth", {})
        asks = auth is BROKEN or part(auth, "tokens", ()) or part(auth, "jwt") is not None
        if not asks and not listen.is_loopback:
            yield (
                ("listen",),
                f"{listen} is reachable from other machines, but auth.tokens is empty: "
                "add a token, or listen on 127.0.0.1",
            )


def _retention(raw: object) -> timedelta:
    """How long events are kept; for ever, as far as that is not said rightly."""
    default = Retention.model_fields["events"].default
    try:
        return units.parse_duration(part(raw, "events", default))
    except ValueError:
        return timedelta.max
