"""Structured logging: one line an event, times in UTC, secrets masked.

``configure`` builds everything that one daemon logs with and changes nothing outside, so two
daemons in one process keep their own levels, formats and streams. What other libraries say
through the standard library's ``logging`` is process-wide; ``Logging.capture_stdlib`` takes
it over for as long as its caller wishes.
"""

from __future__ import annotations

import json
import logging
import math
import re
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final, Literal, TextIO

import structlog
from pydantic import SecretBytes, SecretStr
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from quotabell.log_repeats import Repeats

Logger = FilteringBoundLogger
"""What code that logs asks for; made by ``Logging.get_logger``."""

MASK: Final = "***"
_MAX_DEPTH = 5

# A key names a secret if one of its words is here, unless its last word says that the value
# only describes the secret. Numbers are never masked: token counts are what this is about.
_SECRET_WORDS = frozenset(
    "token tokens authorization auth secret secrets password passwd passphrase credential "
    "credentials cookie cookies endpoint endpoints p256dh dsn apikey".split()
)
_SECRET_ENDS = frozenset({("api", "key"), ("private", "key")})
_DESCRIBING = frozenset("name names file files id host origin kind reason status".split())
_WORD = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")

# What Apprise and its HTTP client say quotes URLs, which hold secrets.
_TALKATIVE = frozenset({"apprise", "urllib3", "requests", "requests_oauthlib", "oauthlib"})

_NOT_BLANK = re.compile(r"\S+")
_BEARER = re.compile(r"(?i)\b(bearer|vapid|webpush) +[A-Za-z0-9._~+/=-]{16,}")
_ASSIGNED = re.compile(
    r"(?i)((?:password|passwd|secret|token|api_?key|p256dh|auth|endpoint)(?:=|[\"']\s*:\s*)[\"']?)[^\s\"'&,;}]+"
)
_PLAIN = re.compile(r"[^\s\"=\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_BAD_KEY = re.compile(r"[^A-Za-z0-9_.-]")


class Logging:
    """The log of one daemon."""

    def __init__(self, level: str, processors: Sequence[Processor], stream: TextIO) -> None:
        self._output = _Output(stream)
        self._processors = list(processors)
        self._wrapper = structlog.make_filtering_bound_logger(level)

    def get_logger(self, component: str | None = None, **values: Any) -> Logger:
        """A logger that adds ``component`` and ``values`` to every event.

        Calls below the configured level return at once. The keys ``time``, ``level`` and
        ``exception`` are the log's own.
        """
        proxy = structlog.wrap_logger(
            self._output,
            processors=self._processors,
            wrapper_class=self._wrapper,
            context_class=dict,
            cache_logger_on_first_use=False,
        )
        bound: Logger = proxy.bind(**({"component": component} if component else {}), **values)
        return bound

    @contextmanager
    def capture_stdlib(self) -> Iterator[None]:
        """Write warnings and errors of ``logging`` (aiohttp, asyncio) here while inside.

        The root logger belongs to the process, so this is for the one who owns the process.
        """
        handler = _StdlibHandler(self.get_logger())
        root = logging.getLogger()
        root.addHandler(handler)
        try:
            yield
        finally:
            root.removeHandler(handler)


def configure(
    level: Literal["debug", "info", "warning", "error"] = "info",
    format: Literal["logfmt", "json", "console"] = "logfmt",
    stream: TextIO | None = None,
) -> Logging:
    """The log of one daemon, written to ``stream`` (the standard error of the moment)."""
    stream = stream or sys.stderr
    shared: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.format_exc_info,
        _Redactor(),
        Repeats(),
        _in_order,
    ]
    if format == "json":
        return Logging(level, [*shared, structlog.processors.JSONRenderer()], stream)
    if format == "console":
        console = structlog.dev.ConsoleRenderer(
            colors=stream.isatty(),
            event_key="msg",
            timestamp_key="time",
            sort_keys=False,
            # Tracebacks are text by now; the default one would show local variables.
            exception_formatter=structlog.dev.plain_traceback,
        )
        return Logging(level, [*shared, _console_safe, console], stream)
    return Logging(level, [*shared, _logfmt], stream)


def scrub(text: str) -> str:
    """``text`` without passwords of URLs, bearer tokens and values given as ``password=…``."""
    if "://" in text and "@" in text:
        text = _NOT_BLANK.sub(_without_userinfo, text)
    return _ASSIGNED.sub(rf"\1{MASK}", _BEARER.sub(rf"\1 {MASK}", text))


def _without_userinfo(match: re.Match[str]) -> str:
    """Masks up to the last ``@`` of the word: a password may hold ``/``, ``#`` and ``@``."""
    head, separator, rest = match[0].partition("://")
    userinfo, at, tail = rest.rpartition("@")
    user, colon, _ = userinfo.partition(":")
    if not separator or not at:
        return match[0]
    if colon and not re.search(r"[/?#]", user):
        return f"{head}://{user}:{MASK}@{tail}"
    if re.search(r"[/?#]", userinfo) or head.endswith(("postgres", "postgresql")):
        return match[0]  # an @ in a path, or a user name alone
    return f"{head}://{MASK}@{tail}"


def names_a_secret(key: str) -> bool:
    """Whether text under this key is masked whatever it is."""
    words = [word.lower() for word in _WORD.findall(key)]
    if not words or words[-1] in _DESCRIBING:
        return False
    return not _SECRET_WORDS.isdisjoint(words) or tuple(words[-2:]) in _SECRET_ENDS


class _Redactor:
    """Turns every value into plain JSON types without secrets."""

    def __init__(self) -> None:
        self._names_a_secret = lru_cache(maxsize=1024)(names_a_secret)

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        return {key: self._value(key, value, 0) for key, value in event.items()}

    def _value(self, key: str, value: object, depth: int) -> Any:
        if value is None or isinstance(value, bool | int):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else str(value)
        if isinstance(value, SecretStr | SecretBytes) or self._names_a_secret(key):
            return self._counts(value) if isinstance(value, Mapping) else MASK
        if isinstance(value, str):
            return scrub(value)
        if isinstance(value, Mapping | list | tuple | set | frozenset):
            return self._parts(value, depth + 1) if depth < _MAX_DEPTH else "…"
        try:
            return scrub(str(value))
        except Exception:  # logging must not fail for what it was given
            return f"<{type(value).__name__}>"

    def _parts(self, value: Any, depth: int) -> Any:
        if isinstance(value, Mapping):
            return {str(k): self._value(str(k), v, depth) for k, v in value.items()}
        return [self._value("", item, depth) for item in value]

    @staticmethod
    def _counts(value: Mapping[Any, Any]) -> dict[str, Any]:
        """A mapping under a secret's name (tokens={"input": 5}): only its numbers."""
        return {str(k): v if isinstance(v, int | float) else MASK for k, v in value.items()}


def _in_order(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Time, level and message first; a traceback last."""
    trace = {"exception": event.pop("exception")} if "exception" in event else {}
    if "msg" in event:
        event["msg_"] = event.pop("msg")
    first = {"time": event.pop("time"), "level": event.pop("level"), "msg": event.pop("event")}
    return {**first, **event, **trace}


def _logfmt(_: WrappedLogger, __: str, event: EventDict) -> str:
    pairs = ((_BAD_KEY.sub("_", key) or "_", value) for key, value in event.items())
    return " ".join(f"{key}={_text(value)}" for key, value in pairs)


def _text(value: object) -> str:
    """A value for logfmt: bare where that is unambiguous, else a JSON string on one line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if _PLAIN.fullmatch(text):
        return text
    return _escaped(json.dumps(text, ensure_ascii=False))


def _console_safe(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """One line an event, and nothing that a terminal would obey."""
    trace = event.pop("exception", None)
    safe = {
        key: _escaped(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for key, value in event.items()
    }
    if trace:
        safe["exception"] = "\n".join(_escaped(line) for line in str(trace).split("\n"))
    return safe


def _escaped(text: str) -> str:
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


class _Output:
    """Writes lines; losing the log's reader must not stop the daemon."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def msg(self, line: str) -> None:
        with self._lock:
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except (OSError, ValueError):  # closed pipe, full disk, closed file
                pass

    debug = info = warning = error = critical = msg


class _StdlibHandler(logging.Handler):
    """Passes records of the standard library on, with the name of their logger."""

    def __init__(self, log: Logger) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.partition(".")[0] in _TALKATIVE:
            return
        try:
            message = record.getMessage()
        except Exception:  # wrong arguments for the format
            message = str(record.msg)
        level = min(record.levelno // 10 * 10, logging.CRITICAL)
        self._log.log(level, message, component=record.name, exc_info=record.exc_info)
