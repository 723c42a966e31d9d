"""``/openapi.json``: made from the routes, complete, and true."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from aiohttp import web
from pydantic import TypeAdapter, create_model

from quotabell import __version__
from quotabell.http import openapi, routing
from quotabell.http.auth import SCOPES, Caller, Gate
from quotabell.http.problem import Problem
from quotabell.http.route import Answer, Route
from quotabell.log import configure
from tests.http.client import STATUS, UPDATE, Client, snapshot

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROBLEMS = "#/components/responses/"
METHODS = {"get", "post", "put", "patch", "delete"}
BODILESS = {"/-/reload", "/api/token-monitor/alerts/{id}/ack"}
UNDESCRIBED = ("/api/push/",)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def document(client: Client) -> dict[str, Any]:
    reply = await client.get("/openapi.json")
    assert reply.headers["Content-Type"].startswith("application/json")
    found: dict[str, Any] = reply.json
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method, path, operation


async def test_it_is_an_openapi_document(document: dict[str, Any]):
    assert document["openapi"].startswith("3.1.")
    assert document["info"]["title"] == "Quotabell"
    assert document["info"]["version"] == __version__
    for method, path, operation in operations(document):
        assert path.startswith("/")
        assert method in METHODS
        assert operation["summary"]
        assert all(re.fullmatch(r"[1-5]\d\d", status) for status in operation["responses"])
        assert any(status.startswith("2") for status in operation["responses"])
        for scheme in operation["security"]:
            assert scheme.keys() <= document["components"]["securitySchemes"].keys()
            assert set(scheme["token"]) <= SCOPES
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(names)) == len(names)


async def test_every_reference_leads_somewhere_and_nothing_is_left_over(document: dict[str, Any]):
    used = set()

    def follow(node: object) -> None:
        if isinstance(node, list):
            for item in node:
                follow(item)
        if isinstance(node, dict):
            if reference := node.get("$ref"):
                target: Any = document
                for step in reference.removeprefix("#/").split("/"):
                    target = target[step]
                if reference not in used:
                    used.add(reference)
                    follow(target)
            for value in node.values():
                follow(value)

    follow(document["paths"])
    for kind in ("schemas", "responses"):
        offered = {f"#/components/{kind}/{name}" for name in document["components"][kind]}
        assert kind == "responses" or offered <= used


async def test_parameters_of_paths_are_described(document: dict[str, Any]):
    for _, path, operation in operations(document):
        described = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
        assert described == set(re.findall(r"{(\w+)}", path))


async def test_what_takes_a_body_says_so_and_how_it_can_be_wrong(document: dict[str, Any]):
    update = document["paths"][UPDATE]["post"]
    alone, several = update["requestBody"]["content"]["application/json"]["schema"]["anyOf"]
    body = document["components"]["schemas"][alone["$ref"].rpartition("/")[2]]

    assert several == {"type": "array", "items": alone, "minItems": 1}
    assert set(body["required"]) == {"provider", "model", "tokensUsed", "tokenLimit"}
    assert body["properties"].keys() - set(body["required"]) == {"userId", "timestamp"}
    assert body["properties"]["tokensUsed"]["maximum"] == 2**63 - 1
    assert update["responses"].keys() == {
        *("200", "400", "401", "403", "413", "414", "415", "422", "429", "431", "503"),
    }
    for status in update["responses"].keys() - {"200"}:
        assert update["responses"][status]["$ref"].startswith(PROBLEMS)


async def test_every_route_says_what_it_takes_and_gives(document: dict[str, Any]):
    for method, path, operation in operations(document):
        if path.startswith(UNDESCRIBED):
            continue
        takes = method in {"post", "put", "patch"} and path not in BODILESS
        assert ("requestBody" in operation) == takes, path
        for status, response in operation["responses"].items():
            assert status in ("204", "304") or "$ref" in response or "content" in response, path


async def test_problems_are_described_as_they_are(client: Client, document: dict[str, Any]):
    for name, response in document["components"]["responses"].items():
        unread = name in ("AddressTooLong", "HeadTooLarge")
        assert ("text/plain" if unread else "application/problem+json") in response["content"]
    found = (await client.update([{}, snapshot(tokensUsed=-1)])).problem(422)

    schema = document["components"]["schemas"]
    assert found.keys() <= schema["Problem"]["properties"].keys()
    assert set(schema["Problem"]["required"]) <= found.keys()
    assert found["errors"][0].keys() <= schema["Fault"]["properties"].keys()
    msgspec.json.decode(msgspec.json.encode(found), type=Problem)


async def test_answers_are_described_as_they_are(client: Client, document: dict[str, Any]):
    def shape(path: str, method: str) -> dict[str, Any]:
        content = document["paths"][path][method]["responses"]["200"]["content"]
        name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
        found: dict[str, Any] = document["components"]["schemas"][name]
        return found

    status, update = (await client.get(STATUS)).json, (await client.update(snapshot())).json
    assert status.keys() == shape(STATUS, "get")["properties"].keys()
    assert update.keys() == shape(UPDATE, "post")["properties"].keys()
    shown = document["components"]["schemas"]["Shown"]
    assert update["data"].keys() == shown["properties"].keys() == set(shown["required"])


async def test_two_models_of_one_name_are_refused():
    async def handler(request: web.Request, caller: Caller) -> web.StreamResponse:
        raise NotImplementedError

    class Threshold(msgspec.Struct):
        a: int

    wire = create_model("Threshold", b=(int, ...))
    answers = {200: Answer("A", Threshold)}
    with pytest.raises(ValueError, match="Threshold"):
        openapi.document([Route("POST", "/a", handler, "read", "A", wire, answers)])


async def test_every_mounted_route_is_described():
    async def handler(request: web.Request, caller: Caller) -> web.StreamResponse:
        raise NotImplementedError

    class Body(msgspec.Struct):
        a: int

    class Reply(msgspec.Struct):
        b: str

    app = web.Application()
    routes = [
        Route("GET", "/a", handler, "read", "A", answers={200: Answer("A", Reply)}),
        Route("POST", "/a", handler, "admin", "B", request=dict[str, int], faults=(409,)),
        Route("DELETE", "/a/{id}", handler, None, "C", answers={204: Answer()}),
    ]
    gate = Gate([], open_metrics=False)
    routing.mount(app, routes, gate, routing.Draining(), configure().get_logger())
    mounted = app[routing.ROUTES]
    own = mounted[-1]
    answer = await own.handler(None, None)  # type: ignore[arg-type]
    assert isinstance(answer, web.Response)
    document = msgspec.json.decode(answer.body)  # type: ignore[arg-type]

    assert {(m, p) for m, p, _ in operations(document)} == {
        ("get", "/a"),
        ("post", "/a"),
        ("delete", "/a/{id}"),
        ("get", "/openapi.json"),
    }
    posted = document["paths"]["/a"]["post"]
    schema = TypeAdapter(dict[str, int]).json_schema()
    assert posted["requestBody"]["content"]["application/json"]["schema"] == schema
    assert posted["security"] == [{"token": ["admin"]}]
    assert posted["responses"].keys() == {
        *("200", "400", "401", "403", "409", "413", "414", "415", "422", "429", "431"),
    }
    assert document["paths"]["/a/{id}"]["delete"]["responses"].keys() == {
        *("204", "400", "403", "404", "414", "422", "431"),
    }
    reply = document["paths"]["/a"]["get"]["responses"]["200"]["content"]["application/json"]
    assert document["components"]["schemas"][reply["schema"]["$ref"].rpartition("/")[2]]
