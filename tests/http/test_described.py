"""``/openapi.json`` is true: what a daemon answers to what it describes, asked by Schemathesis.

`python -m tests.drills described` is the long form.
"""

from __future__ import annotations

from pathlib import Path

from tests.http.client import serving
from tests.http.people import TOKENS
from tests.support.daemon import configure
from tests.support.described import compare
from tests.support.postgres import Database


async def test_every_operation_answers_as_it_is_described(
    database: Database, tmp_path: Path
) -> None:
    config = configure(
        tmp_path, database.dsn, auth={"tokens": TOKENS, "failures_per_minute": 1_000_000}
    )
    async with serving(config) as client:
        paths = (await client.get("/openapi.json")).json["paths"]
        token = str(TOKENS[0]["token"])
        compared = await compare(client.url, token, tmp_path, examples=5, seed=1)

    assert compared.code == 0, compared.text
    operations = sum(map(len, paths.values())) - 1  # what describes them is left out
    assert f"Tested: {operations}\n" in compared.text, compared.text
