"""``/``: the page. Static files that hold no data, so they are open to all who reach the daemon.

All of them are read once and have one version together. What the page is made of is fetched with
that version in its address, and so never twice; the rest is revalidated at every visit, so an
upgrade shows at the next one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from aiohttp import hdrs, web

from quotabell.http.auth import Caller
from quotabell.http.problem import NotFound
from quotabell.http.route import Answer, Handler, Route

FOLDER = Path(__file__).parent.parent / "web"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}
_AT_ROOT = {"/": "index.html", "/sw.js": "sw.js", "/manifest.webmanifest": "manifest.webmanifest"}
_SOURCES = ("script-src", "style-src", "connect-src", "img-src", "manifest-src", "worker-src")
_NOTHING = ("base-uri", "form-action", "frame-ancestors")
POLICY = "; ".join(
    [
        "default-src 'none'",
        *(f"{kind} 'self'" for kind in _SOURCES),
        *(f"{kind} 'none'" for kind in _NOTHING),
    ]
)
_REVALIDATED = "no-cache"
_KEPT = "public, max-age=31536000, immutable"
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class File:
    """A file of the page, ready to be sent."""

    content: bytes
    content_type: str
    etag: str


@dataclass(frozen=True, slots=True)
class Page:
    """The files by name, and the version of all of them."""

    files: Mapping[str, File]
    version: str


def routes(folder: Path = FOLDER) -> list[Route]:
    """The routes of the page: its parts under ``/web/``, what has a fixed place at the root."""
    page = load(folder)

    async def part(request: web.Request, caller: Caller) -> web.StreamResponse:
        file = page.files.get(request.match_info["name"])
        if file is None:
            raise NotFound("there is nothing at this path")
        # While replicas are upgraded one after the other, one is asked for another's version.
        kept = request.match_info.get("version") == page.version
        return _answer(request, file, _KEPT if kept else _REVALIDATED)

    def at_root(file: File) -> Handler:
        async def answer(request: web.Request, caller: Caller) -> web.StreamResponse:
            return _answer(request, file, _REVALIDATED)

        return answer

    return [
        *(_route(path, at_root(page.files[name])) for path, name in _AT_ROOT.items()),
        _route("/web/{name}", part),
        _route("/web/{version}/{name}", part),
    ]


def load(folder: Path) -> Page:
    """Read the files. The version is written into the page and its worker, and into the worker
    the list of the parts that it keeps for when the daemon cannot be reached."""
    content = {
        path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in TYPES
    }
    version = sha256(b"".join(sha256(one).digest() for one in content.values())).hexdigest()[:12]
    parts = sorted(content.keys() - set(_AT_ROOT.values()))
    shell = ", ".join(f'"{path}"' for path in ("/", *(f"/web/{version}/{name}" for name in parts)))
    content["sw.js"] = content["sw.js"].replace(b'"@SHELL@"', shell.encode())
    for name in ("index.html", "sw.js"):
        content[name] = content[name].replace(b"@VERSION@", version.encode())
    files = {
        name: File(one, TYPES[Path(name).suffix], sha256(one).hexdigest()[:32])
        for name, one in content.items()
    }
    return Page(files, version)


def _route(path: str, handler: Handler) -> Route:
    answers, visited = {200: Answer()}, path == "/"
    return Route(
        "GET", path, handler, None, "The page", answers=answers, described=False, visited=visited
    )


def _answer(request: web.Request, file: File, caching: str) -> web.Response:
    known = request.if_none_match or ()
    fresh = any(tag.value in (file.etag, "*") for tag in known)
    response = web.Response(status=304) if fresh else web.Response(body=file.content)
    response.headers.update(_HEADERS)
    response.headers[hdrs.CACHE_CONTROL] = caching
    response.etag = file.etag
    if not fresh:
        response.headers[hdrs.CONTENT_TYPE] = file.content_type
    return response
