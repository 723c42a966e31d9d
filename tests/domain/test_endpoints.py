from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from quotabell.domain.endpoints import (
    MAX_ENDPOINT,
    Endpoint,
    EndpointRules,
    NoSubscription,
    Refusal,
    Subscription,
    Undeliverable,
    is_public,
)
from tests.domain.test_push_keys import key_pair

RULES = EndpointRules(
    ("push.example.org", "*.relay.example.net"),
    ("http://127.0.0.1:8099", "https://[::1]:9443/"),
)


def hostile() -> list[str]:
    """The endpoints of the corpus that stands beside this file."""
    text = Path(__file__).with_name("hostile_endpoints.txt").read_text(encoding="ascii")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    decoder = json.JSONDecoder()
    return [decoder.raw_decode(line)[0] for line in lines]


def test_the_corpus_is_large_and_without_repeats() -> None:
    assert len(hostile()) >= 60
    assert len(set(hostile())) == len(hostile())


@pytest.mark.parametrize("endpoint", hostile())
def test_a_hostile_endpoint_is_refused_without_repeating_it(endpoint: str) -> None:
    refusal = RULES.check(endpoint)

    assert isinstance(refusal, Refusal)
    assert refusal.reason
    assert "evil" not in refusal.reason


@pytest.mark.parametrize(
    ("endpoint", "reason"),
    [
        ("test", "is not an https URL"),
        ("ftp://fcm.googleapis.com/x", "is not an https URL"),
        ("http://fcm.googleapis.com/x", "is not https"),
        ("https://user@fcm.googleapis.com/x", "user information"),
        ("https://fcm.googleapis.com/x#y", "fragment"),
        ("https://fcm.googleapis.com:8443/x", "port is not 443"),
        ("https://fcm.googleapis.com:99999/x", "port is not a port"),
        ("https://127.0.0.1/x", "address, not a name"),
        ("https://[::1]/x", "address, not a name"),
        ("https://fcm.googleapis.com./x", "not a plain host name"),
        ("https://evil.example/x", "not an allowed push service"),
        ("https://fcm.googleapis.com", "path is missing"),
        ("https://fcm.googleapis.com/a b", "characters that no URL has"),
    ],
)
def test_a_refusal_says_what_is_wrong(endpoint: str, reason: str) -> None:
    refusal = RULES.check(endpoint)

    assert isinstance(refusal, Refusal)
    assert reason in refusal.reason


@pytest.mark.parametrize(
    ("endpoint", "origin", "service"),
    [
        (
            "https://updates.push.services.mozilla.com/wpush/v2/gAAAA_-x",
            "https://updates.push.services.mozilla.com",
            "mozilla",
        ),
        (
            "https://fcm.googleapis.com/fcm/send/dpH5lCsTSSM:APA91bHqjZxM0VImWW",
            "https://fcm.googleapis.com",
            "google",
        ),
        ("https://jmt17.google.com/fcm/send/x", "https://jmt17.google.com", "google"),
        ("https://android.googleapis.com/gcm/x", "https://android.googleapis.com", "google"),
        ("https://web.push.apple.com/QGuQyavXutnMH", "https://web.push.apple.com", "apple"),
        (
            "https://wns2-bl2p.notify.windows.com/w/?token=BQYAAAC%2bxyz%3d%3d",
            "https://wns2-bl2p.notify.windows.com",
            "windows",
        ),
        ("https://fcm.googleapis.com:443/wp/x", "https://fcm.googleapis.com", "google"),
        ("HTTPS://FCM.googleapis.com/wp/X", "https://fcm.googleapis.com", "google"),
        ("https://push.example.org/x", "https://push.example.org", "other"),
        ("https://a.b.relay.example.net/x", "https://a.b.relay.example.net", "other"),
        ("http://127.0.0.1:8099/x", "http://127.0.0.1:8099", "other"),
        ("https://[::1]:9443/x", "https://[::1]:9443", "other"),
    ],
)
def test_a_push_service_is_accepted(endpoint: str, origin: str, service: str) -> None:
    accepted = RULES.check(endpoint)

    assert isinstance(accepted, Endpoint)
    assert (accepted.origin, accepted.service) == (origin, service)
    assert accepted.target == endpoint[endpoint.index("/", 8) :]
    assert accepted.trusted is (":8099" in endpoint or ":9443" in endpoint)


def test_an_endpoint_is_not_printed() -> None:
    endpoint = RULES.check("https://fcm.googleapis.com/wp/capability")
    subscription = RULES.check_subscription(
        {
            "endpoint": "https://fcm.googleapis.com/wp/capability",
            "keys": dict(zip(("p256dh", "auth"), key_pair(), strict=True)),
        }
    )

    assert isinstance(subscription, Subscription)
    assert "capability" not in repr(endpoint)
    assert "capability" not in repr(subscription)
    assert subscription.auth not in repr(subscription)
    assert subscription.p256dh not in repr(subscription)


def test_the_longest_endpoint_has_2048_characters() -> None:
    endpoint = "https://fcm.googleapis.com/".ljust(MAX_ENDPOINT, "x")

    assert isinstance(RULES.check(endpoint), Endpoint)
    assert isinstance(RULES.check(endpoint + "x"), Refusal)


def test_the_digest_does_not_depend_on_how_the_host_is_spelt() -> None:
    plain = RULES.check("https://fcm.googleapis.com/wp/x")
    other = RULES.check("HTTPS://fcm.GOOGLEAPIS.com:443/wp/x")
    upper = RULES.check("https://fcm.googleapis.com/wp/X")

    assert isinstance(plain, Endpoint)
    assert isinstance(other, Endpoint)
    assert isinstance(upper, Endpoint)
    assert plain.digest == other.digest != upper.digest


def test_a_punycode_name_is_accepted_where_it_is_listed() -> None:
    rules = EndpointRules(("xn--bcher-kva.example", "*.xn--bcher-kva.example"))

    assert isinstance(rules.check("https://xn--bcher-kva.example/x"), Endpoint)
    assert isinstance(rules.check("https://push.xn--bcher-kva.example/x"), Endpoint)


@pytest.mark.parametrize(
    "host", ["", "*", "*.", "*.com", "com", "a.*.example", "127.0.0.1", "a b.example", "x.y:443"]
)
def test_a_host_that_would_allow_too_much_is_no_configuration(host: str) -> None:
    with pytest.raises(ValueError, match="neither a host name"):
        EndpointRules((host,))


@pytest.mark.parametrize(
    "origin",
    ["", "push.example.org", "https://push.example.org/x", "https://u@h.example", "ftp://h.example",
     "https://0x7f.1", "https://h.example?x", "https://h.example:0"],
)  # fmt: skip
def test_what_is_no_origin_is_not_trusted(origin: str) -> None:
    with pytest.raises(ValueError, match="not an origin"):
        EndpointRules((), (origin,))


_HOSTS: st.SearchStrategy[str] = st.sampled_from(
    ["fcm.googleapis.com", "web.push.apple.com", "127.0.0.1", "[::1]", "evil.example", ""]
)
_NOISE = st.text("abc./:@#?\\%[]&=~!$'()*+,;-_AZ09 \t\u3002\u00e9", max_size=12)


@settings(deadline=None)
@given(
    st.sampled_from(["https://", "http://", "HTTPS://", "https:", "https:\\\\"]),
    _NOISE,
    _HOSTS,
    _NOISE,
    _HOSTS,
    _NOISE,
)
def test_what_is_accepted_reads_the_same_to_the_http_client(
    scheme: str, a: str, host: str, b: str, other: str, c: str
) -> None:
    accepted = RULES.check(scheme + a + host + b + other + c)

    if isinstance(accepted, Endpoint):
        url = URL(accepted.url, encoded=True)
        assert accepted.host in ("fcm.googleapis.com", "web.push.apple.com") or accepted.trusted
        assert (url.scheme, url.raw_host) == (accepted.scheme, accepted.host)
        assert url.port == accepted.port == 443
        assert url.raw_path_qs == accepted.target
        assert url.raw_user is None
        assert url.raw_fragment == ""


# Subscriptions


def subscription(**changes: object) -> dict[str, object]:
    p256dh, auth = key_pair()
    return {
        "endpoint": "https://fcm.googleapis.com/wp/x",
        "expirationTime": None,
        "keys": {"p256dh": p256dh, "auth": auth},
        **changes,
    }


def test_a_subscription_of_a_browser_is_active() -> None:
    active = RULES.check_subscription(subscription(expirationTime=1.8e12))

    assert isinstance(active, Subscription)
    assert active.endpoint.url == "https://fcm.googleapis.com/wp/x"
    assert active.expires == 1.8e9


@pytest.mark.parametrize("value", [None, "soon", True, -1, 0, float("nan"), float("inf"), 10**400])
def test_a_strange_expiration_time_is_ignored(value: object) -> None:
    active = RULES.check_subscription(subscription(expirationTime=value))

    assert isinstance(active, Subscription)
    assert active.expires is None


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (None, ""),
        ("https://fcm.googleapis.com/wp/x", ""),
        ([subscription()], ""),
        (7, ""),
        ({}, "endpoint"),
        ({"endpoint": None}, "endpoint"),
        ({"endpoint": 7}, "endpoint"),
        ({"endpoint": ""}, "endpoint"),
        ({"endpoint": ["https://fcm.googleapis.com/wp/x"]}, "endpoint"),
    ],
)
def test_what_is_no_subscription_names_the_field(value: object, path: str) -> None:
    refused = RULES.check_subscription(value)

    assert isinstance(refused, NoSubscription)
    assert refused.path == path


@pytest.mark.parametrize(
    "value",
    [
        {"endpoint": "test"},
        {"endpoint": "https://fcm.googleapis.com/wp/x"},
        subscription(keys=None),
        subscription(keys=[]),
        subscription(keys={"p256dh": 1, "auth": None}),
        subscription(endpoint="https://evil.example/x"),
        subscription(endpoint="http://fcm.googleapis.com/wp/x"),
    ],
)
def test_what_can_never_be_delivered_is_kept_with_a_reason(value: dict[str, object]) -> None:
    inactive = RULES.check_subscription(value)

    assert isinstance(inactive, Undeliverable)
    assert inactive.endpoint == value["endpoint"]
    assert inactive.reason


def test_what_is_kept_of_a_refused_endpoint_can_be_stored() -> None:
    inactive = RULES.check_subscription({"endpoint": "x\x00\ud800\n" + "y" * 9999})

    assert isinstance(inactive, Undeliverable)
    assert len(inactive.endpoint) == MAX_ENDPOINT
    assert inactive.endpoint.startswith("x\ufffd\ufffd\ufffdy")


# Addresses


NOT_PUBLIC = """
127.0.0.1 127.255.255.254 0.0.0.0 0.1.2.3 10.0.0.1 172.16.0.1 192.168.1.1 100.64.0.1
100.100.100.200 169.254.169.254 192.0.0.9 192.0.0.192 192.88.99.1 198.18.0.1 192.0.2.1
203.0.113.1 224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255 168.63.129.16
:: ::1 ::ffff:8.8.8.8 ::ffff:127.0.0.1 ::8.8.8.8 ::127.0.0.1 64:ff9b::8.8.8.8 64:ff9b::7f00:1
64:ff9b:1::1 100::1 2001::1 2001:db8::1 2002:7f00:1:: 2002:808:808:: 3fff::1 4000::1 5f00::1
fc00::1 fd00::1 fd00:ec2::254 fe80::1 fe80::1%eth0 fec0::1 ff02::1 ff0e::1 2606:4700::1%1
localhost 0x7f.1 2130706433 1.2.3 01.2.3.4
"""


@pytest.mark.parametrize("address", [*NOT_PUBLIC.split(), ""])
def test_an_address_of_a_private_network_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "17.57.144.1", "2001:4860:4860::8888", "2620:149:a44::1"]
)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)
