"""Garbage collection, the log of references and their repair, as administrators use them."""

import json
import random
import signal
import subprocess
from pathlib import Path

import pytest

from tests.format import check
from tests.format.listing import list_tree
from tests.format.objects import unreferenced_objects
from tests.support import processes
from tests.support.publishing import Publisher, command

pytestmark = [pytest.mark.mount, pytest.mark.timeout(400)]

SEED = 20


def assert_sound(publisher: Publisher) -> None:
    """Both readers find every revision that has a name whole."""
    assert check.check_repository(publisher.storage, [publisher.public_key.read_bytes()], publisher.fqrn) == []
    done = publisher.server("check", publisher.fqrn)
    assert "no problems found" in done.stdout


def roots(publisher: Publisher) -> dict[str, str]:
    """Returns the root hash of each tag."""
    return {name: fields[0] for name, fields in publisher.tags().items()}


def stored(publisher: Publisher) -> set[Path]:
    """Returns the files of all objects."""
    return {path for path in (publisher.storage / "data").rglob("*") if path.is_file() and path.parent.name != "txn"}


def publish_some(publisher: Publisher, first: int, count: int) -> None:
    """Publishes revisions that each replace a file of the one before, over two nested catalogs."""
    for number in range(first, first + count):
        with publisher.transaction() as tree:
            for directory in (tree / "a", tree / "a" / "b"):
                directory.mkdir(exist_ok=True)
                (directory / ".cvmfscatalog").touch()
                (directory / "changing").write_text(f"{directory.name} {number}\n")
            (tree / f"file-{number}").write_text(f"{number}\n")
            (tree / f"file-{number - 1}").unlink(missing_ok=True)


def status(publisher: Publisher) -> dict[str, str]:
    """Returns what monitoring reads."""
    texts: dict[str, str] = json.loads((publisher.storage / ".cvmfs_status.json").read_text())
    return texts


def test_collections_keep_what_has_a_name(publisher: Publisher, tmp_path: Path) -> None:
    publisher.create("-g")
    refused = publisher.server("gc", "-f", publisher.fqrn, check=False)
    assert (refused.returncode, f"Garbage Collection is not enabled for {publisher.fqrn}" in refused.stderr) == (
        1,
        True,
    )
    nothing = publisher.server("gc", "-f", "-a")
    assert "There are no active garbage-collectable repositories" in nothing.stdout
    publisher.configure({"CVMFS_GARBAGE_COLLECTION": "true", "CVMFS_EXTENDED_GC_STATS": "true"})
    publish_some(publisher, 1, 2)
    publisher.server("tag", "-a", "keep", publisher.fqrn)
    publish_some(publisher, 3, 4)
    both = publisher.server("gc", "-r", "1", "-t", "now", publisher.fqrn, check=False)
    assert (both.returncode, "-r and -t are mutual exclusive" in both.stderr) == (1, True)
    unread = publisher.server("gc", "-t", "some; day", publisher.fqrn, check=False)
    assert (unread.returncode, "Cannot parse time stamp 'some; day'" in unread.stderr) == (1, True)

    named = {name: list_tree(publisher.storage, root) for name, root in roots(publisher).items()}
    before = stored(publisher)
    asked = publisher.server("gc", "-r", "2", publisher.fqrn, check=False)
    assert asked.returncode == 1, "no answer is no"
    assert "YOU ARE ABOUT TO DELETE DATA!" in asked.stdout
    assert "Preserved Legacy Revisions:    2" in asked.stdout
    old = publisher.server("gc", "-f", publisher.fqrn).stdout
    assert "Preserve Revisions newer than: " in old
    assert "Removed 0 revisions" in old
    dry = publisher.server("gc", "-d", "-l", "-r", "0", publisher.fqrn).stdout
    assert "Dry Run (no actual deletion):  yes" in dry
    assert stored(publisher) == before

    log = tmp_path / "deletions"
    # An open transaction is no obstacle, and keeps the revision below it.
    publisher.server("transaction", publisher.fqrn)
    (publisher.union / "file-7").write_text("7\n")
    publisher.server("gc", "-f", "-r", "2", "-L", log, publisher.fqrn)
    assert_sound(publisher)
    publisher.server("publish", publisher.fqrn)
    assert "last_gc" in status(publisher)
    done = publisher.server("gc", "-f", "-r", "0", "-L", log, publisher.fqrn).stdout
    for text in ("Only the latest revision will be preserved.", "Running Garbage Collection", "Preserving Revision 8"):
        assert text in done
    for text in (" --> marking unreferenced objects [", " --> sweeping", "revisions removed", " --> done garbage"):
        assert text in done
    assert_sound(publisher)
    kept = {name: list_tree(publisher.storage, root) for name, root in roots(publisher).items()}
    assert kept["keep"] == named["keep"]
    assert unreferenced_objects(publisher.storage) == []
    lines = log.read_text().splitlines()
    assert sum(line.startswith("# Garbage Collection ") for line in lines) == 4
    deleted = {publisher.storage / "data" / line[:2] / line[2:] for line in lines if line[0] != "#"}
    assert deleted
    assert before - stored(publisher) == deleted & before
    listed = {line for line in dry.splitlines() if (publisher.storage / "data" / line[:2] / line[2:]) in deleted}
    assert listed, "the dry run named objects that were deleted later"
    with publisher.transaction() as tree:
        assert (tree / "a" / "b" / "changing").read_text() == "b 6\n", "the newest revision is mounted"
    publisher.server("gc", "-f", "-t", "now", publisher.fqrn)
    assert_sound(publisher)


def test_collections_by_themselves_and_for_all(publisher: Publisher) -> None:
    publisher.create("-g", "-z")
    publisher.configure(
        {"CVMFS_AUTO_GC": "true", "CVMFS_AUTO_GC_TIMESPAN": "'1 minute'", "CVMFS_AUTO_GC_LAPSE": "tomorrow"}
    )
    publish_some(publisher, 1, 3)
    publisher.server("transaction", publisher.fqrn)
    done = publisher.server("publish", publisher.fqrn).stdout
    assert "Running automatic garbage collection" in done
    assert_sound(publisher)
    # A failing one is said, and the publish is done.
    publisher.configure({"CVMFS_AUTO_GC_TIMESPAN": "nonsense"})
    publisher.server("transaction", publisher.fqrn)
    done = publisher.server("publish", publisher.fqrn).stdout
    assert (
        "Warning: automatic garbage collection failed, the new revision is published: Cannot parse time stamp" in done
    )
    publisher.configure({"CVMFS_AUTO_GC": "false"})
    publisher.server("gc", "-a", "-f", "-r", "0")
    text = (publisher.prefix / "var/log/cvmfs/gc.log").read_text()
    assert text.startswith(f"Starting {publisher.fqrn} at ")
    assert f"Finished {publisher.fqrn} at " in text
    assert unreferenced_objects(publisher.storage) == []
    publisher.server("check", "-a")
    assert not (publisher.prefix / "var/log/cvmfs/checks.log").read_text(), "checked a moment ago by a name"
    (publisher.storage / ".cvmfs_status.json").unlink()
    publisher.server("check", "-a")
    assert "no problems found" in (publisher.prefix / "var/log/cvmfs/checks.log").read_text()
    assert status(publisher)["check_status"] == "succeeded"


def test_a_log_of_references_is_guarded_and_mended(publisher: Publisher) -> None:
    publisher.create("-g", "-z")
    publish_some(publisher, 1, 2)
    log = publisher.storage / ".cvmfsreflog"
    content = log.read_bytes()
    before = stored(publisher)
    log.write_bytes(content + b"x")
    for words in (("gc", "-f", "-r", "0"), ("check", "-r")):
        done = publisher.server(*words, publisher.fqrn, check=False)
        assert (done.returncode, "is not the reference log that" in done.stderr) == (1, True)
    log.unlink()
    done = publisher.server("gc", "-f", "-r", "0", publisher.fqrn, check=False)
    assert (done.returncode, f"cvmfs_server check -r {publisher.fqrn}" in done.stderr) == (1, True)
    assert stored(publisher) == before
    done = publisher.server("check", "-r", publisher.fqrn)
    assert "built anew" in done.stdout
    assert_sound(publisher)
    assert "0 references added" in publisher.server("check", "-r", publisher.fqrn).stdout
    publisher.server("gc", "-f", "-r", "0", publisher.fqrn)
    assert_sound(publisher)
    # A repository of old, without a log and without knowledge of one.
    publish_some(publisher, 5, 1)


def test_a_killed_collection_is_finished_by_the_next(publisher: Publisher) -> None:
    publisher.create("-g", "-z")
    publisher.configure({"CVMFS_AUTO_GC": "false"})
    moments = random.Random(SEED)
    for round_ in range(6):
        publish_some(publisher, 10 * round_ + 1, 3)
        first = len(stored(publisher))
        environment = processes.marked_environment(publisher.environment)
        words = command("gc", "-f", "-r", "0", publisher.fqrn)
        with subprocess.Popen(words, env=environment, cwd="/", stdout=subprocess.PIPE, text=True) as running:
            assert running.stdout is not None
            after = moments.choice(["Running Garbage", "Preserving", " --> marking", "Sweeping", " - ", "Removed"])
            for line in running.stdout:
                if line.startswith(after):
                    running.send_signal(signal.SIGKILL)
                    break
        assert_sound(publisher)
        publisher.server("gc", "-f", "-r", "0", publisher.fqrn)
        assert_sound(publisher)
        assert unreferenced_objects(publisher.storage) == [], f"round {round_}, after {after!r}"
        assert len(stored(publisher)) < first


def test_alternative_names_go_with_their_objects(publisher: Publisher) -> None:
    publisher.create("-z", "-g")
    publisher.configure({"CVMFS_CATALOG_ALT_PATHS": "true"})
    publish_some(publisher, 1, 3)
    before = set(publisher.storage.glob(".cvmfsalt-*"))
    publisher.server("gc", "-f", "-r", "0", publisher.fqrn)
    after = set(publisher.storage.glob(".cvmfsalt-*"))
    assert after < before
    assert all(link.exists() for link in after)
    root = publisher.tags()["trunk"][0]
    assert publisher.storage / f".cvmfsalt-{root}C" in after
