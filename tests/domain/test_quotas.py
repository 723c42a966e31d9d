"""What a quota counts, for whom and when; and what all of them say to one event."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, localcontext
from itertools import combinations
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quotabell.domain.events import KINDS, Kinds
from quotabell.domain.matching import Match
from quotabell.domain.periods import BlockWindow, Period, parse_window
from quotabell.domain.quotas import (
    DEFAULT_WEIGHTS,
    DIMENSIONS,
    REMEMBERED_PERIODS,
    Charge,
    Override,
    Quota,
    QuotaBook,
    quota_of,
)
from quotabell.domain.usage import BIGINT_MAX

BERLIN = ZoneInfo("Europe/Berlin")
DAY = parse_window("day", BERLIN)
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
ALICE = ("openai", "gpt-5", "alice")
BOB = ("openai", "gpt-5", "bob")
CAROL = ("openai", "gpt-5", "carol")
ALL_PER = [per for n in range(4) for per in combinations(DIMENSIONS, n)]

WEIGHTS = st.dictionaries(
    st.sampled_from([*KINDS, "request"]),
    st.decimals(0, 1000, allow_nan=False, places=3) | st.sampled_from([Decimal(1), Decimal("0.5")]),
)
TOKENS = st.dictionaries(st.sampled_from(KINDS), st.integers(-BIGINT_MAX, BIGINT_MAX))


def quota(name="q", *, match=None, per=(), limit=100, window=DAY, **others) -> Quota:
    return Quota(name, match or Match(), limit, window, per, **others)


def decimals(**weights: str) -> dict[str, Decimal]:
    return {kind: Decimal(weight) for kind, weight in weights.items()}


# --- weighing ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "kinds", "requests", "amount"),
    [
        ({}, {"input": 10, "cache_read": 20, "output": 3}, 1, 33),
        ({}, {}, 5, 0),
        ({"cache_read": "0.1"}, {"input": 10, "cache_read": 20, "output": 3}, 1, 15),
        ({"cache_read": "0"}, {"input": 10, "cache_read": 20}, 1, 10),
        ({"input": "0.5"}, {"input": 1}, 1, 1),
        ({"input": "0.5"}, {"input": 5}, 1, 3),
        ({"input": "0.5"}, {"input": -1}, 1, -1),
        ({"input": "0.5"}, {"input": -5}, 1, -3),
        ({"input": "0.49"}, {"input": 1}, 1, 0),
        ({"input": "0.2"}, {"input": 2}, 1, 0),
        ({"input": "0.2"}, {"input": 3}, 1, 1),
        # Rounded once: two kinds of 0.25 are 0.5, which is 1.
        ({"input": "0.25", "output": "0.25"}, {"input": 1, "output": 1}, 1, 1),
        # 0.1 + 0.2 + 0.2 is a half; as floats 0.1 * 3 is more than 0.3.
        ({"input": "0.1", "output": "0.2"}, {"input": 1, "output": 2}, 1, 1),
        ({"input": "1.005"}, {"input": 100}, 1, 101),
        ({"request": "1", **{kind: "0" for kind in KINDS}}, {"input": 999}, 1, 1),
        ({"request": "100"}, {"input": 7}, 3, 307),
        ({"input": "1.0"}, {"input": 7}, 3, 7),
        ({"input": "1000"}, {"input": BIGINT_MAX}, 1, BIGINT_MAX * 1000),
        ({"input": "0.000000000000000001"}, {"input": 5 * 10**17}, 1, 1),
        ({"input": "0.000000000000000001"}, {"input": 5 * 10**17 - 1}, 1, 0),
    ],
)
def test_an_event_weighs_what_its_kinds_weigh_together(weights, kinds, requests, amount):
    assert quota(weights=decimals(**weights)).weigh(Kinds(**kinds), requests) == amount


@given(WEIGHTS, TOKENS, st.integers(0, 1000))
def test_weighing_is_exact_with_halves_away_from_zero(weights, kinds, requests):
    full = {**DEFAULT_WEIGHTS, **weights}
    with localcontext(prec=100):
        total = requests * full["request"]
        for kind, tokens in kinds.items():
            total += tokens * full[kind]
        # What decimal calls "half up" is away from zero on both sides.
        expected = int(total.quantize(Decimal(1), ROUND_HALF_UP))

    assert quota(weights=weights).weigh(Kinds(**kinds), requests) == expected


# --- whom it counts for --------------------------------------------------------------------


def test_a_quota_applies_to_whom_it_matches():
    found = quota(match=Match(provider="openai", model="gpt-*", user=["alice", "team-*"]))

    assert found.applies(*ALICE)
    assert found.applies("openai", "gpt-5", "team-a")
    assert not found.applies(*BOB)
    assert not found.applies("anthropic", "gpt-5", "alice")
    assert not found.applies("openai", "o4", "alice")
    assert not found.applies("openai", "gpt-5", "")


@pytest.mark.parametrize("per", ALL_PER)
def test_what_a_quota_does_not_count_per_is_shared(per):
    expected = (
        "alice" if "user" in per else "",
        "openai" if "provider" in per else "*",
        "gpt-5" if "model" in per else "*",
    )

    assert quota(per=per).subject(*ALICE) == expected


def test_a_counter_is_named_for_the_one_value_that_its_quota_matches():
    match = Match(provider="openai", model="gpt-*", user="alice")

    assert quota(match=match).subject(*ALICE) == ("alice", "openai", "*")


def test_the_limit_is_that_of_the_first_override_that_matches():
    found = quota(
        per=("user",),
        overrides=(
            Override(Match(user="team-a-*"), 300),
            Override(Match(user=["team-*", "alice"]), 200),
            Override(Match(user=""), 5),
        ),
    )

    def limit(user):
        return found.limit_for("openai", "gpt-5", user)

    assert [limit(user) for user in ("team-a-1", "team-b-1", "alice", "", "bob")] == [
        300,
        200,
        200,
        5,
        100,
    ]


def test_a_rule_may_name_the_quota():
    overrides = (Override(Match(quota="other"), 1), Override(Match(quota="q"), 2))

    assert quota(overrides=overrides).limit_for(*ALICE) == 2
    assert quota(match=Match(quota="q")).applies(*ALICE)
    assert not quota(match=Match(quota="other")).applies(*ALICE)


def test_all_who_share_a_counter_have_one_limit():
    shared = quota(
        per=("provider",),
        overrides=(
            Override(Match(user="alice"), 1),
            Override(Match(model="gpt-*"), 2),
            Override(Match(provider="openai", user="*"), 3),
        ),
    )

    assert shared.limit_for(*ALICE) == shared.limit_for(*BOB) == 3
    assert shared.limit_for("anthropic", "gpt-5", "alice") == 100


# --- when recounting is due ----------------------------------------------------------------

COUNTED = quota(
    match=Match(provider="openai", model=["gpt-*", "o?"]),
    per=("user", "provider"),
    weights=decimals(cache_read="0.10", request="2E+1"),
    window=BlockWindow(5, datetime(2026, 1, 1, 3, tzinfo=UTC)),
)


def test_the_definition_is_json_in_full_and_in_one_order():
    assert json.loads(json.dumps(COUNTED.definition())) == {
        "match": {"provider": ["openai"], "model": ["gpt-*", "o?"]},
        "per": ["provider", "user"],
        "weights": {
            "input": "1",
            "cache_read": "0.1",
            "cache_write": "1",
            "output": "1",
            "reasoning": "1",
            "other": "1",
            "request": "20",
        },
        "window": {"hours": 5, "anchor": "1969-12-31T23:00:00+00:00"},
    }
    assert quota(window=parse_window("week", BERLIN)).definition()["window"] == {
        "unit": "week",
        "zone": "Europe/Berlin",
    }


def test_the_fingerprint_is_stable():
    """It is stored in the database: another value for the same quota recounts all usage."""
    assert COUNTED.fingerprint == FINGERPRINT_OF_COUNTED


FINGERPRINT_OF_COUNTED = "3c633d4a07bfcb348ba303f6dc3109af671b5a1de9a4ab2b5532a36b4301316e"


@pytest.mark.parametrize(
    ("same", "change"),
    [
        (True, {"name": "renamed"}),
        (True, {"limit": 7}),
        (True, {"overrides": (Override(Match(user="a"), 7),)}),
        (True, {"thresholds": (50.0,)}),
        (True, {"notify": ()}),
        (True, {"match": Match(provider=["openai"], model=["o?", "gpt-*", "o?"])}),
        (True, {"per": ("provider", "user")}),
        (True, {"weights": decimals(cache_read="0.1", request="20", input="1.0")}),
        (True, {"window": BlockWindow(5, datetime(2026, 1, 1, 8, tzinfo=UTC))}),
        (True, {"window": BlockWindow(5, datetime(2026, 1, 1, 4, tzinfo=BERLIN))}),
        (False, {"match": Match(provider="openai", model=["gpt-*", "o*"])}),
        (False, {"match": Match(provider="openai", model=["gpt-*", "o?"], user="a")}),
        (False, {"match": Match(provider="openai", user=["gpt-*", "o?"])}),
        (False, {"per": ("user",)}),
        (False, {"weights": decimals(cache_read="0.11", request="20")}),
        (False, {"weights": decimals(cache_read="0.1", request="200")}),
        (False, {"weights": decimals(cache_write="0.1", request="20")}),
        (False, {"window": BlockWindow(5, datetime(2026, 1, 1, 4, tzinfo=UTC))}),
        (False, {"window": BlockWindow(10, datetime(2026, 1, 1, 3, tzinfo=UTC))}),
        (False, {"window": parse_window("hour", BERLIN)}),
    ],
)
def test_the_fingerprint_follows_what_decides_counting_only(same, change):
    assert (replace(COUNTED, **change).fingerprint == COUNTED.fingerprint) is same


def test_units_and_zones_have_their_own_fingerprints():
    zones = [ZoneInfo("UTC"), BERLIN]
    windows = [parse_window(u, z) for u in ("hour", "day", "week", "month") for z in zones]

    assert len({quota(window=window).fingerprint for window in windows}) == 8


MINUTES = st.integers(0, 5 * 60 * 3)


@given(MINUTES, MINUTES)
def test_anchors_have_the_same_fingerprint_if_they_cut_the_same_periods(a, b):
    windows = [BlockWindow(5, NOON + timedelta(minutes=m)) for m in (a, b)]
    one, other = (quota(window=window) for window in windows)

    same_periods = one.period_of(NOON) == other.period_of(NOON)
    assert (one.fingerprint == other.fingerprint) is same_periods


# --- what cannot be counted with -----------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"limit": 0},
        {"limit": -1},
        {"limit": BIGINT_MAX + 1},
        {"overrides": (Override(Match(), 0),)},
        {"per": ("quota",)},
        {"weights": {"tokens": Decimal(1)}},
        {"weights": {"input": Decimal("-0.1")}},
        {"weights": {"input": Decimal("NaN")}},
        {"weights": {"input": Decimal("Infinity")}},
    ],
)
def test_values_that_cannot_be_counted_with_are_refused(wrong):
    with pytest.raises(ValueError, match=r"^q: "):
        quota(**wrong)


def test_a_quota_cannot_be_changed():
    weights = decimals(input="2")
    found = quota(weights=weights)
    weights["input"] = Decimal(3)

    assert found.weigh(Kinds(1)) == 2
    with pytest.raises(TypeError):
        found.weights["input"] = Decimal(3)  # type: ignore[index]


def test_a_quota_is_made_of_plain_values():
    found = quota_of(
        name="q",
        match={"provider": "openai", "model": ("gpt-*", "o?")},
        limit=100,
        window="5h",
        per=["user", "provider"],
        overrides=[({"user": "alice"}, 7)],
        anchor=datetime(2026, 1, 1, 3, tzinfo=UTC),
        weights=decimals(cache_read="0.1", request="20"),
        thresholds=(50.0,),
        notify=("everyone",),
    )

    assert found == replace(
        COUNTED,
        overrides=(Override(Match(user="alice"), 7),),
        thresholds=(50.0,),
        notify=("everyone",),
    )
    zoned = quota_of(name="q", match={}, limit=1, window="day", timezone="Europe/Berlin")
    assert zoned.window == DAY


# --- all quotas together -------------------------------------------------------------------


def test_every_quota_that_applies_charges_its_counter():
    book = QuotaBook(
        [
            quota("daily", match=Match(model="gpt-*"), per=("user",)),
            quota("claude", match=Match(provider="anthropic")),
            quota(
                "five-hours",
                per=("provider", "model"),
                limit=7,
                window=BlockWindow(5),
                weights=decimals(input="0", request="1"),
            ),
        ]
    )
    charges = book.charges(*ALICE, Kinds(input=10, output=2), NOON, requests=3)

    assert charges == [
        Charge(
            "daily",
            "alice",
            "*",
            "*",
            datetime(2026, 11, 21, 23, tzinfo=UTC),
            datetime(2026, 11, 22, 23, tzinfo=UTC),
            12,
            100,
        ),
        Charge(
            "five-hours",
            "",
            "openai",
            "gpt-5",
            datetime(2026, 11, 22, 9, tzinfo=UTC),
            datetime(2026, 11, 22, 14, tzinfo=UTC),
            5,
            7,
        ),
    ]


def test_an_event_that_weighs_nothing_is_charged_nothing():
    (charge,) = QuotaBook([quota(weights=decimals(input="0"))]).charges(*ALICE, Kinds(10), NOON)

    assert charge.amount == 0


def test_without_a_quota_nothing_is_charged():
    assert QuotaBook([]).charges(*ALICE, Kinds(1), NOON) == []


def test_two_quotas_of_one_name_are_refused():
    with pytest.raises(ValueError, match="same name"):
        QuotaBook([quota(limit=1), quota(limit=2)])


NAMES = st.sampled_from(["a", "ab", "b"])
CALLERS = st.tuples(NAMES, NAMES, st.sampled_from(["", "a", "b"]))
MATCHES = st.builds(
    Match,
    provider=st.sampled_from(["*", "a*", "b"]),
    model=st.sampled_from(["*", "?", ("a", "ab")]),
    user=st.sampled_from(["*", "a", ""]),
)
QUOTAS = st.builds(
    quota,
    match=MATCHES,
    per=st.sampled_from(ALL_PER),
    limit=st.integers(1, 9),
    window=st.sampled_from([parse_window(w, BERLIN) for w in ("hour", "day", "month", "7h")]),
    overrides=st.lists(st.builds(Override, MATCHES, st.integers(10, 19)), max_size=2).map(tuple),
    weights=WEIGHTS,
)
MOMENTS = st.datetimes(datetime(2026, 10, 20), datetime(2026, 11, 2), timezones=st.just(UTC))


@given(
    st.lists(QUOTAS, max_size=3),
    st.lists(st.tuples(CALLERS, TOKENS, MOMENTS), max_size=12),
    st.integers(1, 4),
)
def test_a_book_says_what_its_quotas_say_whatever_it_remembers(quotas, events, remembered):
    quotas = [replace(q, name=f"q{i}") for i, q in enumerate(quotas)]
    book = QuotaBook(quotas, remembered=remembered)

    for caller, kinds, at in events:
        assert book.charges(*caller, Kinds(**kinds), at) == [
            Charge(
                q.name,
                *q.subject(*caller),
                *q.period_of(at),
                q.weigh(Kinds(**kinds)),
                q.limit_for(*caller),
            )
            for q in quotas
            if q.applies(*caller)
        ]


class CountingMatch(Match):
    """Writes down whom it was asked for."""

    def __init__(self, user: str = "*") -> None:
        super().__init__(user=user)
        object.__setattr__(self, "asked", [])

    def matches(self, **values: str) -> bool:
        self.asked.append(values["user"])
        return super().matches(**values)


def test_a_caller_is_matched_once_until_others_take_its_place():
    match = CountingMatch()
    book = QuotaBook([quota(match=match)], remembered=2)

    for caller in (ALICE, ALICE, BOB, ALICE, CAROL, ALICE, BOB):
        book.charges(*caller, Kinds(1), NOON)

    # Carol took the place of Bob, who was not met for longest.
    assert match.asked == ["alice", "bob", "carol", "bob"]


def test_a_caller_without_a_quota_is_remembered_too():
    match = CountingMatch(user="bob")
    book = QuotaBook([quota(match=match)])

    for _ in range(3):
        assert book.charges(*ALICE, Kinds(1), NOON) == []

    assert match.asked == ["alice"]


class CountingWindow(BlockWindow):
    """Writes down which moments it was asked for."""

    def __init__(self, hours: int) -> None:
        super().__init__(hours)
        object.__setattr__(self, "asked", [])

    def period_of(self, at: datetime) -> Period:
        self.asked.append(at)
        return super().period_of(at)


def test_a_period_is_worked_out_once_in_whatever_order_events_come():
    window = CountingWindow(1)
    book = QuotaBook([quota("a", window=window), quota("b", window=window)])
    hours = [NOON - timedelta(hours=i * 7 % 48) for i in range(96)]

    for at in hours:
        for charge in book.charges(*ALICE, Kinds(1), at):
            assert charge.period_start <= at < charge.period_end

    assert sorted(window.asked) == sorted(set(hours))
    assert len(window.asked) == 48


def test_no_more_periods_are_kept_than_are_worth_it():
    window = CountingWindow(1)
    book = QuotaBook([quota(window=window)])

    for i in [*range(REMEMBERED_PERIODS + 1), 0, REMEMBERED_PERIODS]:
        at = NOON + timedelta(hours=i)
        (charge,) = book.charges(*ALICE, Kinds(1), at)
        assert (charge.period_start, charge.period_end) == (at, at + timedelta(hours=1))

    # The first was forgotten, the last was not.
    assert window.asked[-2:] == [NOON + timedelta(hours=REMEMBERED_PERIODS), NOON]
