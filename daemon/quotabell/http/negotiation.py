"""Which of the forms that it has an answer takes, as a request's headers ask (RFC 9110 §12.5)."""

from __future__ import annotations

import re

_WEIGHT = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?")
_OPENMETRICS = "application/openmetrics-text"
_PLAIN = ("text/plain", "text/*", "*/*")

Choice = tuple[str, dict[str, str]]


def takes_gzip(accept_encoding: str) -> bool:
    """Whether Accept-Encoding names gzip, or everything, without a weight of 0."""
    weights = {name: _weight(more) for name, more in _choices(accept_encoding)}
    return weights.get("gzip", weights.get("*", 0.0)) > 0


def wants_openmetrics(accept: str) -> bool:
    """Whether Accept prefers OpenMetrics 1.0 to the text format; as Prometheus does."""
    plain = openmetrics = 0.0
    for name, more in _choices(accept):
        if name == _OPENMETRICS and more.get("version", "1.0.0") == "1.0.0":
            openmetrics = max(openmetrics, _weight(more))
        elif name in _PLAIN and more.get("version", "0.0.4") == "0.0.4":
            plain = max(plain, _weight(more))
    return openmetrics > 0 and openmetrics >= plain


def _choices(header: str) -> list[Choice]:
    found = []
    for choice in header.lower().split(","):
        name, *parameters = (part.strip() for part in choice.split(";"))
        pairs = (parameter.partition("=") for parameter in parameters)
        found.append((name, {key.strip(): value.strip(' "') for key, _, value in pairs}))
    return found


def _weight(parameters: dict[str, str]) -> float:
    """The weight of a choice; of one that is none, 0."""
    weight = parameters.get("q", "1")
    return float(weight) if _WEIGHT.fullmatch(weight) else 0.0
