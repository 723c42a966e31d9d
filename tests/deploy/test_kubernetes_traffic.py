"""Who reaches whom on Kubernetes, and how pods come and go."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
import yaml

from quotabell.config import net
from tests.deploy.kustomized import KUBERNETES, OVERLAYS, Resource, built, containers, identity, pod

overlays = pytest.mark.parametrize("overlay", OVERLAYS)


def one(overlay: str, kind: str, name: str = "quotabell") -> Resource:
    (found,) = [r for r in built(KUBERNETES / overlay) if identity(r) == (kind, name)]
    return found


@overlays
def test_probes_ask_where_the_daemon_listens(overlay: str) -> None:
    config = yaml.safe_load(one(overlay, "ConfigMap")["data"]["quotabell.yaml"])
    (daemon,) = (c for c in containers(one(overlay, "Deployment")) if c.get("args") == ["serve"])
    ports = {port["name"]: port["containerPort"] for port in daemon["ports"]}
    asked = {
        kind: daemon[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")
    }

    assert ports == {"http": net.parse_listen(config["listen"]).port}
    assert {probe["port"] for probe in asked.values()} == {"http"}
    # An outage of the database takes a pod out of the service, and must not kill it.
    assert {kind: probe["path"] for kind, probe in asked.items()} == {
        "startup": "/-/healthy",
        "liveness": "/-/healthy",
        "readiness": "/-/ready",
    }


@overlays
def test_a_pod_has_time_to_end(overlay: str) -> None:
    template = pod(one(overlay, "Deployment"))
    assert template is not None
    (daemon,) = template["spec"]["containers"]
    program, seconds = daemon["lifecycle"]["preStop"]["exec"]["command"]

    # What it has taken is committed or refused within 8 seconds, sends end within 10.
    assert program == "sleep"
    assert template["spec"]["terminationGracePeriodSeconds"] >= int(seconds) + 30


@overlays
def test_no_pod_runs_a_postgres_of_its_own(overlay: str) -> None:
    for text in (
        text for name, text in one(overlay, "ConfigMap")["data"].items() if name.endswith(".yaml")
    ):
        assert yaml.safe_load(text)["database"]["url_file"]


@overlays
def test_the_daemon_reaches_names_postgres_and_push_services_and_nothing_inside(
    overlay: str,
) -> None:
    policy = one(overlay, "NetworkPolicy")["spec"]
    allowed = {port["port"]: rule.get("to") for rule in policy["egress"] for port in rule["ports"]}

    assert set(allowed) == {53, 5432, 443}
    assert _outside(allowed[443], "142.250.1.188")
    assert _outside(allowed[443], "2a00:1450:4001::1")
    for inner in ("10.96.0.1", "192.168.1.1", "169.254.169.254", "fd00::1"):
        assert not _outside(allowed[443], inner), inner


def _outside(blocks: list[Any], address: str) -> bool:
    ip = ipaddress.ip_address(address)
    return any(
        ip in ipaddress.ip_network(block["ipBlock"]["cidr"])
        and not any(ip in ipaddress.ip_network(cut) for cut in block["ipBlock"]["except"])
        for block in blocks
        if ipaddress.ip_network(block["ipBlock"]["cidr"]).version == ip.version
    )


@overlays
def test_prometheus_and_programs_with_the_label_reach_the_daemon(overlay: str) -> None:
    (rule,) = one(overlay, "NetworkPolicy")["spec"]["ingress"]
    namespaces = [
        source["namespaceSelector"]["matchLabels"]
        for source in rule["from"]
        if "namespaceSelector" in source
    ]

    assert [port["port"] for port in rule["ports"]] == ["http"]
    assert {"kubernetes.io/metadata.name": "monitoring"} in namespaces
    assert {"quotabell": "allowed"} in namespaces


def test_the_pooler_is_reached_by_daemons_and_reaches_postgres() -> None:
    policy = one("replicas", "NetworkPolicy", "quotabell-pgbouncer")["spec"]
    template = pod(one("replicas", "Deployment"))
    assert template is not None
    ((source,),) = (rule["from"] for rule in policy["ingress"])

    assert source["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    assert {5432, 53} == {port["port"] for rule in policy["egress"] for port in rule["ports"]}


def test_a_rolling_update_never_has_fewer_replicas_than_asked_for() -> None:
    spec = one("replicas", "Deployment")["spec"]

    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
