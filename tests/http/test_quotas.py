"""``/api/token-monitor/quotas``: what is configured, to each what concerns them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.http.client import serving
from tests.http.people import TOKENS, acting
from tests.support.daemon import configure

PATH = "/api/token-monitor/quotas"
QUOTAS: list[dict[str, Any]] = [
    {
        "name": "daily",
        "match": {"provider": "openai", "user": ["a*", "bob"]},
        "per": ["user"],
        "limit": 1000,
        "overrides": [
            {"match": {"user": "ada"}, "limit": 2000},
            {"match": {"user": "bob"}, "limit": 3000},
        ],
        "window": "day",
        "timezone": "Europe/Berlin",
        "weights": {"cache_read": 0.1},
        "thresholds": [80, 100],
    },
    {"name": "of-bob", "match": {"user": "bob"}, "limit": 7, "window": "5h"},
]


async def test_everybody_sees_the_quotas_that_are_about_them(dsn: str, tmp_path: Path) -> None:
    config = configure(tmp_path, dsn, auth={"tokens": TOKENS}, quotas=QUOTAS)
    async with serving(config) as client:
        reply = await acting(client, "ops").get(PATH)
        tag = {"If-None-Match": reply.headers["ETag"]}
        assert (await acting(client, "ops").get(PATH, headers=tag)).status == 304
        own = (await acting(client, "ada").get(PATH)).json["items"]
        other = (await acting(client, "bob").get(PATH)).json["items"]

    daily, of_bob = reply.json["items"]
    assert reply.json["nextCursor"] is None
    override = {"provider": ["*"], "model": ["*"]}
    assert {key: daily[key] for key in daily.keys() - {"weights"}} == {
        "name": "daily",
        "match": {"provider": ["openai"], "model": ["*"], "userId": ["a*", "bob"]},
        "per": ["userId"],
        "limit": 1000,
        "overrides": [
            {"match": override | {"userId": ["ada"]}, "limit": 2000},
            {"match": override | {"userId": ["bob"]}, "limit": 3000},
        ],
        "window": "day",
        "anchor": None,
        "timezone": "Europe/Berlin",
        "thresholds": [80, 100],
        "notify": ["owner", "operators"],
    }
    assert (daily["weights"]["cacheRead"], daily["weights"]["request"]) == (0.1, 0)
    assert (of_bob["name"], of_bob["thresholds"], of_bob["per"]) == ("of-bob", None, [])
    assert "bob" not in str(own)
    assert [quota["name"] for quota in own] == ["daily"]
    assert [quota["name"] for quota in other] == ["daily", "of-bob"]
    assert "ada" not in str(other)
