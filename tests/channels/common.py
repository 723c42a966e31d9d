"""A notification, keys and targets that the channel tests share."""

from __future__ import annotations

from quotabell.channels.contract import Notification
from quotabell.channels.vapid import Keyring, VapidKey, VapidSigner
from quotabell.channels.webpush import PushTarget
from tests.support.push_browser import Browser, b64u

OLD = VapidKey.parse(b64u(bytes(31) + b"\x07"))
NEW = VapidKey.parse(b64u(bytes(31) + b"\x08"))
NOTE = Notification(
    id="n1",
    title="openai / gpt-5 is at 90 %",
    body="1.8 M of 2 M tokens, runs out in about 42 min, resets in 3 h",
    tag="q-1",
    state="firing",
    kind="threshold",
    ttl=3600,
    threshold=90.0,
    percentage=90.25,
    quota="openai-daily",
    provider="openai",
    model="gpt-5",
    url="/#q-1",
    urgency="high",
    topic="abcDEF123-_",
)


def keyring() -> Keyring:
    return Keyring(VapidSigner(key, "mailto:ops@example.com") for key in (NEW, OLD))


def target_of(browser: Browser, key: VapidKey = NEW) -> PushTarget:
    return PushTarget(browser.endpoint, **browser.subscription["keys"], key_id=key.id)
