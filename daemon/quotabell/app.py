"""The composition root: everything the daemon is made of, put together in one place."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from quotabell import __version__
from quotabell.config import Config, redacted
from quotabell.delivering import delivering
from quotabell.http import (
    alerts,
    cloudevents,
    events,
    litellm,
    operation,
    otlp,
    page,
    push,
    quotas,
    samples,
    scrape,
    silences,
    sources,
    states,
    thresholds,
    usage,
)
from quotabell.http.allowance import Allowance, Crowd
from quotabell.http.auth import gate_of
from quotabell.http.certificates import Certificates
from quotabell.http.door import room
from quotabell.http.listener import Listener, address, bind
from quotabell.http.receiving import Current, Receivers
from quotabell.http.routing import Draining, mount
from quotabell.lifetime import Tasks, last_word, leave, patiently
from quotabell.log import Logging
from quotabell.metrics import Metrics
from quotabell.reload import Reloader, overrides
from quotabell.service import faults
from quotabell.service.commit import Committer
from quotabell.service.counting import Counting
from quotabell.service.evaluate import Evaluator
from quotabell.service.exposition import UsageExposition
from quotabell.service.feed import AlertFeed
from quotabell.service.fold import Fold
from quotabell.service.forecast import Forecaster
from quotabell.service.mirror import Mirror
from quotabell.service.reading import reading_of
from quotabell.service.repeat import Repeater
from quotabell.service.retention import Retention
from quotabell.service.ring import Ringer
from quotabell.service.sample import Sampler
from quotabell.service.series import Idle
from quotabell.service.settle import Settler
from quotabell.service.signals import Signals
from quotabell.service.silence import Silencer
from quotabell.service.sources import Sources
from quotabell.service.subscribe import Subscriptions
from quotabell.service.vitals import DatabaseVitals
from quotabell.store.aging import AgingStore
from quotabell.store.alerts import AlertStore
from quotabell.store.channels import ChannelStore
from quotabell.store.database import Database
from quotabell.store.embedded import EmbeddedPostgres
from quotabell.store.episodes import EpisodeStore
from quotabell.store.events import Counted, EventStore
from quotabell.store.folds import FoldStore
from quotabell.store.forecasts import ForecastStore
from quotabell.store.history import HistoryStore
from quotabell.store.instance import hold
from quotabell.store.leases import LeaseStore
from quotabell.store.levels import AlertLevelStore
from quotabell.store.listener import HintListener
from quotabell.store.migrate import migrate
from quotabell.store.periods import PeriodStore
from quotabell.store.quotas import QuotaStore
from quotabell.store.repeats import RepeatStore
from quotabell.store.samples import SampleStore
from quotabell.store.series import SeriesStore
from quotabell.store.settings import SettingsStore
from quotabell.store.settling import SettlingStore
from quotabell.store.signals import SignalStore
from quotabell.store.silences import SilenceStore
from quotabell.store.sources import SourceStore
from quotabell.store.states import StateStore
from quotabell.store.thresholds import ThresholdStore
from quotabell.store.usage import UsageStore
from quotabell.supervisor import Supervisor
from quotabell.watching import Watching

CONNECT_PATIENCE = 30.0  # seconds to wait at start for a database that is starting too


@dataclass(frozen=True, slots=True)
class Running:
    """A daemon that takes requests."""

    host: str
    port: int
    metrics: Metrics
    secure: bool

    @property
    def url(self) -> str:
        return address(self.host or "localhost", self.port, secure=self.secure)


async def serve(
    config: Config,
    logging: Logging,
    stop: asyncio.Event,
    *,
    reload: asyncio.Event | None = None,
    reread: Callable[[], Config] | None = None,
    on_ready: Callable[[Running], None] = lambda running: None,
    fault: faults.Fault = faults.none,
    patience: float = CONNECT_PATIENCE,
    supervisor: Supervisor | None = None,
) -> None:
    """Run the daemon until ``stop`` is set, then answer what has arrived and end.

    ``reload`` set: take ``reread()`` as the configuration, as far as it can be changed while
    running. ``fault`` lets drills kill it. ``supervisor`` is told how it is. Raises what keeps it
    from starting (a database that is away: Unavailable after ``patience`` seconds), or the error
    of a part that crashed. Cancel it to give up a start.
    """
    log = logging.get_logger()
    supervisor = supervisor or Supervisor()
    supervisor.logged(log)
    # One straight function rather than a chain of helpers: the order of what is acquired
    # here, each released in reverse, is the design of start and stop.
    async with contextlib.AsyncExitStack() as stack:
        sock = bind(config.listen.host, config.listen.port)
        stack.callback(sock.close)
        instance = hold(config.data_dir)
        stack.callback(instance.close)
        tasks = Tasks(stack)

        dsn = config.database.url.get_secret_value()
        if not dsn:
            server = EmbeddedPostgres(config.data_dir, logging.get_logger("postgres"))
            stack.push_async_callback(server.stop)
            await server.start()
            tasks.start(server.supervise())
            dsn = server.dsn
        await patiently(lambda: migrate(dsn), log, patience)

        metrics = Metrics()
        certificates = Certificates(config.tls, metrics, log) if config.tls else None
        if certificates is not None:
            tasks.start(certificates.watch())
        database = Database(
            dsn,
            pool_size=config.database.pool_size,
            prepared_statements=config.database.prepared_statements,
            log=log,
        )
        stack.push_async_callback(database.close)
        await patiently(database.open, log, patience)
        tasks.start(database.watch())
        tasks.start(DatabaseVitals(database, metrics, log).run())

        counting = Counting(QuotaStore(database), metrics, log)
        mirror = Mirror(SettingsStore(database), counting, ChannelStore(database), metrics, log)
        await mirror.put(config)

        event_store = EventStore(database, burn_window=config.alerts.forecast.burn_window)
        sample_store = SampleStore(database)
        source_store = SourceStore(database)
        period_store = PeriodStore(database)
        retention = Retention(
            [
                (event_store.days, config.retention.events),
                (sample_store.months, config.retention.samples),
                (period_store.months, config.retention.periods),
            ],
            AgingStore(database),
            period_store,
            log,
            keep_history=config.retention.history,
            keep_periods=config.retention.periods,
            now=database.clock.now,
        )
        await retention.make_parts()
        usage_store = UsageStore(database)
        exposition = UsageExposition(
            usage_store,
            event_store,
            sample_store,
            source_store,
            AlertLevelStore(database),
            Fold(FoldStore(database), config.metrics.per_user, config.metrics.max_series, log),
            log,
        )
        tasks.start(exposition.run())
        committer: usage.SnapshotCommitter = Committer(
            usage_store,
            metrics,
            log,
            max_pending=config.ingest.max_pending,
            on_stored=lambda stored: exposition.states.patch(stored.states),
        )
        tasks.start(committer.run())
        tasks.start(committer.sweep())
        sampler = Sampler(sample_store, burn_window=config.alerts.forecast.burn_window)

        def count(counted: Counted) -> None:
            exposition.show(counted)
            sampler.note_late(counted.late)

        event_committer: events.EventCommitter = Committer(
            event_store,
            metrics,
            log,
            max_pending=config.ingest.max_pending,
            on_stored=count,
        )
        tasks.start(event_committer.run())
        tasks.start(event_committer.sweep())
        metrics.queue_events.set_function(lambda: committer.pending + event_committer.pending)

        reporters = Sources(source_store, database.clock.now, log)
        tasks.start(reporters.run())
        stack.push_async_callback(last_word, lambda: database.up, reporters.close)

        told = await delivering(
            *(stack, config, database, metrics, logging), worker=instance.id, fault=fault
        )
        deliverer, channels = told.deliverer, told.channels
        await deliverer.start()
        tasks.start(deliverer.run())
        tasks.start(deliverer.acknowledge())
        stack.push_async_callback(deliverer.close)

        silence_store = SilenceStore(database)
        silencer = Silencer(silence_store, log, keep=config.retention.history)
        ringer = Ringer(AlertStore(database), metrics, log)
        settler = Settler(SettlingStore(database))
        watching = Watching(config, database, metrics, log)
        await watching.sources.listening()
        await stack.enter_async_context(watching.pinger)
        tasks.start(watching.heartbeat.run())
        evaluator = Evaluator(
            LeaseStore(database),
            metrics,
            log,
            instance=instance.id,
            every=config.alerts.evaluate_every.total_seconds(),
            steps=[
                counting.keep_periods,
                counting.follow,
                ringer.rearm,
                ringer.ring_due,
                ringer.make_good,
                Forecaster(ForecastStore(database), config.alerts.forecast, log).foretell,
                settler.forgotten,
                silencer.end,
                # After it: what is told at the end of a silence is told.
                Repeater(RepeatStore(database), log).repeat,
                retention.keep_parts,
                sampler.sample,
                retention.age_out,
                retention.archive,
                Idle(SeriesStore(database), SignalStore(database)).forget,
                watching.sources.check,
                watching.channels.check,
            ],
            everywhere=[
                sampler.restart_late,
                mirror.check,
                deliverer.measure,
                watching.channels.measure,
            ],
            ended=watching.heartbeat.note,
            progress=supervisor.progress,
            fault=fault,
        )
        stack.push_async_callback(last_word, lambda: database.up, evaluator.release)
        await evaluator.hold()
        tasks.start(evaluator.run())
        tasks.start(supervisor.watch(config.alerts.evaluate_every.total_seconds()))
        feed = AlertFeed(told.feed, channels, metrics, log, leading=lambda: evaluator.leading)
        tasks.start(feed.run())

        def hint(payload: str) -> None:
            deliverer.wake()
            if payload:
                evaluator.wake()

        if not config.database.polls:
            listen_dsn = config.database.listen_url.get_secret_value() or dsn
            hints = HintListener(listen_dsn, hint, log)
            metrics.listener_up.set_function(lambda: hints.up)
            tasks.start(hints.run())

        receivers = Receivers(
            event_committer,
            committer,
            Signals(SignalStore(database), overrides(config)),
            reporters,
            metrics,
            config.ingest,
            Current(reading_of(config)),
            config.retention.events,
            database.clock.now,
        )
        gate = gate_of(config.auth)
        draining = Draining()
        reloader = Reloader(
            *(config, reread, gate, mirror, channels, receivers, watching.sources),
            *(certificates, metrics, log),
        )
        app = web.Application(client_max_size=config.ingest.max_body)
        mount(
            app,
            [
                *page.routes(),
                *usage.routes(committer, database, metrics, config.ingest, gate.names(), reporters),
                *events.routes(
                    event_committer,
                    event_store,
                    metrics,
                    config.ingest,
                    gate.names(),
                    reporters,
                    retention=config.retention.events,
                    now=database.clock.now,
                ),
                *states.routes(StateStore(database), sample_store, exposition.forget),
                *samples.routes(sample_store, database.clock.now),
                *quotas.routes(lambda: reloader.config.quotas),
                *silences.routes(silence_store, database.clock.now),
                *sources.routes(source_store),
                *alerts.routes(EpisodeStore(database)),
                *otlp.routes(receivers, gate.names()),
                *litellm.routes(receivers, gate.names()),
                *cloudevents.routes(receivers, gate.names()),
                *thresholds.routes(ThresholdStore(database)),
                *push.routes(
                    Subscriptions(told.push, told.rules, told.keys),
                    told.push,
                    HistoryStore(database),
                    told.keys.newest.key.public,
                    Allowance(config.push.tests_per_minute),
                    Crowd(config.push.subscribes_per_minute),
                ),
                *scrape.routes(database, metrics, exposition, lambda: evaluator.leading),
                *operation.routes(
                    database,
                    redacted=lambda: redacted(reloader.config),
                    reload=reloader.reload,
                    ready=lambda: not draining.on,
                ),
            ],
            gate,
            draining,
            log,
        )
        listener = Listener(
            *(app, sock, draining),
            room=room(config.max_connections),
            tls=certificates.context if certificates is not None else None,
        )
        stack.push_async_callback(listener.close)
        await listener.start()
        if reload is not None:
            tasks.start(reloader.watch(reload, supervisor))

        running = Running(config.listen.host, listener.port, metrics, config.tls is not None)
        log.info("quotabell is ready", url=running.url, version=__version__)
        supervisor.ready()
        on_ready(running)
        await tasks.until(stop)
        supervisor.stopping()
        log.info("stopping: answering what has arrived")
        await listener.drain()
        await asyncio.gather(committer.close(), event_committer.close())
        await leave(database)
    log.info("stopped")
