"""What kustomize makes of the shipped overlays: those few of its features that they use.

Read are resources, patches (strategic merges), configMapGenerator, images and namespace; any
other key is an error. Names of generated maps go without the hash that kustomize appends.
"""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.files import DEPLOY

KUBERNETES = DEPLOY / "kubernetes"
OVERLAYS = sorted(path.parent.name for path in KUBERNETES.glob("*/kustomization.yaml"))
OVERLAYS.remove("base")
Resource = dict[str, Any]
_KEYS = {"apiVersion", "kind", "namespace", "resources", "patches", "configMapGenerator", "images"}
_CLUSTER_WIDE = {"Namespace"}
# By what the items of a list are told apart (patchMergeKey of the API); other lists are replaced.
_MERGED_BY = {
    "containers": "name",
    "initContainers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "ports": "containerPort",
}
_HASH = re.compile(r"-[a-z0-9]{10}$")


def built(folder: Path) -> list[Resource]:
    """The resources of a kustomization, in no particular order."""
    said = yaml.safe_load((folder / "kustomization.yaml").read_text("utf-8"))
    assert set(said) <= _KEYS, folder
    found: list[Resource] = []
    for name in said["resources"]:
        path = folder / name
        found += built(path) if path.is_dir() else _documents(path)
    for patch in said.get("patches", []):
        assert set(patch) == {"path"}
        for document in _documents(folder / patch["path"]):
            (index,) = [i for i, one in enumerate(found) if identity(one) == identity(document)]
            found[index] = merged(found[index], document)
    found += [_map(folder, **asked) for asked in said.get("configMapGenerator", [])]
    for one in found:
        for image in said.get("images", []):
            _name_image(one, image)
        if "namespace" in said and one["kind"] not in _CLUSTER_WIDE:
            one["metadata"]["namespace"] = said["namespace"]
    assert len({identity(one) for one in found}) == len(found)
    return found


def identity(resource: Resource) -> tuple[str, str]:
    """Kind and name."""
    return resource["kind"], resource["metadata"]["name"]


def merged(old: Any, new: Any, key: str = "") -> Any:
    """``old`` with what a strategic merge patch says of it, which stays as they are."""
    if isinstance(old, dict) and isinstance(new, dict):
        assert not [k for k in new if k.startswith("$")], "a directive"
        result = copy.deepcopy(old)
        for name, value in new.items():
            result[name] = merged(old[name], value, name) if name in old else copy.deepcopy(value)
        return result
    if isinstance(old, list) and isinstance(new, list) and key in _MERGED_BY:
        by = _MERGED_BY[key]
        items = {item[by]: item for item in old}
        patched = {item[by]: merged(items.get(item[by], {}), item) for item in new}
        return list({**items, **patched}.values())
    return copy.deepcopy(new)


def _documents(path: Path) -> list[Resource]:
    return [document for document in yaml.safe_load_all(path.read_text("utf-8")) if document]


def _map(folder: Path, name: str, files: list[str]) -> Resource:
    data = {file: (folder / file).read_text("utf-8") for file in files}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def _name_image(resource: Resource, image: dict[str, str]) -> None:
    for container in containers(resource):
        if container["image"] == image["name"]:
            container["image"] = f"{image['newName']}:{image['newTag']}"


def pod(resource: Resource) -> Resource | None:
    """What it makes pods of, if it does."""
    spec = resource.get("spec", {})
    template = spec.get("jobTemplate", {}).get("spec", spec).get("template")
    return template if isinstance(template, dict) else None


def containers(resource: Resource) -> Iterator[Resource]:
    """Of its pods, those that come first too."""
    found = pod(resource)
    if found is not None:
        yield from found["spec"].get("initContainers", [])
        yield from found["spec"]["containers"]


def by_kustomize(folder: Path) -> list[Resource] | None:
    """What the real one says, without the hashes; None if there is none."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        return None
    command = [kubectl, "kustomize", folder]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    found = [document for document in yaml.safe_load_all(run.stdout) if document]
    for one in found:
        if one["kind"] == "ConfigMap" and "labels" not in one["metadata"]:
            one["metadata"]["name"] = _HASH.sub("", one["metadata"]["name"])
        for volume in (pod(one) or {"spec": {}})["spec"].get("volumes", []):
            if "configMap" in volume:
                volume["configMap"]["name"] = _HASH.sub("", volume["configMap"]["name"])
    return found
