"""``quotabell serve``: the daemon."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal

import uvloop

from quotabell import app, log
from quotabell.cli.command import Commands, add_config, configured
from quotabell.config import Config, load
from quotabell.service import faults
from quotabell.supervisor import Supervisor


def register(commands: Commands) -> None:
    text = "run the daemon"
    command = commands.add_parser("serve", help=text, description=text)
    add_config(command)
    command.add_argument(
        "--greet", action="store_true", help="say on standard output what to do next"
    )
    command.set_defaults(run=configured(_serve))


def _serve(config: Config, arguments: argparse.Namespace) -> int:
    async def run() -> None:
        stop, reload, ready = asyncio.Event(), asyncio.Event(), asyncio.Event()
        loop, serving = asyncio.get_running_loop(), asyncio.current_task()
        assert serving is not None

        def end() -> None:
            stop.set()
            if not ready.is_set():  # there is nobody to answer yet: give up the start
                serving.cancel()

        def greet(running: app.Running) -> None:
            gc.freeze()  # what was made at start stays: looking through it takes 50 ms each time
            ready.set()
            if arguments.greet:
                _greet(running)

        supervisor = Supervisor.of(os.environ)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, end)
        loop.add_signal_handler(signal.SIGHUP, reload.set)
        logging = log.configure(config.log.level, config.log.format)
        with logging.capture_stdlib():
            try:
                await app.serve(
                    config,
                    logging,
                    stop,
                    reload=reload,
                    reread=lambda: load(arguments.config, os.environ),
                    fault=faults.from_text(os.environ.get("QUOTABELL_CRASH_AT", "")),
                    on_ready=greet,
                    supervisor=supervisor,
                )
            except asyncio.CancelledError:
                if not stop.is_set():
                    raise

    uvloop.run(run())
    return 0


def _greet(running: app.Running) -> None:
    print(
        f"""
Quotabell listens at {running.url}. Open it in a browser, press "Notify me", and report some usage:

  curl -X POST {running.url}/api/token-monitor/update -H 'Content-Type: application/json' \\
    -d '{{"provider":"grok","model":"grok-3","tokensUsed":1000,"tokenLimit":10000}}'

Prometheus scrapes {running.url}/metrics. Ctrl-C stops the daemon; the data stays.
""",
        flush=True,
    )
