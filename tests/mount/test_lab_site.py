"""The publisher of the benchmarks: settings before the tree, and bundles of what programs read from it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.harness.commands import SCRATCH, TREE, Command
from bench.harness.processes import CommandFailed
from bench.harness.site import Site, copy_into
from bench.harness.variant import BUNDLES
from tests.support import mounts

pytestmark = [pytest.mark.mount, pytest.mark.timeout(180)]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    lack = mounts.missing_for_mounts()
    if lack:
        pytest.skip(lack)
    try:
        yield Site(tmp_path / "site", "site.bench.example.org")
    finally:
        for mount in mounts.beneath(tmp_path):
            mounts.unmount_lazily(mount.point)


def test_what_programs_read_is_published_behind_the_file_that_begins_it(site: Site, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("first", "second", "third", "fourth"):
        (source / name).write_text(f"{name}\n" * 100)
    site.create(BUNDLES.settings)
    assert "NEARFS_PACKS=true\n" in (site.configuration / "server.conf").read_text()
    site.change(copy_into(source))
    script = 'cat; read -r _ < "$1/first"; read -r _ < "$1/third"; touch "$2/written"; read -r _ < "$1/second"'
    reader = Command(("sh", "-c", script, "sh", TREE, SCRATCH), stdin="something")
    site.publish_bundles(
        [(reader, ""), (Command(("cat", f"{TREE}/first", f"{TREE}/fourth", f"{TREE}/second")), "/fourth")]
    )
    assert sorted(path.name for path in site.union.glob(".cvmfsbundle-*")) == [
        ".cvmfsbundle-first",
        ".cvmfsbundle-fourth",
    ]
    first, fourth = ((site.union / f".cvmfsbundle-{name}").read_text() for name in ("first", "fourth"))
    assert 0 < first.index("/third") < first.index("/second")
    assert "/second" in fourth and "/first" not in fourth and "/third" not in fourth
    with pytest.raises(CommandFailed, match="bundle publish"):
        site.publish_bundles([(Command(("cat", f"{TREE}/missing")), "")])
