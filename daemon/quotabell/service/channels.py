"""The operator's channels: which are configured, and what each of them is told."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, timedelta
from types import TracebackType
from typing import Self
from uuid import UUID

from quotabell.channels.alertmanager import AlertmanagerChannel, AlertmanagerTarget
from quotabell.channels.apprise import AppriseChannel, AppriseTarget
from quotabell.channels.contract import Notification
from quotabell.channels.webhook import WebhookChannel, WebhookTarget
from quotabell.config import Channel, When
from quotabell.config.channels import webhook_keys
from quotabell.domain import notice
from quotabell.domain.matching import Match
from quotabell.domain.outcome import Outcome
from quotabell.errors import QuotabellError
from quotabell.store.channels import ChannelRow
from quotabell.store.delivery import Claimed
from quotabell.store.feed import AlertNow, FeedStore

TOLD_OF_END = timedelta(minutes=5)  # for which Alertmanager is told that an alert has ended

Target = WebhookTarget | AlertmanagerTarget | AppriseTarget


def match_of(when: When) -> Match:
    """The keys of a filter that are patterns."""
    return Match(
        kind=when.kind,
        provider=when.provider,
        model=when.model,
        user=when.user,
        quota=when.quota,
    )


def row_of(channel: Channel) -> ChannelRow:
    """What the database is to know of a channel."""
    when = channel.when
    return ChannelRow(
        channel.name, channel.type, channel.origin, match_of(when), when.min_percentage
    )


def target_of(channel: Channel) -> Target:
    """What the channel's module is to know of it."""
    url = channel.url.get_secret_value()
    if channel.type == "alertmanager":
        return AlertmanagerTarget(url, channel.origin)
    if channel.type == "apprise":
        return AppriseTarget(url, channel.origin)
    assert channel.secret is not None
    return WebhookTarget(url, webhook_keys(channel.secret.get_secret_value()), channel.origin)


def as_notification(alert: AlertNow) -> Notification:
    """An alert as it is at present."""
    about = str(alert.state_id)
    state = "" if alert.subject else about
    return Notification(
        id="",
        title=alert.title or alert.subject or f"{alert.quota}: {alert.provider} / {alert.model}",
        body=alert.body or "",
        text=_as_of(alert),
        tag=notice.tag(about, alert.kind),
        state="firing" if alert.status == "firing" else "resolved",
        kind=alert.kind,
        ttl=0.0,
        threshold=None if alert.subject else alert.level,
        percentage=alert.percentage,
        quota=alert.quota,
        provider=alert.provider,
        model=alert.model,
        url=f"/?state={state}" if state else "/",
        user=alert.user_id,
        state_id=state,
        subject=alert.subject,
        tokens_used=alert.tokens_used,
        token_limit=alert.token_limit,
        started_at=alert.started_at,
        ended_at=alert.ended_at,
    )


def _as_of(alert: AlertNow) -> str:
    """The long text. It is told for as long as the alert lasts, so it says since when: what is
    said of the future in it counts from then."""
    if not alert.text or alert.told_at is None:
        return ""
    return f"As of {alert.told_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC:\n{alert.text}"


@dataclass(frozen=True, slots=True)
class Alertmanager:
    """A replica of Alertmanager, and which alerts it is told of."""

    name: str
    target: AlertmanagerTarget
    match: Match
    min_percentage: float

    def wants(self, alert: AlertNow) -> bool:
        """The end of an alert is not filtered by percentage, nor is what has none."""
        high = max(alert.level, alert.percentage or 0.0) >= self.min_percentage or alert.subject
        return bool(high or alert.status == "resolved") and self.match.matches(
            provider=alert.provider,
            model=alert.model,
            user=alert.user_id,
            quota=alert.quota,
            kind=alert.kind,
        )


class OperatorChannels:
    """Sends claimed deliveries to them. ``replace`` changes which they are at any time."""

    def __init__(self, alerts: FeedStore, generator: str) -> None:
        """``generator``: the address of this daemon, to which alerts lead back."""
        self._alerts = alerts
        self._webhook = WebhookChannel(generator)
        # Alerts begin by the database's clock, so they must not end before by this machine's.
        clock = alerts.database.clock
        self._alertmanager = AlertmanagerChannel(generator, wall=lambda: clock.now().timestamp())
        self._apprise = AppriseChannel()
        self._stack = contextlib.AsyncExitStack()
        self._targets: dict[tuple[str, str], Target] = {}
        self.alertmanagers: Sequence[Alertmanager] = ()

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self._webhook)
            await stack.enter_async_context(self._alertmanager)
            await stack.enter_async_context(self._apprise)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None:
        await self._stack.aclose()

    def replace(self, channels: Sequence[Channel]) -> None:
        """Have these and no other channels."""
        targets: dict[tuple[str, str], Target] = {(c.type, c.name): target_of(c) for c in channels}
        self._targets = targets
        self.alertmanagers = tuple(
            Alertmanager(c.name, target, match_of(c.when), c.when.min_percentage)
            for c in channels
            if isinstance(target := targets[c.type, c.name], AlertmanagerTarget)
        )

    async def send(self, notification: Notification, claimed: Claimed) -> Outcome:
        """One try."""
        id = f"{claimed.message.notification_id}/{claimed.channel}/{claimed.target}"
        notification = replace(notification, id=id)
        target = self._targets.get((claimed.channel, claimed.target))
        if not claimed.configured:
            return Outcome("failed", reason="channel_removed")
        if target is None:
            # Another replica's file has it; this one will after its reload.
            return Outcome("retry", reason="channel_missing", counts=False)
        match target:
            case WebhookTarget():
                return await self._webhook.send(notification, target)
            case AlertmanagerTarget():
                return await self._alert(notification, claimed, target)
            case AppriseTarget():
                return await self._apprise.send(notification, target)

    async def post_all(self, alerts: Sequence[AlertNow], to: Alertmanager) -> Outcome:
        """Tell an Alertmanager of many alerts at once."""
        found = [as_notification(alert) for alert in alerts]
        return await self._alertmanager.post_all(found, to.target)

    async def _alert(
        self, notification: Notification, claimed: Claimed, target: AlertmanagerTarget
    ) -> Outcome:
        """Tell what is true now: the message may be of a period that another has followed."""
        key = claimed.message.alert_id
        try:
            now = await self._alerts.present(UUID(key)) if key else None
        except QuotabellError:
            return Outcome("retry", reason="database", counts=False)
        if now is not None:
            notification = as_notification(now)
        elif notification.state == "resolved":
            notification = replace(notification, ended_at=notification.at)
        return await self._alertmanager.send(notification, target)
