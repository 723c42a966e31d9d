"""Where the links of messages lead: to the page as people reach it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from quotabell.config import load
from quotabell.config.net import parse_external
from tests.channels.test_webhook import SECRETS
from tests.process.test_channels import report
from tests.support import daemon
from tests.support.postgres import Database
from tests.support.receiver import Receiver
from tests.support.waiting import eventually

PAGE = "https://quotabell.example.com"


@pytest.mark.parametrize("said", [PAGE, ""])
async def test_links_lead_to_the_external_url_or_to_where_the_daemon_listens(
    said: str, database: Database, tmp_path: Path
) -> None:
    async with Receiver() as receiver:
        at = receiver.origin
        path = daemon.write_config(
            tmp_path,
            database.dsn,
            external_url=said,
            channels=[
                {"name": "hook", "type": "webhook", "url": f"{at}/hook", "secret": SECRETS[0]},
                {"name": "am", "type": "alertmanager", "url": f"{at}/am"},
                {"name": "chat", "type": "apprise", "url": at.replace("http", "json") + "/chat"},
            ],
        )
        async with daemon.running(load(path, {})) as running:
            await report(running)
            await eventually(lambda: len({call.path for call in receiver.calls}) == 3)
        told = {call.path: json.loads(call.body) for call in receiver.calls}

    link = f"{said or 'http://127.0.0.1:0'}/?state="
    (alert,) = told["/am/api/v2/alerts"]
    assert alert["generatorURL"].startswith(link)
    assert told["/hook"]["data"]["url"] == alert["generatorURL"]
    for text in (
        alert["annotations"]["description"],
        told["/hook"]["data"]["text"],
        told["/chat"]["message"],
    ):
        assert alert["generatorURL"] in text


@pytest.mark.parametrize(
    "wrong", ["quotabell.example.com", f"{PAGE}/quotas", f"{PAGE}/?a", "ftp://a"]
)
def test_an_external_url_that_leads_elsewhere_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="without a path"):
        parse_external(wrong)


def test_a_slash_at_its_end_changes_nothing() -> None:
    assert parse_external(f"{PAGE}/") == PAGE
