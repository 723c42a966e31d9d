"""What became of one attempt, and what an HTTP answer or a failed connection means.

One table is that of Web Push (RFC 8030, and what the four large services add), one that of HTTP
receivers of the operator's own; other protocols build their outcomes themselves.
"""

from __future__ import annotations

import json
import re
from calendar import timegm
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate
from enum import StrEnum
from typing import Final, Literal

from quotabell.domain.endpoints import Service

Kind = Literal["sent", "retry", "gone", "failed"]

MAX_RETRY_AFTER: Final = 24 * 3600.0  # seconds
BLOCKED_PAUSE: Final = 3600.0  # seconds; a service that blocks this sender is asked hourly
_MAX_REASON: Final = 120  # characters


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one attempt.

    ``reason`` is a code, possibly followed by ``: `` and details, and holds no part of the
    endpoint, of the keys or of the answer's text. ``gone`` is the only kind that ends a
    subscription.
    """

    kind: Kind
    status: int | None = None  # of the HTTP answer; None: there was none
    reason: str = ""
    retry_after: float | None = None  # seconds; never try earlier
    origin_pause: bool = False  # the whole origin asked for a pause, not this receiver
    resign: bool = False  # sign a new VAPID token and try once more
    short_form: bool = False  # try once more with less text
    again: bool = False  # try once more at once, as it is
    counts: bool = True  # False: throttled, so not one of the attempts that are limited

    def __post_init__(self) -> None:
        if len(self.reason) > _MAX_REASON:
            object.__setattr__(self, "reason", self.reason[: _MAX_REASON - 1] + "…")

    @property
    def code(self) -> str:
        """The reason without its details: one of a small set, fit for a metric's label."""
        return self.reason.partition(":")[0]


class Fault(StrEnum):
    """Why there was no answer. All pass by themselves: none says anything of the receiver."""

    DNS = "dns"
    CONNECT = "connect"
    CONNECT_TIMEOUT = "connect_timeout"
    ADDRESS_REFUSED = "address_refused"  # the name leads to an address that is not public
    TLS = "tls"
    TIMEOUT = "timeout"
    RESET = "reset"
    BAD_ANSWER = "bad_answer"  # not HTTP


def unreachable(fault: Fault) -> Outcome:
    """The outcome of an attempt that got no answer."""
    return Outcome("retry", reason=fault.value)


_APPLE_REASONS: Final = frozenset(
    "BadTtl BadUrgency BadWebPushTopic BadWebPushRequest BadPath BadAuthorizationHeader "
    "BadJwtToken BadVapidPublicKey VapidPkHashMismatch ExpiredToken Unregistered "
    "MethodNotAllowed PayloadTooLarge PayloadEmpty TooManyRequests InternalServerError "
    "ServiceUnavailable Shutdown".split()
)
_AT_ONCE: Final = "errno 202"  # autopush: "immediate retry ok"
# Words only: a token, key or path would need digits or more letters than one word has here.
_WORDS: Final = re.compile(r"(?:[A-Za-z][A-Za-z-]{0,18}[,.;:]?(?: |$)){1,12}")


def classify(
    status: int,
    headers: Mapping[str, str],
    body_prefix: bytes,
    now: float,
    service: Service = "other",
) -> Outcome:
    """What the answer of a push service means; ``now`` is in seconds since the epoch."""
    if 200 <= status < 300:
        return Outcome("sent", status, "sent")
    if 300 <= status < 400:
        return Outcome("failed", status, "redirect_refused")
    fields = {name.lower(): value for name, value in headers.items()}
    said = _said(fields, body_prefix)
    detail = f": {said}" if said else ""
    wait = _wait(fields, now)
    if said == "VapidPkHashMismatch":
        return Outcome("failed", status, "key_mismatch" + detail)
    if status in (403, 404, 410) and _blocked(fields):
        pause = max(wait or 0.0, BLOCKED_PAUSE)
        return Outcome("retry", status, "sender_blocked", pause, origin_pause=True, counts=False)
    if status in (404, 410):
        return Outcome("gone", status, "gone" + detail)
    if status in (401, 403):
        return Outcome("retry", status, "key_refused" + detail, wait, resign=True)
    if status == 413:
        return Outcome("failed", status, "too_large" + detail, short_form=True)
    if status == 429 or (status == 406 and (service == "windows" or wait is not None)):
        # Apple counts per device: one busy device must not silence the others.
        everyone = said != "TooManyRequests"
        return Outcome("retry", status, "throttled", wait, origin_pause=everyone, counts=False)
    if status >= 500:
        paused = wait is not None and status == 503
        again = wait is None and status == 503 and said == _AT_ONCE
        return Outcome(
            "retry", status, "server_error" + detail, wait, origin_pause=paused, again=again
        )
    if status in (408, 425):
        return Outcome("retry", status, "try_later", wait)
    return Outcome("failed", status, ("bad_request" if status == 400 else "refused") + detail)


def classify_own(status: int, headers: Mapping[str, str], now: float) -> Outcome:
    """What the answer of an operator's own receiver means; ``now`` as for ``classify``.

    What the operator can put right meanwhile (a secret, an address, access) is tried again, and
    nothing ends the receiver. None of its words is taken into the reason.
    """
    if 200 <= status < 300:
        return Outcome("sent", status, "sent")
    if 300 <= status < 400:
        return Outcome("failed", status, "redirect_refused")
    wait = _wait({name.lower(): value for name, value in headers.items()}, now)
    if status == 429:
        return Outcome("retry", status, "throttled", wait, origin_pause=True, counts=False)
    if status >= 500:
        paused = wait is not None and status == 503
        return Outcome("retry", status, "server_error", wait, origin_pause=paused)
    if status in (401, 403, 407):
        return Outcome("retry", status, "key_refused", wait)
    if status in (404, 410):
        return Outcome("retry", status, "not_found", wait)
    if status in (408, 425):
        return Outcome("retry", status, "try_later", wait)
    if status == 413:
        return Outcome("failed", status, "too_large")
    return Outcome("failed", status, "bad_request" if status == 400 else "refused")


def parse_retry_after(value: str, now: float) -> float | None:
    """Seconds that a Retry-After asks to wait (RFC 9110 §10.2.3); None: not understood.

    A date that is past gives 0; nothing gives more than MAX_RETRY_AFTER.
    """
    text = value.strip()
    if re.fullmatch(r"[0-9]+", text, re.ASCII):
        return min(float(text.lstrip("0")[:12] or "0"), MAX_RETRY_AFTER)
    at = _http_date(text)
    return None if at is None else min(max(at - now, 0.0), MAX_RETRY_AFTER)


_DATE: Final = re.compile(
    r"[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT"  # IMF-fixdate
    r"|[A-Z][a-z]{5,8}, \d{2}-[A-Z][a-z]{2}-\d{2} \d{2}:\d{2}:\d{2} GMT"  # RFC 850
    r"|[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d{2}:\d{2}:\d{2} \d{4}",  # asctime
    re.ASCII,
)


def _http_date(text: str) -> float | None:
    """Seconds since the epoch of one of the three forms of RFC 9110 §5.6.7."""
    parsed = parsedate(text) if _DATE.fullmatch(text) else None
    if parsed is None:
        return None
    try:
        return float(timegm(parsed))
    except (ValueError, OverflowError):
        return None


def _wait(fields: Mapping[str, str], now: float) -> float | None:
    """Retry-After by our clock and, if it is a date, by the sender's: the later of both."""
    value = fields.get("retry-after")
    if value is None:
        return None
    sent = _http_date(fields.get("date", "").strip())
    waits = [parse_retry_after(value, now)]
    if sent is not None:
        waits.append(parse_retry_after(value, sent))
    return max((w for w in waits if w is not None), default=None)


def _blocked(fields: Mapping[str, str]) -> bool:
    """WNS says "Domain Blocked" with 410: it refuses this sender, the subscription is alive."""
    told = " ".join(v for name, v in fields.items() if name.startswith("x-wns-")).lower()
    return "domain" in told and "blocked" in told


def _said(fields: Mapping[str, str], body: bytes) -> str:
    """The service's own reason, as far as it is surely a word of its vocabulary."""
    description = fields.get("x-wns-error-description", "").strip()
    if description:
        return description if _WORDS.fullmatch(description) else ""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(told, dict):
        return ""
    reason, errno = told.get("reason"), told.get("errno")
    if isinstance(reason, str) and reason in _APPLE_REASONS:
        return reason
    if isinstance(errno, int) and not isinstance(errno, bool) and 100 <= errno <= 999:
        return f"errno {errno}"
    return ""
