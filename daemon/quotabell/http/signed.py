"""Signed tokens (RFC 7519): whose they are, checked once and remembered until they expire.

The configuration alone says by which algorithm and key a signature is checked. What a token's
header says of keys (``jku``, ``jwk``, ``x5u``, ``kid``) is never followed, and a header that
names another algorithm is refused (RFC 8725 §3.1).
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import jwt

from quotabell.config import Jwt
from quotabell.http.caller import Caller, Unauthorized

MAX_TOKEN = 8 * 1024  # characters
REMEMBERED = 10_000  # tokens
_USER_MAX = 200  # characters
_OPTIONS: Any = {
    "enforce_minimum_key_length": True,
    **dict.fromkeys(("verify_exp", "verify_nbf", "verify_iat"), False),  # by `Signed`'s clock
    **dict.fromkeys(("verify_sub", "verify_jti"), False),  # the user claim may be another one
}


class _Known(NamedTuple):
    caller: Caller
    until: float  # seconds since the epoch


class Signed:
    """Knows callers by signed tokens of one issuer. Remembers digests, never a token.

    ``clock`` gives seconds since the epoch. A token that was taken once costs a look-up until
    it expires; who has not been seen for longest is forgotten first.
    """

    def __init__(
        self, rules: Jwt, *, clock: Callable[[], float] = time.time, remembered: int = REMEMBERED
    ) -> None:
        self._algorithm = rules.algorithm
        self._keys: list[Any] = [public.key for public in rules.public_key_files]
        if rules.algorithm.startswith("HS"):
            self._keys = [rules.secret.get_secret_value().encode()]
        self._audience = rules.audience
        self._issuer = rules.issuer
        self._claim = rules.user_claim
        self._scopes = frozenset[str](rules.scopes)
        self._leeway = rules.leeway.total_seconds()
        self._clock = clock
        self._remembered = remembered
        self._known: OrderedDict[bytes, _Known] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def known(self, digest: bytes) -> Caller | None:
        """The caller whose token has this digest, if it was taken before and is still good."""
        found = self._known.get(digest)
        if found is None:
            return None
        if self._clock() >= found.until:
            del self._known[digest]
            return None
        self._known.move_to_end(digest)
        return found.caller

    def identify(self, token: str, digest: bytes) -> Caller:
        """The caller that a token speaks for; raises Unauthorized, which never quotes it."""
        if len(token) > MAX_TOKEN:
            raise Unauthorized(f"this token is longer than {MAX_TOKEN} characters")
        claims = self._claims(token)
        until = self._until(claims)
        user = claims.get(self._claim)
        if not isinstance(user, str) or not _is_user(user):
            raise Unauthorized(f"the claim {self._claim} of this token names no user")
        caller = Caller(sender(user), self._scopes, user, "jwt")
        self._known[digest] = _Known(caller, until)
        while len(self._known) > self._remembered:
            self._known.popitem(last=False)
        return caller

    def _claims(self, token: str) -> dict[str, Any]:
        """What a token with a right signature, audience and issuer says."""
        for key in self._keys:
            try:
                return jwt.decode(
                    token,
                    key,
                    algorithms=[self._algorithm],
                    audience=self._audience,
                    issuer=self._issuer,
                    options=_OPTIONS,
                )
            except jwt.InvalidSignatureError:
                continue
            except jwt.InvalidAlgorithmError:
                raise Unauthorized(f"this token is not signed by {self._algorithm}") from None
            except jwt.InvalidAudienceError:
                raise Unauthorized("this token is for another audience") from None
            except jwt.InvalidIssuerError:
                raise Unauthorized("this token is of another issuer") from None
            except jwt.MissingRequiredClaimError as error:
                raise Unauthorized(f"this token lacks the claim {error.claim}") from None
            except (jwt.PyJWTError, ValueError, RecursionError):
                raise Unauthorized("this token is no readable JWT") from None
        raise Unauthorized("the signature of this token is wrong")

    def _until(self, claims: dict[str, Any]) -> float:
        """Until when it is good; raises Unauthorized outside of the time it is made for."""
        now = self._clock()
        if "exp" not in claims:
            raise Unauthorized("this token lacks the claim exp")
        until = _moment(claims, "exp") + self._leeway
        if now >= until:
            raise Unauthorized("this token has expired")
        if "nbf" in claims and now < _moment(claims, "nbf") - self._leeway:
            raise Unauthorized("this token is not valid yet")
        return until


def sender(user: str) -> str:
    """The sender's name of a user. A slash is escaped, since one ends a sender's name in sources:
    ``a/b`` with the source ``c`` must not be ``a`` with ``b/c``."""
    return "jwt:" + user.replace("%", "%25").replace("/", "%2F")


def _moment(claims: dict[str, Any], name: str) -> float:
    """A NumericDate (RFC 7519 §2)."""
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e15:
        raise Unauthorized(f"the claim {name} of this token is no time")
    return float(value)


def _is_user(text: str) -> bool:
    """Whether somebody may be called that, by the rule for users of configured tokens."""
    return 1 <= len(text) <= _USER_MAX and text.isprintable() and text == text.strip()
