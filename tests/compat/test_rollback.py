"""`cvmfs_server rollback`: an old revision becomes the newest one, and tags say so."""

import pytest

from tests.format.check import check_repository
from tests.support import processes
from tests.support.publishing import Publisher, command

pytestmark = [pytest.mark.mount, pytest.mark.timeout(300)]


def refused(publisher: Publisher, *words: str) -> str:
    done = publisher.server("rollback", *words, publisher.fqrn, check=False)
    assert done.returncode == 1, done
    return done.stderr


def write(publisher: Publisher, content: str, *options: str) -> None:
    with publisher.transaction(*options) as tree:
        (tree / "file").write_text(content)


def assert_sound(publisher: Publisher) -> None:
    assert "no problems found" in publisher.server("check", publisher.fqrn).stdout
    assert check_repository(publisher.storage, [publisher.public_key.read_bytes()], publisher.fqrn) == []


def test_a_revision_comes_back_and_what_came_after_loses_its_name(publisher: Publisher) -> None:
    publisher.create("-g")
    write(publisher, "one", "-a", "v1", "-m", "the first")
    write(publisher, "two", "-a", "v2")
    write(publisher, "three", "-a", "v3")
    first = publisher.tags()["v1"]

    assert "Target tag 'v0' does not exist" in refused(publisher, "-f", "-t", "v0")
    assert "not rolling back to current head (4)" in refused(publisher, "-f", "-t", "v3")
    asked = processes.run(["sh", "-c", 'echo n | "$@"', "-", *command("rollback", "-t", "v1", publisher.fqrn)],
                          check=False, env=publisher.environment)  # fmt: skip
    assert asked.returncode == 1
    assert "You are about to ROLLBACK to v1 AS THE LATEST REVISION!  Are you sure (y/N)? " in asked.stdout
    publisher.server("transaction", publisher.fqrn)
    assert "Cannot rollback a repository in a transaction" in refused(publisher, "-f", "-t", "v1")
    publisher.server("abort", "-f", publisher.fqrn)
    assert set(publisher.tags()) == {"v1", "v2", "v3", "trunk", "trunk-previous"}

    done = publisher.server("rollback", "-f", "-t", "v1", publisher.fqrn)
    assert "Rolling back repository (leaving behind " in done.stdout
    assert {line.split(" ")[2] for line in done.stdout.splitlines() if line.startswith("removed tag")} == {
        "v2", "v3", "trunk", "trunk-previous"}  # fmt: skip
    assert (publisher.union / "file").read_text() == "one"
    tags = publisher.tags()
    assert set(tags) == {"v1", "trunk"}
    assert tags["v1"][0] == tags["trunk"][0] != first[0]  # another root catalog: number and predecessor are its own
    assert (tags["v1"][2], tags["v1"][4:]) == ("5", ["(default)", "the", "first"])
    assert_sound(publisher)

    assert "More than one anonymous undo rollback is not supported" in refused(publisher, "-f")
    write(publisher, "four")
    assert "(y/N)" not in publisher.server("rollback", "-f", publisher.fqrn).stdout
    assert (publisher.union / "file").read_text() == "one"
    assert set(publisher.tags()) == {"v1", "trunk"}
    assert_sound(publisher)
    write(publisher, "five")
    assert publisher.tags()["trunk"][2] == "8"


def generic(publisher: Publisher) -> set[str]:
    """Returns the root hashes of automatic tags: their names may come again within the second."""
    tags = publisher.tags().items()
    return {fields[0] for name, fields in tags if name.startswith("generic") and name != "generic-is-my-own-name"}


def test_outdated_automatic_tags_go_at_the_next_publish_and_no_others(publisher: Publisher) -> None:
    publisher.create()
    write(publisher, "one", "-a", "generic-is-my-own-name")
    write(publisher, "two")
    before = generic(publisher)
    assert len(before) == 2
    publisher.configure({"CVMFS_AUTO_TAG_TIMESPAN": "tomorrow"})
    publisher.server("transaction", publisher.fqrn)
    (publisher.union / "file").write_text("three")
    done = publisher.server("publish", publisher.fqrn)
    assert f"Removing outdated automatically generated tags for {publisher.fqrn}..." in done.stdout
    after = generic(publisher)
    assert (len(after), after & before) == (1, set())
    assert {"generic-is-my-own-name", "trunk", "trunk-previous"} < set(publisher.tags())
    assert_sound(publisher)
