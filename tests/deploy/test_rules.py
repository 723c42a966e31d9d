"""The shipped rules and scrape configurations, as promtool and their readers see them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.deploy.files import (
    CONFIGURATIONS,
    DASHBOARDS,
    DEPLOY,
    PROMETHEUS,
    RULES,
    alerts,
    dashboard,
    expressions,
    names_in,
    rules,
)
from tests.support.prometheus import program

CASES = sorted((PROMETHEUS / "tests").glob("*.yml"))
SEVERITIES = {"critical", "warning"}
README = (DEPLOY / "README.md").read_text("utf-8")


def promtool(*arguments: str | Path) -> str:
    """What it says; AssertionError if it finds fault."""
    command = [program("promtool"), *arguments]
    run = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_promtool_finds_no_fault_with_the_rules() -> None:
    said = promtool("check", "rules", "--lint-fatal", *RULES)

    assert said.count("SUCCESS") == len(RULES) > 0


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.name)
def test_promtool_finds_no_fault_with_the_configurations_and_all_they_load(
    path: Path, tmp_path: Path
) -> None:
    """Where they are, with the token that they name."""
    token = tmp_path / "token"
    token.write_text("a-token-of-the-test")
    (tmp_path / "rules").symlink_to(PROMETHEUS / "rules")
    named = path.read_text("utf-8").replace("/etc/prometheus/quotabell.token", str(token))
    copied = tmp_path / path.name
    copied.write_text(named)

    said = promtool("check", "config", "--lint-fatal", copied)

    assert str(token) in named
    assert said.count("rules found") == len(RULES)


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_each_alert_fires_at_its_level_and_not_below(path: Path) -> None:
    promtool("test", "rules", path)


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    fires: dict[bool, set[str]] = {True: set(), False: set()}
    for path in CASES:
        for test in yaml.safe_load(path.read_text("utf-8"))["tests"]:
            for case in test["alert_rule_test"]:
                fires[bool(case["exp_alerts"])].add(case["alertname"])

    assert fires[True] == fires[False] == set(alerts())


@pytest.mark.parametrize("name", alerts())
def test_every_alert_says_how_bad_it_is_and_leads_to_its_runbook(name: str) -> None:
    rule = alerts()[name]
    anchor = name.lower()
    runbook = README.partition(f"### {name}\n")[2].partition("\n### ")[0]

    assert set(rule["labels"]) == {"severity"}
    assert rule["labels"]["severity"] in SEVERITIES
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"deploy/README.md#{anchor}"
    assert re.findall(r"^\*\*(.*?)\.\*\*", runbook, re.MULTILINE) == [
        "What it means",
        "How to check",
        "What to do",
    ]
    assert not rule["annotations"]["summary"].endswith(".")
    assert rule["annotations"]["description"].endswith(".")


def test_every_runbook_has_its_alert_and_every_link_its_target() -> None:
    headings = re.findall(r"^#+ (.*)$", README, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    links = re.findall(r"\]\(([^)]+)\)", README)

    assert {h for h in headings if h.startswith("Quotabell")} == set(alerts())
    for link in links:
        assert link[1:] in anchors if link.startswith("#") else (DEPLOY / link).exists(), link


def test_what_rules_read_of_rules_is_recorded_and_dashboards_work_without_them() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    read = {n for rule in rules() for n in names_in(rule["expr"]) if ":" in n}
    shown = {n for page in DASHBOARDS for e in expressions(dashboard(page)) for n in names_in(e)}

    assert read <= recorded
    assert {name for name in shown if ":" in name} == set()


def test_no_shipped_file_names_a_host_of_anybody() -> None:
    """Names to be replaced stand for themselves: without a dot, or reserved for examples."""
    found = {
        host
        for path in DEPLOY.rglob("*")
        if path.suffix in {".yml", ".json", ".md"}
        for host in re.findall(r"https?://([\w.-]+)", path.read_text("utf-8"))
    }

    assert found <= {"wiki.example.com", "127.0.0.1"}
