"""The page's files: their types, their policy, how they are kept fresh, who gets them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from quotabell.http import page
from tests.http.client import Client, raw, serving
from tests.support.daemon import configure
from tests.support.postgres import Database

pytestmark = pytest.mark.asyncio(loop_scope="module")

FILES = ["/", "/sw.js", "/manifest.webmanifest", "/web/main.js", "/web/style.css", "/web/icon.svg"]
TYPES = {
    "/": "text/html; charset=utf-8",
    "/sw.js": "text/javascript; charset=utf-8",
    "/manifest.webmanifest": "application/manifest+json",
    "/web/main.js": "text/javascript; charset=utf-8",
    "/web/style.css": "text/css; charset=utf-8",
    "/web/icon.svg": "image/svg+xml",
    "/web/icon-192.png": "image/png",
}
SCRIPTS = sorted(page.FOLDER.glob("*.js"))
TEXTS = [*SCRIPTS, page.FOLDER / "index.html", page.FOLDER / "style.css"]


@pytest.mark.parametrize("path", TYPES)
async def test_each_file_has_its_type_and_the_strict_policy(client: Client, path: str) -> None:
    reply = await client.get(path)

    assert reply.status == 200
    assert reply.headers["Content-Type"] == TYPES[path]
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert reply.headers["Cache-Control"] == "no-cache"
    assert reply.headers["Content-Security-Policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self'; manifest-src 'self'; worker-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    )


@pytest.mark.parametrize("path", FILES)
async def test_what_has_not_changed_is_not_sent_again(client: Client, path: str) -> None:
    etag = (await client.get(path)).headers["ETag"]

    same = await client.get(path, headers={"If-None-Match": f'"other", {etag}'})
    changed = await client.get(path, headers={"If-None-Match": '"other"'})

    assert (same.status, same.body, same.headers["ETag"]) == (304, b"", etag)
    assert changed.status == 200
    assert changed.body


async def test_only_files_of_the_page_are_there(client: Client) -> None:
    for path in ("/web/none.js", "/web/", "/web/..%2fhttp%2fpage.py", "/web/%2e%2e/app.py"):
        (await client.get(path)).problem(404)
    (await client.post("/")).problem(405)


async def test_the_page_is_no_part_of_the_described_interface(client: Client) -> None:
    paths = (await client.get("/openapi.json")).json["paths"]

    assert not {path for path in paths if path == "/" or path.startswith(("/web", "/sw"))}


async def test_the_page_opens_without_a_token_and_shows_nothing_of_what_needs_one(
    shared_database: Database, tmp_path: Path
) -> None:
    tokens = [{"name": "ops", "token": "a-token-long-enough", "scopes": ["admin"]}]
    config = configure(tmp_path, shared_database.dsn, auth={"tokens": tokens})
    async with serving(config) as guarded:
        for path in FILES:
            assert (await guarded.get(path)).status == 200
        (await guarded.get("/api/token-monitor/usage")).problem(401)


async def test_a_foreign_name_for_this_machine_gets_no_page(client: Client) -> None:
    status, _ = await raw(
        client.url, b"GET / HTTP/1.1\r\nHost: rebound.example\r\nConnection: close\r\n\r\n"
    )

    assert status == 403


async def test_the_page_fetches_its_parts_by_their_version_and_so_only_once(client: Client) -> None:
    words = (await client.get("/")).body.decode()
    version = page.load(page.FOLDER).version

    for path in (f"/web/{version}/main.js", f"/web/{version}/style.css"):
        assert f'"{path}"' in words
        reply = await client.get(path)
        assert reply.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    other = await client.get("/web/0123456789ab/main.js")
    assert (other.status, other.headers["Cache-Control"]) == (200, "no-cache")


async def test_all_modules_are_asked_for_at_once() -> None:
    words = (page.FOLDER / "index.html").read_text("utf-8")
    preloaded = set(re.findall(r'modulepreload" href="/web/@VERSION@/(\S+)"', words))

    assert preloaded == {path.name for path in SCRIPTS} - {"boot.js", "main.js", "sw.js"}


async def test_a_change_of_any_file_is_a_new_version_in_page_and_worker(tmp_path: Path) -> None:
    before = page.load(page.FOLDER)
    shutil.copytree(page.FOLDER, tmp_path / "web")
    (tmp_path / "web" / "style.css").write_text("changed")
    after = page.load(tmp_path / "web")

    assert re.fullmatch("[0-9a-f]{12}", before.version)
    assert after.version != before.version
    assert after.files["main.js"] == before.files["main.js"]
    for name in ("index.html", "sw.js"):
        assert after.files[name].etag != before.files[name].etag
        assert after.version in after.files[name].content.decode()
        assert b"@" not in re.sub(rb"/\* .*? \*/", b"", after.files[name].content)


async def test_the_worker_keeps_every_part_of_the_page() -> None:
    loaded = page.load(page.FOLDER)
    kept = re.search(r"SHELL = \[(.*)\]", loaded.files["sw.js"].content.decode())

    assert kept is not None
    parts = loaded.files.keys() - {"index.html", "sw.js", "manifest.webmanifest"}
    assert kept[1].split(", ") == [
        '"/"',
        *(f'"/web/{loaded.version}/{name}"' for name in sorted(parts)),
    ]


async def test_each_reference_between_the_files_leads_to_one() -> None:
    files = page.load(page.FOLDER).files
    for text in TEXTS:
        words = text.read_text("utf-8")
        for found in re.findall(r'from "\./([^"]+)"|"/web/(?:@VERSION@/)?([^"@]+)"', words):
            assert max(found) in files, (text.name, found)


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
async def test_no_file_needs_what_the_policy_forbids(path: Path) -> None:
    """No markup from text, no inline script or style, no other host."""
    words = path.read_text("utf-8")

    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", words)
    assert not re.search(r"\sstyle=|<style|\son\w+=\"|<script(?! [^>]*src=)", words)
    assert set(re.findall(r"https?://[^\s\"'`)]+", words)) <= {"http://www.w3.org/2000/svg"}
