"""Lines of NDJSON become batches of usage events that may be sent again."""

from __future__ import annotations

import asyncio
import hashlib
import json
import queue
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, BinaryIO, NamedTuple

from quotabell.cli.client import API, Away, Daemon, Refusal

BATCH = 500  # events of one request
MAX_LINE = 256 * 1024  # bytes
_MOST = 4 << 20  # bytes of one request, about
_QUIET = 1.0  # seconds without a line after which what there is is sent
_PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)  # seconds before a batch is sent again


class Numbered(NamedTuple):
    """An event and the number of its line, from 1."""

    line: int
    event: dict[str, Any]


@dataclass(slots=True)
class Tally:
    """What became of the lines."""

    accepted: int = 0
    duplicates: int = 0
    corrected: int = 0
    rejected: list[tuple[int, str]] = field(default_factory=list)  # line, why

    def refuse(self, line: int, why: str) -> None:
        """Note a line that does not count."""
        self.rejected.append((line, why))


class Lines:
    """Events of lines, with what makes each safe to be sent twice: an id and a time.

    A line with a time gets the same id whenever it is read, by its words and by how many like it
    came before. Of one without, nobody knows whether it is a repetition: it gets a new id.
    """

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._seen: Counter[bytes] = Counter()
        self._number = 0

    def read(self, raw: bytes) -> Numbered | None:
        """The event of the next line; None: blank, or refused, which is noted."""
        self._number += 1
        text = raw.strip()
        if not text:
            return None
        if len(text) > MAX_LINE:
            self._tally.refuse(self._number, f"is longer than {MAX_LINE // 1024} KiB")
            return None
        try:
            event = json.loads(text)
            json.dumps(event, allow_nan=False)  # what cannot be said again would spoil its batch
        except (ValueError, RecursionError):
            self._tally.refuse(self._number, "is no JSON")
            return None
        if not isinstance(event, dict):
            self._tally.refuse(self._number, "must be an object")
            return None
        return Numbered(self._number, self._repeatable(event, text))

    def _repeatable(self, event: dict[str, Any], text: bytes) -> dict[str, Any]:
        if event.get("id") is not None:
            return event
        if event.get("time") is None:
            return event | {"id": str(uuid.uuid4()), "time": datetime.now(UTC).isoformat()}
        digest = hashlib.blake2b(text, digest_size=16).digest()
        self._seen[digest] += 1
        return event | {"id": f"line-{digest.hex()}-{self._seen[digest]}"}


class Feed:
    """The lines of a stream in batches: full ones, and what there is when no more comes."""

    def __init__(self, stream: BinaryIO, lines: Lines) -> None:
        self._lines = lines
        self._queue: queue.Queue[bytes | None] = queue.Queue(4 * BATCH)
        # A thread that dies with the process: reading a pipe can take for ever.
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def _read(self, stream: BinaryIO) -> None:
        try:
            while raw := stream.readline(MAX_LINE + 2):
                self._queue.put(raw)
                while not raw.endswith(b"\n") and (raw := stream.readline(MAX_LINE)):
                    pass  # the rest of a line that is too long
        finally:
            self._queue.put(None)

    def batches(self) -> Iterator[list[Numbered]]:
        """Blocks while waiting for lines."""
        ended = False
        while not ended:
            batch: list[Numbered] = []
            size = 0
            while len(batch) < BATCH and size < _MOST:
                try:
                    raw = self._queue.get(timeout=_QUIET if batch else None)
                except queue.Empty:
                    break
                if raw is None:
                    ended = True
                    break
                size += len(raw)
                found = self._lines.read(raw)
                if found is not None:
                    batch.append(found)
            if batch:
                yield batch


async def send(daemon: Daemon, batch: list[Numbered], tally: Tally) -> None:
    """Report a batch, again while the daemon is away; raises Away in the end, CommandFailed."""
    events = [event for _, event in batch]
    for pause in (*_PAUSES, None):
        try:
            answer = await daemon.post(f"{API}/events", events)
        except Refusal as refusal:
            if not refusal.faults or any(index is None for index, _, _ in refusal.faults):
                raise
            _refuse(batch, refusal.faults, tally)  # all of them
            return
        except Away as away:
            if pause is None:
                if first := batch[0].line:
                    away = Away(f"{away}\nlines from {first} on are not known to be counted")
                raise away from None
            await asyncio.sleep(max(pause, away.retry_after))
            continue
        tally.accepted += answer["accepted"]
        tally.duplicates += answer["duplicates"]
        tally.corrected += answer["corrected"]
        faults = [
            (item["index"], fault["field"], fault["message"])
            for item in answer["rejected"]
            for fault in item["errors"]
        ]
        _refuse(batch, faults, tally)
        return


def _refuse(batch: list[Numbered], faults: list[tuple[int | None, str, str]], tally: Tally) -> None:
    whys: dict[int, list[str]] = {}
    for index, name, message in faults:
        whys.setdefault(index or 0, []).append(f"{name}: {message}" if name else message)
    for index, why in whys.items():
        tally.refuse(batch[index].line, "; ".join(why))
