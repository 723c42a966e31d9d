"""Fixtures: a fresh database for each test, dropped after it.

``dsn``        migrated, Postgres 18        ``empty_dsn``      not migrated, Postgres 18
``any_dsn``    migrated, once on each       ``any_empty_dsn``  not migrated, once on each

``database``, ``any_database``, ``empty_database`` and ``any_empty_database`` give the same as a
``Database``, which knows its cluster and the other ways to connect. ``hosted`` is an empty one
on each with the roles and default privileges of Supabase, ``original`` the same with the tables
and rows of the service that Quotabell succeeds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.postgres import DEBIAN_15, TEMPLATE, Cluster, Database, embedded_18

VERSIONS = ("18", "15")
HOSTED_ROLES = ("anon", "authenticated", "service_role", "reporting")
ORIGINAL = Path(__file__).parent.parent / "original"


@pytest.fixture(scope="session")
def postgres_18() -> Iterator[Cluster]:
    yield from _running("18", embedded_18())


@pytest.fixture(scope="session")
def postgres_15() -> Iterator[Cluster]:
    yield from _running("15", DEBIAN_15)


@pytest.fixture(scope="session", params=VERSIONS)
def any_postgres(request: pytest.FixtureRequest) -> Cluster:
    """The oldest and the newest server that are supported."""
    cluster: Cluster = request.getfixturevalue(f"postgres_{request.param}")
    return cluster


@pytest.fixture
def database(postgres_18: Cluster) -> Iterator[Database]:
    yield from fresh(postgres_18, TEMPLATE)


@pytest.fixture
def any_database(any_postgres: Cluster) -> Iterator[Database]:
    yield from fresh(any_postgres, TEMPLATE)


@pytest.fixture
def empty_database(postgres_18: Cluster) -> Iterator[Database]:
    yield from fresh(postgres_18)


@pytest.fixture
def any_empty_database(any_postgres: Cluster) -> Iterator[Database]:
    yield from fresh(any_postgres)


@pytest.fixture(scope="module")
def hosted_server(any_postgres: Cluster) -> Iterator[Cluster]:
    """The server with the roles of Supabase, and one of a user's own, while a module lasts.

    Not longer: what a migration grants depends on the roles that it finds.
    """
    any_postgres.execute(
        "create role anon noinherit; create role authenticated noinherit;"
        "create role service_role noinherit bypassrls; create role reporting"
    )
    try:
        yield any_postgres
    finally:
        any_postgres.execute(";".join(f"drop role {role}" for role in HOSTED_ROLES))


@pytest.fixture(scope="module")
def hosted_template(hosted_server: Cluster) -> Iterator[Database]:
    """An empty database of a Supabase project, to be cloned."""
    for database in fresh(hosted_server):
        database.load(ORIGINAL / "hosted.sql")
        yield database


@pytest.fixture(scope="module")
def original_template(hosted_server: Cluster, hosted_template: Database) -> Iterator[Database]:
    """The same with the older service's tables and rows."""
    for database in fresh(hosted_server, hosted_template.name):
        database.load(ORIGINAL / "schema.sql")
        database.load(ORIGINAL / "data.sql")
        yield database


@pytest.fixture
def hosted(hosted_template: Database) -> Iterator[Database]:
    yield from fresh(hosted_template.cluster, hosted_template.name)


@pytest.fixture
def original(original_template: Database) -> Iterator[Database]:
    yield from fresh(original_template.cluster, original_template.name)


@pytest.fixture
def dsn(database: Database) -> str:
    return database.dsn


@pytest.fixture
def any_dsn(any_database: Database) -> str:
    return any_database.dsn


@pytest.fixture
def empty_dsn(empty_database: Database) -> str:
    return empty_database.dsn


@pytest.fixture
def any_empty_dsn(any_empty_database: Database) -> str:
    return any_empty_database.dsn


def _running(name: str, programs: Path | None) -> Iterator[Cluster]:
    if programs is None or not (programs / "initdb").exists():
        missing = f"no programs of Postgres {name} on this machine"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    cluster = Cluster(name, programs)
    try:
        cluster.start()
        cluster.create_template()
        yield cluster
    finally:
        cluster.stop()


def fresh(cluster: Cluster, template: str | None = None) -> Iterator[Database]:
    """For fixtures: a database of its own, a clone of ``template``, dropped in the end."""
    database = cluster.create_database(template)
    try:
        yield database
    finally:
        cluster.drop_database(database.name)
