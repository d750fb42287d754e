"""What `nearfs trace` shows, copies and forgets, and what `cvmfs_talk trace` answers; on files, with no mount."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from nearfs.cli import main as nearfs_command
from nearfs.client import traces, tracing
from nearfs.errors import Corrupt, InvalidInput, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nearfs._native import Tracing

FQRN = "lab.example.org"
NOBODY = 65534


def text(trigger: str, *items: str, after: str | None = None, kind: str = "whole") -> bytes:
    """Returns the text of a trace."""
    head = ["nearfs-trace 1", f"trigger {trigger}", *([f"after {after}"] if after else []), f"list {kind}"]
    return "".join(f"{line}\n" for line in [*head, *items, f"end {len(items)}"]).encode()


def keep(cache: Path, trigger: str, *items: str, after: str | None = None, kind: str = "whole") -> Path:
    """Puts a trace where a client would; returns its file."""
    digests = [hashlib.sha1(path.encode()).hexdigest() for path in (trigger, after) if path]
    path = cache / "traces" / FQRN / ".".join(digests)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text(trigger, *items, after=after, kind=kind))
    return path


def run(capsys: pytest.CaptureFixture[str], cache: Path, verb: str, *words: str, code: int = 0) -> str:
    """Runs `nearfs trace` within this process; returns what it prints, or complains of where it is to fail."""
    assert nearfs_command.main(["trace", verb, "--cache-dir", str(cache), FQRN, *words]) == code
    printed = capsys.readouterr()
    return printed.err if code else printed.out


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache directory with an interpreter of two uses, and what is no trace."""
    cache = tmp_path / "cache"
    keep(cache, "/bin/python3", "/lib/libpython.so 0,8388608", "/lib/a%20b%1B.py", kind="shared")
    keep(cache, "/bin/python3", "/lib/json.py", after="/lib/json/__init__.py")
    keep(cache, "/bin/torn", "/lib/x").write_bytes(b"nearfs-trace 1\n")
    (cache / "traces" / FQRN / ".new-abc").write_bytes(b"")
    return cache


def test_the_list_has_triggers_and_sizes_and_counts_what_is_damaged(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = run(capsys, cache, "list").splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [
        ["/bin/python3", "-", "2"],
        ["/bin/python3", "/lib/json/__init__.py", "1"],
    ]
    known = json.loads(run(capsys, cache, "list", "--json"))
    assert (known["repository"], known["damaged"], len(known["traces"])) == (FQRN, 1, 2)
    assert known["traces"][0]["is_shared"] is True
    assert known["traces"][0]["age_s"] < 3600


def test_what_is_shown_is_no_command_to_the_terminal(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = run(capsys, cache, "show", "/bin/python3")
    assert shown.splitlines() == [
        "After /bin/python3, shared by all uses:",
        "  /lib/libpython.so 0,8388608",
        "  /lib/a%20b%1B.py",
        "After /bin/python3, /lib/json/__init__.py:",
        "  /lib/json.py",
    ]
    items = json.loads(run(capsys, cache, "show", "/bin/python3", "--json"))["traces"][0]["items"]
    assert items == [
        {"path": "/lib/libpython.so", "offsets": [0, 8388608]},
        {"path": "/lib/a b\x1b.py", "offsets": None},
    ]
    keep(cache, "/m/1", "/m/2", kind="unordered")
    assert run(capsys, cache, "show", "/m/1") == "After /m/1, or any of them:\n  /m/2\n"
    assert json.loads(run(capsys, cache, "show", "/m/1", "--json"))["traces"][0]["is_unordered"] is True
    assert "nothing was learned of /bin/perl" in run(capsys, cache, "show", "/bin/perl", code=10)


def test_traces_travel_whole_and_come_to_their_owner_alone(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "there"
    assert run(capsys, cache, "export", str(tmp_path / "file")) == f"exported: 2 traces of {FQRN}\n"
    assert run(capsys, there, "import", str(tmp_path / "file")) == f"imported: 2 traces of {FQRN}\n"
    directory = there / "traces" / FQRN
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == {
        trace.name: trace.content for trace in traces.read_all(cache / "traces" / FQRN)[0]
    }
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}
    assert "cannot write" in run(capsys, cache, "export", str(tmp_path / "file"), code=19)
    assert "there are no traces" in run(capsys, tmp_path / "empty", "export", str(tmp_path / "none"), code=10)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nearfs-traces 2 lab.example.org\n",
        b"nearfs-traces 1 lab.example.org\nnonsense",
        b"nearfs-traces 1 lab.example.org\n" + text("/a", "/b", "/c") + text("/a", "/../etc"),
        b"nearfs-traces 1 lab.example.org\n" + text("/a", "/b", "/c")[:-4],
        b"nearfs-traces 1 lab.example.org\n" + b"".join(text(f"/a{n}", "/b") for n in range(513)),
    ],
)
def test_a_file_that_is_not_all_traces_changes_nothing(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Corrupt):
        traces.unpacked(FQRN, content)
    (tmp_path / "file").write_bytes(content)
    run(capsys, tmp_path / "cache", "import", str(tmp_path / "file"), code=11)
    assert not (tmp_path / "cache").exists()


def test_traces_of_another_repository_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"traces of other\.org"):
        traces.unpacked(FQRN, traces.packed("other.org", []))


def test_one_trigger_is_forgotten_or_all_of_them(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(cache, "/bin/perl", "/lib/x")
    directory = cache / "traces" / FQRN
    assert run(capsys, cache, "forget", "/bin/python3") == "forgotten: 2 traces\n"
    with pytest.raises(NotFound):
        traces.of_trigger(directory, b"/bin/python3")
    assert len(traces.of_trigger(directory, b"/bin/perl")) == 1
    run(capsys, cache, "forget", code=2)
    assert run(capsys, cache, "forget", "--all") == "forgotten: 2 traces\n", "what is damaged as well"
    assert traces.read_all(directory) == ([], 0)


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A directory that everybody may pass through, unlike those of pytest."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        yield place


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_root_works_as_the_owner_of_the_cache(cache: Path, open_path: Path) -> None:
    tmp_path = open_path
    (tmp_path / "file").write_bytes(traces.packed(FQRN, traces.read_all(cache / "traces" / FQRN)[0]))
    theirs, trap = tmp_path / "theirs", tmp_path / "trap"
    theirs.mkdir()
    trap.mkdir()
    os.chown(theirs, NOBODY, NOBODY)
    words: list[str | Path] = [sys.executable, "-m", "nearfs.cli.main", "trace", "import", "--cache-dir", theirs]
    words += [FQRN, tmp_path / "file"]
    subprocess.run(words, check=True, capture_output=True, timeout=60)
    assert {path.stat().st_uid for path in theirs.rglob("*")} == {NOBODY}
    for path in sorted(theirs.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (theirs / "traces").symlink_to(trap)
    refused = subprocess.run(words, check=False, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 19
    assert "cannot write traces" in refused.stderr
    assert list(trap.iterdir()) == []


class _Recorder:
    """What the engine offers, by script."""

    def begin(self, group: int | None = None) -> int:
        return 1000 if group is None else group

    def end(self, token: int) -> tuple[list[tuple[bytes, list[int] | None]], bool] | None:
        return ([(b"/a\xff", None), (b"/b", [0, 4])], True) if token == 7 else None


@pytest.mark.parametrize(
    ("words", "reply"),
    [
        ("trace begin", "1000"),
        ("trace begin 12", "12"),
        ("trace begin 0", "Usage: trace begin [<process group>]"),
        ("trace begin -1", "Usage: trace begin [<process group>]"),
        ("trace begin 99999999999", "Usage: trace begin [<process group>]"),
        ("trace end", "Usage: trace end <token>"),
        ("trace end x", "Usage: trace end <token>"),
        ("trace end 8", "No recording has the token 8"),
        ("trace", None),
        ("trace endless", None),
    ],
)
def test_words_of_cvmfs_talk(words: str, reply: str | None) -> None:
    assert tracing.answer(lambda: cast("Tracing", _Recorder()), words) == reply


def test_a_recording_is_json_that_keeps_every_byte() -> None:
    reply = tracing.answer(lambda: cast("Tracing", _Recorder()), "trace end 7")
    assert reply is not None
    assert reply.isascii()
    recorded = json.loads(reply)
    assert recorded["is_cut"] is True
    assert [(os.fsencode(item["path"]), item["offsets"]) for item in recorded["items"]] == [
        (b"/a\xff", None),
        (b"/b", [0, 4]),
    ]
