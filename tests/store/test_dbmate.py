"""The database's address in dbmate's words."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest

from quotabell.errors import MigrationFailed
from quotabell.store import dbmate
from quotabell.store.migrate import migrate
from tests.support.postgres import OWNER, Database


@pytest.mark.parametrize(
    ("dsn", "url"),
    [
        ("postgresql://me:pw@db/x", "postgres://me:pw@db:5432/x?sslmode=prefer"),
        ("postgres://db:6543/x", "postgres://@db:6543/x?sslmode=prefer"),
        ("postgres://db/x?sslmode=verify-full", "postgres://@db:5432/x?sslmode=verify-full"),
        ("postgres://a:7,b:7/x", "postgres://@a,b:7/x?sslmode=prefer"),
        ("postgres://a/x?port=7", "postgres://@a:5432/x?sslmode=prefer"),
        ("postgres://a:1/x?host=b&port=1", "postgres://@a:1/x?sslmode=prefer"),
        ("postgres:///x?host=b", "postgres://@b:5432/x?sslmode=prefer"),
        (
            "postgres://me@/x?host=/run/pg&port=7&sslmode=require",
            "postgres://me@localhost:7/x?sslmode=disable&host=%2Frun%2Fpg",
        ),
        (
            "postgres://%2Frun%2Fpg/x",
            "postgres://@localhost:5432/x?host=%2Frun%2Fpg&sslmode=disable",
        ),
        ("postgres://[::1]:7/x", "postgres://@localhost:7/x?sslmode=prefer&hostaddr=%3A%3A1"),
        (
            "postgres://me:a%40b c%2F@db/x?application_name=q",
            "postgres://me:a%40b%20c%2F@db:5432/x?application_name=q&sslmode=prefer",
        ),
    ],
)
def test_addresses_mean_the_same_to_dbmate(
    dsn: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PGHOST", "PGPORT", "PGSSLMODE"):
        monkeypatch.delenv(name, raising=False)
    assert dbmate.to_dbmate_url(dsn) == f"{url}&connect_timeout=10"


def test_the_environment_fills_in_what_an_address_leaves_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGHOST", "/run/pg")
    monkeypatch.setenv("PGPORT", "7")
    assert "@localhost:7/x?host=%2Frun%2Fpg&" in dbmate.to_dbmate_url("postgres:///x")
    monkeypatch.setenv("PGHOST", "db")
    monkeypatch.setenv("PGSSLMODE", "require")
    assert dbmate.to_dbmate_url("postgres:///x") == "postgres://@db:7/x?connect_timeout=10"


@pytest.mark.parametrize(
    ("dsn", "reason"),
    [
        ("mysql://db/x", "postgresql://"),
        ("postgres://a:1,b:2/x", "different ports"),
        ("postgres://a:b:c/x", "cannot be understood"),
    ],
)
def test_addresses_that_dbmate_could_not_use_are_refused(dsn: str, reason: str) -> None:
    with pytest.raises(MigrationFailed, match=reason):
        dbmate.to_dbmate_url(dsn)


async def test_every_form_of_address_reaches_the_same_database(
    empty_database: Database, tmp_path: Path
) -> None:
    cluster, name = empty_database.cluster, empty_database.name
    odd = quote("pass word/%:@#?&+ü", safe="")
    cluster.execute("create role odd login superuser password 'pass word/%:@#?&+ü'")
    try:
        addresses = [
            f"postgresql://{OWNER}@/{name}?host={cluster.root}&port={cluster.port}",
            f"postgres://{OWNER}@{quote(str(cluster.root), safe='')}:{cluster.port}/{name}",
            f"postgres:///{name}?host={cluster.root}&port={cluster.port}&user={OWNER}",
            empty_database.tcp_dsn,
            f"{empty_database.tcp_dsn}?sslmode=prefer",
            f"postgresql://odd:{odd}@127.0.0.1:{cluster.port}/{name}?application_name=x",
            f"postgresql://odd:{odd}@localhost:{cluster.port},127.0.0.1:{cluster.port}/{name}",
        ]
        for version, dsn in enumerate(addresses, start=1):
            file = f"{version}_one.sql"
            (tmp_path / file).write_text("-- migrate:up\nselect;\n-- migrate:down\n")
            assert (await migrate(dsn, tmp_path)).applied == [file]
    finally:
        cluster.execute("drop role odd")


@pytest.mark.parametrize(
    "dsn",
    [
        "postgres://me:s3cr3t%2F%20%40@db/x",
        "postgres://db/x?user=me&password=s3cr3t%2F+%40&sslmode=disable",
        "postgres://me:s3cr3t/ @db/x",
    ],
)
def test_every_form_of_a_password_is_blotted_out(dsn: str) -> None:
    for form in ("s3cr3t%2F%20%40", "s3cr3t/ @", dsn):
        assert "s3cr3t" not in dbmate.without_secrets(f"parse {form}: no", dsn)
    assert dbmate.without_secrets("me, db, x", dsn) == "me, db, x"
