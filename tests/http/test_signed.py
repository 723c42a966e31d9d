"""Signed tokens: which are taken, for whom, and what is said of the others."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from quotabell.config import Jwt
from quotabell.http import signed
from quotabell.http.caller import Caller, Unauthorized
from quotabell.http.signed import Signed
from tests.support.tokens import SECRET, assembled, claims, mac, signed_as, supabase

NOW = 2_000_000_000.0
RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEYS = [ec.generate_private_key(ec.SECP256R1()) for _ in range(3)]


def pem(private: Any) -> bytes:
    found: bytes = private.public_key().public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    )
    return found


def rules(**more: Any) -> Jwt:
    return Jwt.model_validate({"secret": SECRET} | more)


def by_keys(folder: Path, algorithm: str, *privates: Any) -> Signed:
    files = []
    for n, private in enumerate(privates):
        files.append(folder / f"{n}.pem")
        files[-1].write_bytes(pem(private))
    given = {"algorithm": algorithm, "public_key_files": [str(file) for file in files]}
    return Signed(Jwt.model_validate(given))


def ask(of: Signed, token: str) -> Caller:
    """As the gate does: first by what is remembered."""
    digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
    return of.known(digest) or of.identify(token, digest)


def refused(of: Signed, token: str) -> str:
    with pytest.raises(Unauthorized) as error:
        ask(of, token)
    assert not any(part and part in str(error.value) for part in token.split("."))
    return str(error.value)


# --- which are taken -----------------------------------------------------------------------


def test_a_token_of_supabase_stands_for_its_user_alone() -> None:
    user = "1c2d3e4f-0000-4000-8000-00000000000a"
    caller = ask(Signed(rules()), supabase(user))

    assert caller == Caller(f"jwt:{user}", frozenset({"ingest", "read", "push"}), user, "jwt")
    assert not caller.may("admin")
    assert not caller.may("metrics")
    assert caller.counted_as == "jwt"


def test_what_a_token_says_of_its_role_gives_it_nothing() -> None:
    token = supabase("mallory", role="service_role", scopes=["admin"], scope="admin")

    assert not ask(Signed(rules()), token).may("admin")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"exp": None}, "this token lacks the claim exp"),
        ({"exp": 1}, "this token has expired"),
        ({"exp": "tomorrow"}, "the claim exp of this token is no time"),
        ({"exp": True}, "the claim exp of this token is no time"),
        ({"exp": float("nan")}, "the claim exp of this token is no time"),
        ({"exp": float("inf")}, "the claim exp of this token is no time"),
        ({"exp": 10**400}, "the claim exp of this token is no time"),
        ({"nbf": time.time() + 3600}, "this token is not valid yet"),
        ({"nbf": "soon"}, "the claim nbf of this token is no time"),
        ({"aud": "anon"}, "this token is for another audience"),
        ({"aud": ["a", "b"]}, "this token is for another audience"),
        ({"aud": {"authenticated": 1}}, "this token is for another audience"),
        ({"aud": None}, "this token lacks the claim aud"),
        ({"sub": None}, "the claim sub of this token names no user"),
        ({"sub": ""}, "the claim sub of this token names no user"),
        ({"sub": " ada"}, "the claim sub of this token names no user"),
        ({"sub": 7}, "the claim sub of this token names no user"),
        ({"sub": ["ada"]}, "the claim sub of this token names no user"),
        ({"sub": "ada\x00"}, "the claim sub of this token names no user"),
        ({"sub": "ada\nbob"}, "the claim sub of this token names no user"),
        ({"sub": "a" * 201}, "the claim sub of this token names no user"),
        ({"sub": "\ud800"}, "the claim sub of this token names no user"),
    ],
)
def test_a_token_whose_claims_do_not_do_is_refused(more: dict[str, Any], said: str) -> None:
    assert refused(Signed(rules()), supabase("ada", **more)) == said


def test_the_longest_name_and_one_of_several_audiences_are_taken() -> None:
    of = Signed(rules())

    assert ask(of, supabase("a" * 200)).user == "a" * 200
    assert ask(of, supabase("ada", aud=["else", "authenticated"])).user == "ada"


def test_the_issuer_counts_if_one_is_configured() -> None:
    of = Signed(rules(issuer="https://project.example.com/auth/v1"))

    assert ask(of, supabase("ada")).user == "ada"
    assert refused(of, supabase("ada", iss="https://else.example")) == (
        "this token is of another issuer"
    )
    assert refused(of, supabase("ada", iss=None)) == "this token lacks the claim iss"


def test_another_claim_may_name_the_user() -> None:
    of = Signed(rules(user_claim="email"))

    assert ask(of, supabase("ada", sub=7)).user == "ada@example.com"
    assert refused(of, supabase("ada", email=None)) == "the claim email of this token names no user"


def test_no_two_users_share_a_source() -> None:
    """Sources are ``sender/source``, and a source may hold slashes itself."""
    assert f"{signed.sender('a/b')}/c" != f"{signed.sender('a')}/b/c"
    assert signed.sender("a/b") != signed.sender("a%2Fb")
    assert signed.sender("ada") == "jwt:ada"


# --- forgeries -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["none", "NONE", "nOnE", "", 7, ["HS256"]])
def test_a_token_without_a_signature_is_refused(name: Any, tmp_path: Path) -> None:
    token = assembled({"alg": name, "typ": "JWT"}, claims("ada"))

    for of in (Signed(rules()), by_keys(tmp_path, "RS256", RSA_KEY)):
        assert refused(of, token)
        assert refused(of, token + "AAAA")


def test_a_public_key_is_no_secret(tmp_path: Path) -> None:
    """The classic: HS256 with the text of the public key, which everybody has."""
    for private, algorithm in ((RSA_KEY, "RS256"), (EC_KEYS[0], "ES256")):
        token = signed_as({"alg": "HS256"}, claims("ada"), pem(private))

        said = refused(by_keys(tmp_path, algorithm, private), token)
        assert said == f"this token is not signed by {algorithm}"


def test_only_the_configured_algorithm_is_taken_of_the_same_key(tmp_path: Path) -> None:
    of = by_keys(tmp_path, "RS256", RSA_KEY)

    assert ask(of, jwt.encode(claims("ada"), RSA_KEY, "RS256")).user == "ada"
    for other in ("RS512", "PS256"):
        assert refused(of, jwt.encode(claims("ada"), RSA_KEY, other))
    stronger = jwt.encode(claims("ada"), SECRET + SECRET, "HS512")
    assert refused(Signed(rules(secret=SECRET + SECRET)), stronger)


def test_a_key_that_a_token_brings_along_is_not_believed(tmp_path: Path) -> None:
    mallory = EC_KEYS[2]
    own = jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256)
    brought = {
        "jwk": own.to_jwk(mallory.public_key(), as_dict=True),
        "jku": "http://127.0.0.1:1/keys",
        "x5u": "http://127.0.0.1:1/cert",
        "kid": "../../dev/null",
    }
    token = jwt.encode(claims("ada"), mallory, "ES256", headers=brought)

    assert refused(by_keys(tmp_path, "ES256", EC_KEYS[0]), token) == (
        "the signature of this token is wrong"
    )


def test_any_of_several_keys_may_have_signed(tmp_path: Path) -> None:
    of = by_keys(tmp_path, "ES256", *EC_KEYS[:2])

    for private in EC_KEYS[:2]:
        assert ask(of, jwt.encode(claims("ada"), private, "ES256")).user == "ada"
    assert refused(of, jwt.encode(claims("ada"), EC_KEYS[2], "ES256"))


def test_a_header_that_must_be_understood_and_is_not_refuses_the_token() -> None:
    of = Signed(rules())
    assert ask(of, signed_as({"alg": "HS256"}, claims("ada"))).user == "ada"
    for more in ({"crit": ["exp"]}, {"crit": ["x"], "x": 1}, {"b64": False, "crit": ["b64"]}):
        refused(of, signed_as({"alg": "HS256"} | more, claims("ada")))


def test_a_changed_token_is_refused() -> None:
    of, token = Signed(rules()), supabase("ada")
    head, _, mac = token.split(".")
    other = supabase("bob").split(".")[1]

    assert refused(of, f"{head}.{other}.{mac}") == "the signature of this token is wrong"
    assert refused(of, supabase("ada", secret=SECRET[::-1]))


def test_a_huge_token_is_not_looked_at() -> None:
    token = supabase("ada", padding="x" * signed.MAX_TOKEN)

    assert refused(Signed(rules()), token) == "this token is longer than 8192 characters"


@given(
    st.one_of(
        st.text(max_size=200),
        st.lists(st.text("AZaz09-_=", max_size=40), min_size=2, max_size=6).map(".".join),
        st.binary(max_size=200).map(lambda b: b.decode("utf-8", "surrogateescape")),
        st.tuples(
            st.dictionaries(
                st.sampled_from(["alg", "kid", "crit", "b64", "zip"]),
                st.one_of(
                    st.none(),
                    st.booleans(),
                    st.text(max_size=5),
                    st.lists(st.text(max_size=3)),
                    st.sampled_from(["HS256", "none", "RS256"]),
                ),
            ),
            st.one_of(st.none(), st.text(), st.lists(st.integers()), st.just(claims("ada"))),
            st.binary(max_size=40),
        ).map(lambda parts: assembled(*parts)),
    )
)
def test_garbage_is_unauthorized_and_nothing_else(token: str) -> None:
    of = Signed(rules())

    with pytest.raises(Unauthorized):
        ask(of, token)
    assert len(of) == 0


def test_a_payload_that_is_nested_without_end_is_unauthorized() -> None:
    unsigned = assembled({"alg": "HS256"}, {}).split(".")[0] + "." + "W1tb" * 1900
    signature = assembled({}, {}, mac(unsigned)).rpartition(".")[2]

    refused(Signed(rules()), f"{unsigned}.{signature}")


# --- what is remembered --------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Tokens whose signature was checked."""
    seen: list[str] = []
    decode: Callable[..., Any] = jwt.decode

    def noting(token: str, *args: Any, **more: Any) -> Any:
        seen.append(token)
        return decode(token, *args, **more)

    monkeypatch.setattr(signed.jwt, "decode", noting)
    return seen


def test_a_signature_is_checked_once_and_the_token_forgotten_when_it_expires(
    decoded: list[str],
) -> None:
    clock = Clock()
    of = Signed(rules(leeway="2s"), clock=clock)
    token = supabase("ada", exp=NOW + 60, nbf=NOW)

    for _ in range(3):
        assert ask(of, token).user == "ada"
    assert decoded == [token]
    clock.now += 61.9  # within the leeway
    assert ask(of, token).user == "ada"
    clock.now += 0.1
    assert refused(of, token) == "this token has expired"
    assert len(of) == 0


def test_a_token_of_the_future_is_taken_once_it_is_time() -> None:
    clock = Clock()
    of = Signed(rules(leeway="2s"), clock=clock)
    token = supabase("ada", exp=NOW + 60, nbf=NOW + 10)

    assert refused(of, token) == "this token is not valid yet"
    clock.now += 8
    assert ask(of, token).user == "ada"


def test_no_more_tokens_are_remembered_than_there_is_room_for(decoded: list[str]) -> None:
    of = Signed(rules(), remembered=2)
    ada, bob, eve = map(supabase, ("ada", "bob", "eve"))
    for token in (ada, bob, ada, eve):  # bob was not seen for longest
        ask(of, token)
    assert len(of) == 2

    decoded.clear()
    for token in (ada, eve):
        ask(of, token)
    assert decoded == []
    ask(of, bob)
    assert decoded == [bob]


def test_neither_tokens_nor_secrets_stay_where_they_could_be_shown() -> None:
    of, token = Signed(rules()), supabase("ada")
    caller = ask(of, token)

    for shown in (repr(of), repr(caller), repr(rules()), rules().model_dump_json()):
        assert SECRET not in shown
        assert token not in shown
    assert token not in repr(of._known)
