"""The database: the only package that knows asyncpg."""
