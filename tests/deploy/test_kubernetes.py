"""The shipped overlays, against Kubernetes' own schemas and against each other."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml
from deploy.kubernetes.generator import written

from quotabell.cli import main
from quotabell.config import load
from tests.deploy.files import DASHBOARDS, RULES, dashboard
from tests.deploy.kustomized import (
    KUBERNETES,
    OVERLAYS,
    Resource,
    built,
    by_kustomize,
    containers,
    identity,
    merged,
    pod,
)
from tests.support.prometheus import program

VERSIONS = ("1.31", "1.37")
OPERATOR = "monitoring.coreos.com/"
URL = "postgresql://quotabell:password@{}:5432/quotabell"
# What the secret `quotabell` is to hold, as deploy/README.md says.
SECRETS = {
    "database-url": URL.format("postgres.example.com"),
    "pooler-url": URL.format("quotabell-pgbouncer"),
    **{name: f"{name}-token-of-the-test" for name in ("ingest", "metrics", "admin")},
    "push-key": "a-key-of-the-test",
}
# The keys that the custom resources may use, so that none is misspelt; None: anything.
ENDPOINT = dict.fromkeys(("port", "path", "interval"))
AUTHORIZATION = {"type": None, "credentials": {"name": None, "key": None}}
CUSTOM: dict[str, dict[str, Any]] = {
    "ServiceMonitor": {
        "selector": {"matchLabels": None},
        "endpoints": [{**ENDPOINT, "params": None, "authorization": AUTHORIZATION}],
    },
    "ScrapeConfig": {
        **dict.fromkeys(("metricsPath", "scrapeInterval", "params")),
        "authorization": AUTHORIZATION,
        "staticConfigs": [{"targets": None}],
    },
    "PrometheusRule": {"groups": [{"name": None, "interval": None, "rules": None}]},
}

overlays = pytest.mark.parametrize("overlay", OVERLAYS)


@cache
def resources(overlay: str) -> list[Resource]:
    return built(KUBERNETES / overlay)


def one(overlay: str, kind: str, name: str) -> Resource:
    (found,) = [r for r in resources(overlay) if identity(r) == (kind, name)]
    return found


def strange(given: Any, known: Any, path: str = "") -> Iterator[str]:
    """Keys that are not known, by their path."""
    if known is None:
        return
    if isinstance(known, list):
        for item in given:
            yield from strange(item, known[0], path)
        return
    for key, value in given.items():
        if key in known:
            yield from strange(value, known[key], f"{path}.{key}")
        else:
            yield f"{path}.{key}"


@overlays
@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_knows_every_field(overlay: str, version: str) -> None:
    core = [r for r in resources(overlay) if not r["apiVersion"].startswith(OPERATOR)]

    for resource in core:
        kubernetes_validate.validate(resource, version, strict=True)

    assert len(core) > 8


def test_a_field_that_kubernetes_does_not_know_is_found() -> None:
    wrong = merged(one("one", "Deployment", "quotabell"), {"spec": {"replica": 1}})

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


@overlays
def test_the_operator_of_prometheus_knows_every_field(overlay: str) -> None:
    custom = [r for r in resources(overlay) if r["apiVersion"].startswith(OPERATOR)]

    assert {r["kind"] for r in custom} == set(CUSTOM)
    for resource in custom:
        assert list(strange(resource["spec"], CUSTOM[resource["kind"]])) == []


@overlays
def test_kustomize_makes_the_same_of_it_where_there_is_one(overlay: str) -> None:
    real = by_kustomize(KUBERNETES / overlay)

    # Without it, it is at least what is read here that every other test is about.
    assert _sorted(resources(overlay)) == _sorted(real or resources(overlay))


def _sorted(found: list[Resource]) -> list[Resource]:
    return sorted(found, key=identity)


def test_rules_and_dashboards_are_those_that_are_shipped() -> None:
    for path, text in written().items():
        assert path.read_text("utf-8") == text, "python -m deploy.kubernetes.generator"
    groups = [g for path in RULES for g in yaml.safe_load(path.read_text("utf-8"))["groups"]]
    pages = one("one", "ConfigMap", "quotabell-dashboards")["data"]

    assert one("one", "PrometheusRule", "quotabell")["spec"]["groups"] == groups
    assert {name: json.loads(text) for name, text in pages.items()} == {
        f"quotabell-{name}.json": dashboard(name) for name in DASHBOARDS
    }


def test_promtool_finds_no_fault_with_the_rules(tmp_path: Path) -> None:
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump(one("one", "PrometheusRule", "quotabell")["spec"]))

    subprocess.run([program("promtool"), "check", "rules", "--lint-fatal", path], check=True)


@overlays
def test_pods_may_do_next_to_nothing(overlay: str) -> None:
    """As the standard `restricted` asks, which the namespace enforces, and read-only besides."""
    found = [container for r in resources(overlay) for container in containers(r)]
    specs = [template["spec"] for r in resources(overlay) if (template := pod(r))]

    assert len(found) >= len(specs) >= 2
    for spec in specs:
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
    for container in found:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert ":" in container["image"]
        assert {"requests", "limits"} == set(container["resources"])


@overlays
def test_what_is_referred_to_is_there(overlay: str) -> None:
    maps = {r["metadata"]["name"] for r in resources(overlay) if r["kind"] == "ConfigMap"}
    claims = {
        r["metadata"]["name"] for r in resources(overlay) if r["kind"] == "PersistentVolumeClaim"
    }
    templates = [template for r in resources(overlay) if (template := pod(r))]
    labels = [template["metadata"]["labels"] for template in templates]
    for template in templates:
        volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
        for volume in volumes.values():
            assert volume.get("configMap", {}).get("name") in {None, *maps}
            assert volume.get("persistentVolumeClaim", {}).get("claimName") in {None, *claims}
            items = volume.get("secret", {}).get("items", [])
            assert {item["key"] for item in items} <= set(SECRETS)
        for container in containers({"spec": {"template": template}}):
            assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes)
    for resource in resources(overlay):
        spec = resource.get("spec", {})
        if resource["kind"] in ("Deployment", "PodDisruptionBudget"):
            assert any(spec["selector"]["matchLabels"].items() <= of.items() for of in labels)
        if resource["kind"] == "NetworkPolicy":
            assert any(spec["podSelector"]["matchLabels"].items() <= of.items() for of in labels)
        if resource["kind"] == "Service":
            _leads_to_pods(spec, templates)


def _leads_to_pods(service: Resource, templates: list[Resource]) -> None:
    (chosen,) = [
        template
        for template in templates
        if service["selector"].items() <= template["metadata"]["labels"].items()
    ]
    named = {port["name"] for c in chosen["spec"]["containers"] for port in c.get("ports", [])}
    assert {port["targetPort"] for port in service["ports"]} <= named


@overlays
def test_usage_is_scraped_once_and_health_of_each(overlay: str) -> None:
    monitor = one(overlay, "ServiceMonitor", "quotabell")["spec"]
    usage = one(overlay, "ScrapeConfig", "quotabell-usage")["spec"]
    chosen = [
        r
        for r in resources(overlay)
        if r["kind"] == "Service"
        and monitor["selector"]["matchLabels"].items() <= r["metadata"]["labels"].items()
    ]
    (endpoint,) = monitor["endpoints"]
    ((target,),) = [config["targets"] for config in usage["staticConfigs"]]
    name, namespace = target.partition(":")[0].split(".")[:2]

    assert [r["metadata"]["name"] for r in chosen] == ["quotabell-replicas"]
    assert chosen[0]["spec"]["clusterIP"] == "None"
    assert endpoint["params"] == {"collect[]": ["health"]}
    assert usage["params"] == {"collect[]": ["usage"]}
    assert one(overlay, "Service", name)["metadata"]["namespace"] == namespace
    for scraped in (endpoint, usage):
        assert scraped["authorization"]["credentials"] == {"name": "quotabell", "key": "metrics"}


@overlays
@pytest.mark.parametrize("name", ["quotabell.yaml", "direct.yaml"])
def test_every_command_takes_its_configuration(overlay: str, name: str, tmp_path: Path) -> None:
    for secret, value in SECRETS.items():
        (tmp_path / secret).write_text(value)
    text = one(overlay, "ConfigMap", "quotabell")["data"][name]
    config = tmp_path / "config.yaml"
    config.write_text(text.replace("/run/secrets/quotabell", str(tmp_path)))

    loaded = load(config, {})  # all that `quotabell check-config` does

    assert [token.name for token in loaded.auth.tokens] == (
        [] if name == "direct.yaml" else ["apps", "prometheus", "ops"]
    )
    said = yaml.safe_load(text)["database"]
    pooled = (overlay, name) == ("replicas", "quotabell.yaml")
    assert said["url_file"].endswith("/pooler-url" if pooled else "/database-url")
    assert said.get("prepared_statements", True) is not pooled
    assert ("listen_url_file" in said) is pooled


def test_the_pooler_listens_where_it_is_looked_for() -> None:
    host = urlsplit(SECRETS["pooler-url"]).hostname
    assert host is not None
    service = one("replicas", "Service", host)["spec"]
    settings = one("replicas", "ConfigMap", "quotabell-pgbouncer")["data"]["pgbouncer.ini"]
    (container,) = containers(one("replicas", "Deployment", "quotabell-pgbouncer"))

    assert f"listen_port = {container['ports'][0]['containerPort']}\n" in settings
    assert service["ports"][0]["port"] == urlsplit(SECRETS["pooler-url"]).port
    assert "pool_mode = transaction\n" in settings
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    assert container["command"][1] == f"{mounts[0]}/pgbouncer.ini"
    assert f"auth_file = {mounts[1]}/userlist.txt\n" in settings


def test_commands_of_pods_are_commands_of_the_daemon() -> None:
    """Those that go without a shell."""
    given = [c["args"] for r in resources("replicas") for c in containers(r) if "args" in c]

    for arguments in given:
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--help"])
        assert ended.value.code == 0, arguments
    assert [arguments[0] for arguments in given] == ["migrate", "serve"]


def test_replicas_share_what_they_must_and_keep_the_rest_to_themselves() -> None:
    spec = one("replicas", "Deployment", "quotabell")["spec"]
    config = yaml.safe_load(one("replicas", "ConfigMap", "quotabell")["data"]["quotabell.yaml"])
    volumes = {volume["name"]: volume for volume in spec["template"]["spec"]["volumes"]}

    assert spec["replicas"] > 1
    assert config["push"]["key_files"] == ["/run/secrets/quotabell/push-key"]
    assert volumes["data"] == {"name": "data", "emptyDir": {}}
    assert one("replicas", "PodDisruptionBudget", "quotabell")["spec"]["maxUnavailable"] == 1
