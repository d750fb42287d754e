"""The layer checks find what they must find, and nothing else."""

from typing import Any

import pytest

from ci import layers


def metadata(edges: dict[str, list[tuple[str, str | None]]]) -> dict[str, Any]:
    """Returns what `cargo metadata` answers for crates with these (dependency, kind) edges; `nearfs-*` are members."""
    names = set(edges) | {target for targets in edges.values() for target, _ in targets}
    return {
        "packages": [{"id": f"id:{name}", "name": name} for name in sorted(names)],
        "workspace_members": [f"id:{name}" for name in sorted(names) if name.startswith("nearfs-")],
        "resolve": {
            "nodes": [
                {
                    "id": f"id:{name}",
                    "deps": [
                        {"pkg": f"id:{target}", "dep_kinds": [{"kind": kind}]} for target, kind in edges.get(name, [])
                    ],
                }
                for name in sorted(names)
            ]
        },
    }


def test_crates_that_look_down_only_are_accepted() -> None:
    answer = metadata(
        {
            "nearfs-binding": [("nearfs-fuse", None), ("pyo3", None)],
            "nearfs-fuse": [("nearfs-core", None), ("fuser", None)],
            "nearfs-core": [("nearfs-format", None), ("nearfs-testkit", "dev"), ("tokio", None)],
            "nearfs-testkit": [("nearfs-core", None)],
        }
    )
    assert list(layers.crate_violations(answer)) == []


@pytest.mark.parametrize(
    ("edges", "expected"),
    [
        ({"nearfs-core": [("nearfs-fuse", None)]}, "nearfs-core depends on nearfs-fuse"),
        ({"nearfs-core": [("nearfs-testkit", None)]}, "dev-dependency only"),
        ({"nearfs-core": [("middle", None)], "middle": [("pyo3", None)]}, "nearfs-core reaches pyo3"),
        ({"nearfs-core": [("fuser", "build")]}, "nearfs-core reaches fuser"),
        ({"nearfs-format": [("rusqlite", None)]}, "nearfs-format reaches rusqlite"),
        ({"nearfs-new": []}, "nearfs-new has no layer"),
    ],
)
def test_a_crate_that_looks_up_is_named(edges: dict[str, list[tuple[str, str | None]]], expected: str) -> None:
    violations = list(layers.crate_violations(metadata(edges)))
    assert len(violations) == 1
    assert expected in violations[0]


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("client/ops.rs", "use crate::catalog::Index;\nuse crate::{cache::Fill, error::Error, client::read};"),
        ("client/ops.rs", "use super::read::Read; use super::super::cache::Fill;"),
        ("store/local.rs", "// like crate::client does\n/* crate::publish */ use crate::transport::Get;"),
        ("store/local.rs", 'let sentence = "use crate::client::Ops";'),
        ("cache.rs", "use crate::store::{client::Name, local};"),
        ("cache/disk.rs", "#[cfg(test)]\nmod tests {\n    use super::super::fill::Fill;\n}"),
        ("lib.rs", "use crate::client::Ops;"),
    ],
)
def test_a_module_that_looks_down_is_accepted(file: str, source: str) -> None:
    assert list(layers.module_violations(file, source)) == []


@pytest.mark.parametrize(
    ("file", "source", "expected"),
    [
        ("store/local.rs", "\nuse crate::cache::Disk;", "store/local.rs:2: store uses cache, which is a higher layer"),
        ("client/ops.rs", "use crate::publish::scan;", "client uses publish, which stands beside it"),
        (
            "replica.rs",
            "use crate::{\n    error::Error,\n    client::{ops, read},\n};",
            "replica.rs:3: replica uses client",
        ),
        ("catalog/mod.rs", "use super::repo::Snapshot;", "catalog uses repo"),
        ("cache/disk.rs", "fn f() { super::super::prefetch::Plan::new() }", "cache uses prefetch"),
        ("error.rs", "type Read = crate::store::Read;", "error uses store"),
        ("cache/disk.rs", "#[cfg(test)]\nmod tests {\n    use crate::client::Ops;\n}", "disk.rs:3: cache uses client"),
        ("extra/thing.rs", "", "module extra has no layer"),
    ],
)
def test_a_module_that_looks_up_or_sideways_is_named(file: str, source: str, expected: str) -> None:
    violations = list(layers.module_violations(file, source))
    assert len(violations) == 1
    assert expected in violations[0]
