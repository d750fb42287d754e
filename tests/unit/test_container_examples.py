"""The files of docs/examples/containers are what their readers can use: forms, options, commands."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from nearfs.containers.naming import parse

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "examples" / "containers"
PAGE = FOLDER.parents[1] / "containers.md"


def documents(name: str) -> list[Any]:
    return [document for document in yaml.safe_load_all((FOLDER / name).read_text("utf-8")) if document is not None]


def test_the_page_names_every_file() -> None:
    linked = set(re.findall(r"\]\(examples/containers/([^)]+)\)", PAGE.read_text("utf-8")))
    assert linked == {path.name for path in FOLDER.iterdir()}


def test_volumes_of_the_compose_file_are_volumes_of_the_driver() -> None:
    (compose,) = documents("compose.yaml")
    described = {name: parse(name, volume["driver_opts"]) for name, volume in compose["volumes"].items()}
    assert {name: volume.described() for name, volume in described.items()} == {
        "tagged": "myapps.example.com at tag trunk-previous",
        "newest": "myapps.example.com",
    }
    assert {volume["driver"] for volume in compose["volumes"].values()} == {"cvmfs"}
    used = [mount for service in compose["services"].values() for mount in service["volumes"]]
    assert {mount["source"] for mount in used} == set(described)


def test_the_rootless_compose_file_binds_what_exists() -> None:
    (compose,) = documents("compose-rootless.yaml")
    (bound,) = compose["services"]["production"]["volumes"]
    assert (bound["type"], bound["bind"]) == ("bind", {"propagation": "rslave", "create_host_path": False})


def test_pods_see_what_the_daemon_set_mounts() -> None:
    kinds = {document["kind"]: document for document in documents("kubernetes-hostpath.yaml")}
    assert set(kinds) == {"ConfigMap", "DaemonSet", "Pod"}
    specifications = (kinds["DaemonSet"]["spec"]["template"]["spec"], kinds["Pod"]["spec"])
    propagation = []
    for specification in specifications:
        paths = {volume["name"]: volume for volume in specification["volumes"]}
        (container,) = specification["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == set(paths)
        assert paths["cvmfs"]["hostPath"]["path"] == "/cvmfs"
        propagation += [
            mount.get("mountPropagation") for mount in container["volumeMounts"] if mount["name"] == "cvmfs"
        ]
    assert propagation == ["Bidirectional", "HostToContainer"]
    labels = kinds["DaemonSet"]["spec"]["template"]["metadata"]["labels"]
    assert kinds["DaemonSet"]["spec"]["selector"]["matchLabels"] == labels
    assert "CVMFS_REPOSITORIES" in kinds["ConfigMap"]["data"]["default.local"]
    script = specifications[0]["containers"][0]["args"][0]
    subprocess.run(["sh", "-n"], input=script, text=True, check=True, timeout=60)


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.sh")))
def test_scripts_are_programs(name: str) -> None:
    assert os.access(FOLDER / name, os.X_OK)
    subprocess.run(["sh", "-n", FOLDER / name], check=True, timeout=60)
