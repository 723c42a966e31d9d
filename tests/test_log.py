"""What is logged: one line an event, in three formats, without secrets."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import structlog
from pydantic import SecretBytes, SecretStr

from quotabell.log import MASK, configure, names_a_secret, scrub

FORMATS = ["logfmt", "json", "console"]
CANARY = "CANARY-0123456789abcdef"


def logged(act: Callable[[Any], object], level: Any = "info", format: Any = "json") -> str:
    """All that is written when ``act`` gets a logger."""
    stream = io.StringIO()
    act(configure(level, format, stream).get_logger("test"))
    return stream.getvalue()


def record(act: Callable[[Any], object]) -> dict[str, Any]:
    (line,) = logged(act).splitlines()
    parsed: dict[str, Any] = json.loads(line)
    return parsed


class Refuses:
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_a_logfmt_line_begins_with_time_level_and_message() -> None:
    line = logged(lambda log: log.info("batch committed", events=12, first=True), format="logfmt")

    assert re.fullmatch(
        r"time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z level=info "
        r'msg="batch committed" component=test events=12 first=true\n',
        line,
    )


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain/text:1", "plain/text:1"),
        ("", '""'),
        ("two words", '"two words"'),
        ('say "x"=1', r'"say \"x\"=1"'),
        ("a\nb\r\tc", r'"a\nb\r\tc"'),
        ("\x1b[31m", r'"\u001b[31m"'),
        ("a\u2028b\x85\x7f", r'"a\u2028b\u0085\u007f"'),
        ("\ud800", r'"\ud800"'),
        ("größe", "größe"),
        (None, "null"),
        (1.5, "1.5"),
        (float("inf"), "inf"),
        (["a", 1], r'"[\"a\", 1]"'),
    ],
)
def test_a_logfmt_value_is_quoted_where_it_must_be(value: object, shown: str) -> None:
    line = logged(lambda log: log.info("m", value=value), format="logfmt")

    assert line.endswith(f" value={shown}\n")


@pytest.mark.parametrize("format", FORMATS)
def test_an_event_is_one_line_whatever_it_holds(format: str) -> None:
    text = "a\nlevel=error forged\x1b[2J\r\x85\u2028b"
    message = f"msg {text}"
    line = logged(lambda log: log.info(message, user=text, more=[text]), format=format)

    assert len(line.splitlines()) == 1
    assert "\x1b[2J" not in line


def test_an_exception_is_told_with_its_traceback() -> None:
    def fail(log: Any) -> None:
        try:
            raise ValueError("went wrong")
        except ValueError:
            log.exception("round failed")

    found = record(fail)

    assert found["level"] == "error"
    assert found["exception"].startswith("Traceback (most recent call last):\n")
    assert found["exception"].endswith("ValueError: went wrong")
    assert list(found)[:3] == ["time", "level", "msg"]
    assert logged(fail, format="logfmt").count("\n") == 1


def test_events_below_the_level_are_dropped() -> None:
    def all_levels(log: Any) -> None:
        for level in ("debug", "info", "warning", "error"):
            getattr(log, level)(level)

    lines = logged(all_levels, level="warning").splitlines()

    assert [json.loads(line)["msg"] for line in lines] == ["warning", "error"]


def test_a_dropped_event_costs_nothing_but_the_call() -> None:
    """Its values are not even turned into text."""
    logged(lambda log: log.debug("m", value=Refuses()))

    assert (
        type(configure("info").get_logger()).debug is type(configure("warning").get_logger()).debug
    )


def test_two_daemons_in_one_process_keep_their_own_log() -> None:
    one, two = io.StringIO(), io.StringIO()
    first, second = configure("error", "json", one), configure("debug", "logfmt", two)
    log, other = first.get_logger("one"), second.get_logger("two", node=2)

    log.info("dropped")
    log.error("kept")
    other.debug("seen")

    assert [json.loads(line)["component"] for line in one.getvalue().splitlines()] == ["one"]
    assert two.getvalue().endswith("msg=seen component=two node=2\n")


def test_the_process_wide_configuration_is_left_alone() -> None:
    configure("debug", "json", io.StringIO()).get_logger("x")

    assert not structlog.is_configured()


def test_a_logger_may_be_bound_further() -> None:
    found = record(lambda log: log.bind(delivery=7).info("sent", msg="ok"))

    assert (found["msg"], found["delivery"], found["msg_"]) == ("sent", 7, "ok")


def test_the_standard_error_of_the_moment_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    configure().get_logger().info("hello")

    assert "msg=hello" in capsys.readouterr().err


def test_a_closed_stream_does_not_stop_the_caller() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    closed = io.StringIO()
    closed.close()
    for stream in (Full(), closed):
        configure("info", "logfmt", stream).get_logger().error("lost")


@pytest.mark.parametrize("format", FORMATS)
def test_a_value_that_cannot_be_shown_does_not_stop_the_caller(format: str) -> None:
    circle: list[Any] = []
    circle.append(circle)

    line = logged(lambda log: log.info("m", a=Refuses(), b=circle, c={1: {2, 3}}), format=format)

    assert "<Refuses>" in line


# Secrets


@dataclass
class Subscription:
    endpoint: str
    auth: str


def secrets_everywhere(log: Any) -> None:
    """Logs the canary in every way in which a secret may come along."""
    url = f"postgres://bell:{CANARY}@db.example.com/q"
    log.info("by key", token=CANARY, ops_token=CANARY, accessToken=CANARY, auth=CANARY)
    log.info("by key", authorization=f"Bearer {CANARY}", p256dh=CANARY, webhook_secret=CANARY)
    log.info("by key", endpoint=f"https://push.example.com/{CANARY}", private_key=CANARY)
    log.info("by key", password=[CANARY], subscription={"keys": {"auth": CANARY}, "x": 1})
    log.info("by key", tokens={"web": CANARY}, headers={"Authorization": CANARY, "Cookie": CANARY})
    log.info(
        "by type", value=SecretStr(CANARY), values=[SecretStr(CANARY)], b={"c": SecretStr(CANARY)}
    )
    log.info(
        "in url", url=url, urls=[url], text=f"cannot reach {url}, retrying", nested={"a": [url]}
    )
    message = f"in the message: {url}"
    log.info(message)
    log.info("in error", error=ConnectionError(f"no answer from {url}"))
    log.info("other urls", url=f"https://{CANARY}@git.example.com/x", two=f"amqp://a:b/{CANARY}@h")
    log.info("odd passwords", url=f"postgres://u:a/b#c?d@e{CANARY}'\"@h/d")
    log.info("assigned", dsn_text=f"host=h password={CANARY} user=u", q=f"/x?api_key={CANARY}&a=1")
    log.info("json", body=json.dumps({"token": CANARY, "p256dh": CANARY, "apiKey": CANARY}))
    log.info("header", text=f"sent 'Authorization: Bearer {CANARY}'", v=f"vapid {CANARY}")
    log.info("in objects", sub=Subscription(f"https://push.example.com/{CANARY}", CANARY))
    deep = {"a": {"b": {"c": {"d": {"e": {"f": {"auth": CANARY}}}}}}}
    log.info("far below", deep=deep, name=SecretBytes(CANARY.encode()))
    log.bind(url=url, secret=CANARY).warning("bound")
    try:
        try:
            raise OSError(f"connect to {url}")
        except OSError as error:
            raise RuntimeError(f"pool at {url}") from error
    except RuntimeError:
        log.exception("failed", url=url)


@pytest.mark.parametrize("format", FORMATS)
def test_no_secret_is_written(format: str) -> None:
    text = logged(secrets_everywhere, level="debug", format=format)

    assert [line for line in text.splitlines() if CANARY in line] == []
    assert text.count(MASK) > 30
    assert text.count("db.example.com") >= 7  # what is harmless stays


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgres://u:p@h/d", "postgres://u:***@h/d"),
        ("postgres://u@h/d", "postgres://u@h/d"),
        (
            "postgres://u:p@h/d and postgres://u:q@h/d",
            "postgres://u:***@h/d and postgres://u:***@h/d",
        ),
        ("https://medium.com/@someone", "https://medium.com/@someone"),
        (
            "mail ops@example.com about https://x.example",
            "mail ops@example.com about https://x.example",
        ),
        ("password='p q'", "password='*** q'"),
        ("auth.tokens[0].token: is empty", "auth.tokens[0].token: is empty"),
        ("basic understanding of a bearer of news", "basic understanding of a bearer of news"),
    ],
)
def test_text_keeps_all_but_its_secrets(text: str, shown: str) -> None:
    assert scrub(text) == shown


@pytest.mark.parametrize(
    "key", ["token_name", "token_file", "endpoint_host", "author", "keys", "api"]
)
def test_a_key_that_describes_a_secret_is_shown(key: str) -> None:
    assert not names_a_secret(key)


def test_token_counts_are_shown() -> None:
    found = record(
        lambda log: log.info("m", tokens=5, token_limit=1.5, tokens_used={"input": 7}, token=True)
    )

    assert found["tokens"] == 5
    assert found["token_limit"] == 1.5
    assert found["tokens_used"] == {"input": 7}


def test_a_hostile_text_is_scrubbed_in_linear_time() -> None:
    text = "@" + "x://y:" * 200_000 + " bearer" * 100_000 + "token=" * 100_000

    assert len(scrub(text)) < len(text)  # would take minutes if it were quadratic


# The standard library's logging


@pytest.fixture
def captured() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    with configure("info", "json", stream).capture_stdlib():
        yield stream


def test_warnings_of_libraries_are_written_in_the_same_form(captured: io.StringIO) -> None:
    logging.getLogger("aiohttp.access").info("not this")
    logging.getLogger("asyncio").warning("slow callback to %s", f"postgres://u:{CANARY}@h/d")

    (line,) = captured.getvalue().splitlines()

    found = json.loads(line)
    del found["time"]
    assert found == {
        "level": "warning",
        "msg": "slow callback to postgres://u:***@h/d",
        "component": "asyncio",
    }


def test_tracebacks_of_libraries_are_kept_and_scrubbed(captured: io.StringIO) -> None:
    try:
        raise OSError(f"postgres://u:{CANARY}@h/d")
    except OSError:
        logging.getLogger("aiohttp.server").exception("Error handling request")

    found = json.loads(captured.getvalue())

    assert found["exception"].endswith("OSError: postgres://u:***@h/d")
    assert CANARY not in captured.getvalue()


def test_odd_records_are_written_too(captured: io.StringIO) -> None:
    wrong = logging.LogRecord("x", logging.WARNING, "x.py", 1, "%d and %d", ("one",), None)
    ours = [h for h in logging.getLogger().handlers if type(h).__module__ == "quotabell.log"]
    ours[0].handle(wrong)
    logging.getLogger("x").log(35, "between")
    logging.getLogger("x").log(99, "above")

    lines = [json.loads(line) for line in captured.getvalue().splitlines()]

    assert [(line["level"], line["msg"]) for line in lines] == [
        ("warning", "%d and %d"),
        ("warning", "between"),
        ("critical", "above"),
    ]


def test_the_capture_ends_with_its_block() -> None:
    before = list(logging.getLogger().handlers)
    with configure("info", "json", io.StringIO()).capture_stdlib():
        assert logging.getLogger().handlers != before
    assert logging.getLogger().handlers == before


def test_importing_the_module_binds_no_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    replaced = io.StringIO()
    monkeypatch.setattr(sys, "stderr", replaced)

    configure().get_logger().warning("hello")

    assert "msg=hello" in replaced.getvalue()
