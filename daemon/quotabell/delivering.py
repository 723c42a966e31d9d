"""Everything that takes messages to people, put together: keys, channels, the deliverer."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from quotabell.channels.vapid import Keyring
from quotabell.channels.webpush import WebPushChannel
from quotabell.config import Config
from quotabell.domain.endpoints import EndpointRules
from quotabell.http.listener import address
from quotabell.log import Logging
from quotabell.metrics import Metrics
from quotabell.service import faults
from quotabell.service.channels import OperatorChannels
from quotabell.service.deliver import Deliverer
from quotabell.service.push import WebPushSender, keyring, topic_key
from quotabell.service.tell import Teller
from quotabell.store.database import Database
from quotabell.store.delivery import DeliveryStore
from quotabell.store.feed import FeedStore
from quotabell.store.push import PushStore
from quotabell.store.telling import TellingStore


@dataclass(frozen=True, slots=True)
class Delivering:
    """``deliverer`` is to be started, run and closed by whoever makes this."""

    push: PushStore
    rules: EndpointRules
    keys: Keyring
    feed: FeedStore
    channels: OperatorChannels
    deliverer: Deliverer


async def delivering(
    stack: contextlib.AsyncExitStack,
    config: Config,
    database: Database,
    metrics: Metrics,
    logging: Logging,
    *,
    worker: str,
    fault: faults.Fault,
) -> Delivering:
    """What is acquired here, ``stack`` releases. Raises what keeps the keys from being read."""
    push_store = PushStore(database)
    rules = EndpointRules(config.push.allowed_hosts, config.push.trusted_origins)
    keys = await keyring(push_store, config.data_dir, config.push.key_files, config.push.subject)
    webpush = await stack.enter_async_context(WebPushChannel(rules, keys))
    feed_store = FeedStore(database)
    own_address = config.external_url or address(
        config.listen.host, config.listen.port, secure=config.tls is not None
    )
    channels = await stack.enter_async_context(OperatorChannels(feed_store, own_address))
    channels.replace(config.channels)
    deliverer = Deliverer(
        DeliveryStore(database, config.alerts.evaluate_every),
        {"webpush": WebPushSender(webpush)}
        | dict.fromkeys(("webhook", "alertmanager", "apprise"), channels),
        metrics,
        logging.get_logger("deliver"),
        worker=worker,
        topic_key=topic_key(keys.newest.key),
        tell=Teller(TellingStore(database), logging.get_logger("tell"), own_address).tell,
        fault=fault,
    )
    return Delivering(push_store, rules, keys, feed_store, channels, deliverer)
