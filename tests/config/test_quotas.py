"""What may stand in a quota, and what is said by key path when it may not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from quotabell.config import files, quotas, yamlfile
from quotabell.config.base import Section
from quotabell.config.fields import Place
from quotabell.config.problems import BROKEN, Loc, Problems
from quotabell.config.quotas import Quota, Weights, contradictions, window_length
from quotabell.domain import periods, usage
from quotabell.domain import quotas as domain
from quotabell.domain.matching import Match
from quotabell.domain.quotas import Override, quota_of

RETENTION = timedelta(days=35)
UTC_ZONE = ZoneInfo("UTC")


class File(Section):
    """A configuration of quotas only."""

    quotas: tuple[Quota, ...] = ()

    @classmethod
    def contradictions(cls, raw: Mapping[str, Any]) -> Iterator[tuple[Loc, str]]:
        return contradictions(raw.get("quotas"), RETENTION)


def load(text: str) -> tuple[Quota, ...]:
    problems = Problems()
    place = Place(Path("/"), None)
    raw = files.resolve(yamlfile.parse(text, "file", {}, problems), File, place, problems)
    try:
        made = File.model_validate(raw, context=place).quotas
    except ValidationError as error:
        for e in error.errors(include_url=False, include_context=False):
            if e["input"] is not BROKEN:
                problems.add(e["loc"], e["msg"].removeprefix("Value error, "))
        made = ()
    if problems:
        raise Refused(problems.lines([]))
    return made


class Refused(Exception):
    @property
    def problems(self) -> list[str]:
        return self.args[0]


def one(**keys: Any) -> Quota:
    (quota,) = load(yaml.safe_dump({"quotas": [complete(**keys)]}))
    return quota


def complete(**keys: Any) -> dict[str, Any]:
    return {"name": "q", "limit": 100, "window": "day"} | keys


def problems_of(*written: dict[str, Any] | str) -> list[str]:
    text = written[0] if isinstance(written[0], str) else yaml.safe_dump({"quotas": list(written)})
    with pytest.raises(Refused) as caught:
        load(text)
    return caught.value.problems


def test_a_quota_of_the_file_is_a_quota_of_the_domain() -> None:
    (quota,) = load(
        """
        quotas:
          - name: openai-daily
            match: {provider: openai, model: "gpt-*"}
            per: [user]
            limit: 2_000_000
            overrides: [{match: {user: [alice, "team-a-*"]}, limit: 5_000_000}]
            window: day
            timezone: Europe/Berlin
            weights: {cache_read: 0.1}
            thresholds: [95, 80, 100]
            notify: [owner, operators]
        """
    )

    assert quota_of(**quota.values()) == domain.Quota(
        name="openai-daily",
        match=Match(provider="openai", model="gpt-*"),
        per=("user",),
        limit=2_000_000,
        overrides=(Override(Match(user=("alice", "team-a-*")), 5_000_000),),
        window=periods.CalendarWindow("day", ZoneInfo("Europe/Berlin")),
        weights={"cache_read": Decimal("0.1")},
        thresholds=(80.0, 95.0, 100.0),
        notify=("owner", "operators"),
    )


def test_what_is_left_out_has_its_default() -> None:
    assert quota_of(**one().values()) == domain.Quota(
        name="q", match=Match(), limit=100, window=periods.CalendarWindow("day", UTC_ZONE)
    )
    assert one(match=None, weights=None) == one()


def test_blocks_of_hours_begin_at_their_anchor() -> None:
    quota = one(window="5h", anchor="2026-01-01T03:00:00+01:00")

    assert quota_of(**quota.values()).window == periods.BlockWindow(
        5, datetime(2026, 1, 1, 2, tzinfo=UTC)
    )


@pytest.mark.parametrize(
    ("keys", "key", "value"),
    [
        ({"name": "A-z.0_9"}, "name", "A-z.0_9"),
        ({"name": "x" * 64}, "name", "x" * 64),
        ({"per": ["user", "model", "user"]}, "per", ("user", "model")),
        ({"per": []}, "per", ()),
        ({"limit": "2_000_000"}, "limit", 2_000_000),
        ({"limit": 2**63 - 1}, "limit", 2**63 - 1),
        ({"thresholds": []}, "thresholds", ()),
        ({"notify": []}, "notify", ()),
        ({"notify": ["everyone", "everyone"]}, "notify", ("everyone",)),
        ({"timezone": "America/Argentina/Ushuaia"}, "timezone", "America/Argentina/Ushuaia"),
        ({"window": "8784h", "name": "long"}, "window", None),
        ({"window": "840h"}, "window", "840h"),
        ({"window": "5h", "timezone": "UTC"}, "timezone", "UTC"),
        (
            {"window": "5h", "anchor": "2026-01-01 03:00:00.25z"},
            "anchor",
            datetime(2026, 1, 1, 3, 0, 0, 250_000, tzinfo=UTC),
        ),
    ],
)
def test_values_that_may_stand_there(keys: dict[str, Any], key: str, value: Any) -> None:
    if value is None:  # longer than events are kept, which is another rule than the key's own
        assert Quota(**complete(**keys)).window == keys[key]
    else:
        assert getattr(one(**keys), key) == value


@pytest.mark.parametrize(
    ("match", "patterns"),
    [
        ({"model": "gpt-*"}, ("gpt-*",)),
        ({"model": ["gpt-*", "o?"]}, ("gpt-*", "o?")),
        ({"model": "x" * 200}, ("x" * 200,)),
        ({"user": "alice"}, ("*",)),
    ],
)
def test_a_match_takes_one_pattern_or_several(match: dict[str, Any], patterns: Any) -> None:
    assert one(match=match).match.model == patterns


def test_usage_of_nobody_can_be_matched() -> None:
    assert one(match={"user": ""}).match.user == ("",)


@pytest.mark.parametrize(
    ("written", "exact"),
    [
        ("0.1", "0.1"),
        ('"0.1"', "0.1"),
        ("0", "0"),
        ("1000", "1000"),
        ("-0.0", "0"),
        ("1.5e-5", "0.000015"),
        ("0.30000000000000004", "0.30000000000000004"),
        ('"0.123456789012345678"', "0.123456789012345678"),
        ('"1.10"', "1.1"),
    ],
)
def test_a_weight_has_the_decimals_that_were_written(written: str, exact: str) -> None:
    (quota,) = load(
        "quotas: [{name: q, limit: 1, window: day, weights: {input: %s}}]" % written  # noqa: UP031
    )

    assert quota.weights.input == Decimal(exact)
    assert not quota.weights.input.is_signed()


NAME = "must be 1 to 64 letters, digits, hyphens, dots or underscores"
REPORTED = "must not begin with 'reported', which names what providers report"
WINDOW = "must be hour, day, week, month, or a number of hours such as 5h, at most 366 days (8784h)"
WHOLE = "must be a whole number of tokens, such as 2_000_000"
BOUNDS = f"must be from 1 to {2**63 - 1}"
ANCHOR = "must be a time with its zone, such as 2026-01-01T03:00:00Z"
ZONE = "must be an IANA time zone, such as Europe/Berlin"
SOME = "must hold at least one pattern; leave the key out to match everything"
LONG = "must be at most 200 characters, not 201"
EMPTY = "is empty; leave the key out to match everything"


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"name": ""}, f"name: {NAME}"),
        ({"name": "a b"}, f"name: {NAME}"),
        ({"name": "x" * 65}, f"name: {NAME}"),
        ({"name": "reports:5h"}, f"name: {NAME}"),
        ({"name": "reported"}, f"name: {REPORTED}"),
        ({"name": "reported.5h"}, f"name: {REPORTED}"),
        ({"name": 7}, "name: Input should be a valid string"),
        ({"match": {"provider": 7}}, "match.provider: must be text or a list; put it in quotes"),
        ({"match": {"provider": {"a": "b"}}}, "match.provider: must be text or a list"),
        ({"match": {"provider": []}}, f"match.provider: {SOME}"),
        ({"match": {"model": ["a", 7]}}, "match.model[1]: Input should be a valid string"),
        ({"match": {"model": ["a", ""]}}, f"match.model[1]: {EMPTY}"),
        ({"match": {"model": ""}}, f"match.model: {EMPTY}"),
        ({"match": {"user": ["a", "x" * 201]}}, f"match.user[1]: {LONG}"),
        ({"match": {"user": "x" * 201}}, f"match.user: {LONG}"),
        ({"match": {"user": None}}, "match.user: has no value; give one or remove the key"),
        ({"match": {"quota": "x"}}, "match.quota: Extra inputs are not permitted"),
        ({"per": ["user", "kind"]}, "per[1]: Input should be 'provider', 'model' or 'user'"),
        ({"per": "user"}, "per: Input should be a valid tuple"),
        ({"limit": 0}, f"limit: {BOUNDS}"),
        ({"limit": -5}, f"limit: {BOUNDS}"),
        ({"limit": 2**63}, f"limit: {BOUNDS}"),
        ({"limit": 1.5}, f"limit: {WHOLE}"),
        ({"limit": True}, f"limit: {WHOLE}"),
        ({"limit": "2__0"}, f"limit: {WHOLE}"),
        ({"limit": "lots"}, f"limit: {WHOLE}"),
        ({"overrides": [{"limit": 5}]}, "overrides[0].match: Field required"),
        ({"overrides": [{"match": {}, "limit": 0}]}, f"overrides[0].limit: {BOUNDS}"),
        ({"window": "year"}, f"window: {WINDOW}"),
        ({"window": "0h"}, f"window: {WINDOW}"),
        ({"window": "8785h"}, f"window: {WINDOW}"),
        ({"window": 5}, f"window: {WINDOW}"),
        ({"window": "5h", "anchor": "2026-01-01T03:00:00"}, f"anchor: {ANCHOR}"),
        ({"window": "5h", "anchor": "2026-01-01"}, f"anchor: {ANCHOR}"),
        ({"window": "5h", "anchor": "2026-02-30T03:00:00Z"}, f"anchor: {ANCHOR}"),
        ({"window": "5h", "anchor": "0001-01-01T00:00:00+01:00"}, f"anchor: {ANCHOR}"),
        ({"window": "5h", "anchor": 5}, f"anchor: {ANCHOR}"),
        ({"timezone": "Mars"}, f"timezone: {ZONE}"),
        ({"timezone": "europe/berlin"}, f"timezone: {ZONE}; did you mean Europe/Berlin?"),
        ({"timezone": "right/Europe/Berlin"}, f"timezone: {ZONE}; did you mean Europe/Berlin?"),
        ({"timezone": "Europe"}, f"timezone: {ZONE}; did you mean Europe/Rome?"),
        ({"timezone": "../../etc/passwd"}, f"timezone: {ZONE}"),
        ({"timezone": "localtime"}, f"timezone: {ZONE}"),
        ({"timezone": ""}, f"timezone: {ZONE}"),
        ({"timezone": 1}, "timezone: Input should be a valid string"),
        ({"weights": {"cached": 1}}, "weights.cached: Extra inputs are not permitted"),
        ({"weights": {"input": -0.1}}, "weights.input: must be from 0 to 1000"),
        ({"weights": {"input": 1000.1}}, "weights.input: must be from 0 to 1000"),
        ({"weights": {"input": float("nan")}}, "weights.input: must be from 0 to 1000"),
        ({"weights": {"input": float("inf")}}, "weights.input: must be from 0 to 1000"),
        ({"weights": {"input": 1e-19}}, "weights.input: must have at most 18 decimal places"),
        ({"weights": {"input": "NaN"}}, "weights.input: must be a number"),
        ({"weights": {"request": True}}, "weights.request: must be a number"),
        ({"thresholds": [9, 0]}, "thresholds[1]: must be above 0 and at most 1000 percent, not 0"),
        (
            {"notify": ["me"]},
            "notify[0]: Input should be 'owner', 'operators' or 'everyone'",
        ),
        # What contradicts another key.
        (
            {"anchor": "2026-01-01T00:00:00Z"},
            "anchor: is for windows such as 24h; a day begins by the calendar",
        ),
        (
            {"window": "5h", "timezone": "Europe/Berlin"},
            "timezone: is for windows of the calendar; 5h begins at anchor",
        ),
        (
            {"overrides": [{"match": {"user": "alice"}, "limit": 5}]},
            "overrides[0].match.user: cannot have a limit of its own, because the quota does not "
            "count per user; add user to per",
        ),
        (
            {"per": ["user"], "overrides": [{"match": {"model": ["gpt-*"]}, "limit": 5}]},
            "overrides[0].match.model: cannot have a limit of its own, because the quota does not "
            "count per model; add model to per",
        ),
    ],
    ids=lambda value: str(value)[:50],
)  # fmt: skip
def test_values_that_may_not_are_told_by_their_key(keys: dict[str, Any], problem: str) -> None:
    assert problems_of(complete(**keys)) == [f"quotas[0].{problem}"]


def test_a_number_of_thousands_of_digits_is_out_of_bounds() -> None:
    huge = "0x" + "f" * 5000  # Python refuses to write it down as a decimal

    assert problems_of(
        f"quotas: [{{name: q, window: day, limit: {huge}, weights: {{input: {huge}}}}}]"
    ) == [f"quotas[0].limit: {BOUNDS}", "quotas[0].weights.input: must be from 0 to 1000"]


@pytest.mark.parametrize("key", ["name", "limit", "window"])
def test_a_quota_needs_a_name_a_limit_and_a_window(key: str) -> None:
    quota = complete()
    del quota[key]

    assert problems_of(quota) == [f"quotas[0].{key}: Field required"]


def test_everything_wrong_is_told_at_once() -> None:
    quota = {key: {"no": "such value"} for key in Quota.model_fields}

    told = {problem.partition(": ")[0] for problem in problems_of(quota)}

    assert told == {
        "quotas[0].match.no",
        "quotas[0].weights.no",
        *(f"quotas[0].{key}" for key in Quota.model_fields if key not in ("match", "weights")),
    }


def test_an_override_may_name_what_the_quota_counts_per() -> None:
    match = {"user": "alice", "model": "*", "provider": ["*"]}
    quota = one(per=["user"], overrides=[{"match": match, "limit": 5}])

    assert quota.overrides[0].limit == 5
    # Made without a file, the same rules see the same defaults.
    assert Quota(**complete(per=["user"], overrides=quota.overrides)).overrides == quota.overrides


def test_two_quotas_need_two_names() -> None:
    assert problems_of(complete(), complete(name="other"), complete(window="hour")) == [
        "quotas[2].name: 'q' is the name of quotas[0] already"
    ]


@pytest.mark.parametrize(
    ("window", "days", "needed"),
    [
        ("month", 30.9, "31d"),
        ("month", 31, None),
        ("week", 6.5, "7d"),
        ("week", 7, None),
        ("day", 1, None),
        ("841h", 35, "35d1h"),
        ("840h", 35, None),
        ("years", 1, None),  # no window, which is told by the key itself
        (BROKEN, 1, None),
    ],
)
def test_a_window_is_not_longer_than_events_are_kept(
    window: object, days: float, needed: str | None
) -> None:
    found = list(contradictions([complete(), complete(name="b", window=window)], timedelta(days)))

    assert [loc for loc, _ in found] == ([("quotas", 1, "window")] if needed else [])
    for _, text in found:
        assert f"keep them for {needed} or more" in text


@pytest.mark.parametrize("wrong", [None, BROKEN, 5, {"name": "q"}, [1, None, BROKEN, {}]])
def test_no_list_of_quotas_contradicts_nothing(wrong: object) -> None:
    assert list(contradictions(wrong, RETENTION)) == []


def test_a_machine_without_time_zones_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(key: str) -> ZoneInfo:
        raise ZoneInfoNotFoundError(key)

    monkeypatch.setattr(quotas, "ZoneInfo", missing)
    monkeypatch.setattr(quotas, "available_timezones", set)

    assert problems_of(complete()) == [
        "quotas[0].timezone: this machine knows no time zones; install tzdata"
    ]


def test_what_is_shown_can_be_loaded_again() -> None:
    quota = one(
        window="5h",
        anchor="2026-01-01T03:00:00.5+01:00",
        match={"model": ["a", "b*"]},
        per=["user"],
        overrides=[{"match": {"user": "a"}, "limit": 7}],
        weights={"input": "0.0000001", "request": 1000},
        thresholds=[50],
    )

    shown = quota.model_dump(mode="json")

    assert shown["weights"]["input"] == "0.0000001"
    assert one(**shown) == quota


# --- what is written here and there --------------------------------------------------------


def test_the_file_and_the_domain_know_the_same_words() -> None:
    for name in ("Kind", "Weighed", "Dimension", "Audience"):
        assert get_args(getattr(quotas, name)) == get_args(getattr(domain, name))
    assert tuple(Weights.model_fields) == get_args(domain.Weighed)
    assert one().values()["weights"] == domain.DEFAULT_WEIGHTS
    assert quotas.MAX_LIMIT == usage.BIGINT_MAX
    assert quotas.MAX_PATTERN == usage.NAME_MAX
    assert timedelta(hours=periods.MAX_BLOCK_HOURS) == quotas.MAX_BLOCK
    assert "reported".startswith(usage.REPORTED)


WINDOWS = st.sampled_from(get_args(periods.Calendar)) | st.from_regex(
    r"[0-9]{0,5}[hd ]?", fullmatch=True
)


@given(WINDOWS, st.datetimes(datetime(2000, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)))
def test_the_file_and_the_domain_know_the_same_windows(text: str, at: datetime) -> None:
    length = window_length(text)

    if length is None:
        with pytest.raises(ValueError, match="such as 5h"):
            periods.parse_window(text, UTC_ZONE)
    else:
        start, end = periods.parse_window(text, UTC_ZONE).period_of(at)
        assert end - start <= length
        assert text == "month" or end - start == length
