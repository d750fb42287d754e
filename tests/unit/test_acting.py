"""Root's work as another user: who does it, and what the caller learns of its outcome."""

import ctypes
import os
import pwd
import signal
import sys
from collections.abc import Callable

import pytest

from nearfs.errors import Busy, Internal, NearfsError, Unsupported
from nearfs.publish import acting
from nearfs.publish.places import Places
from nearfs.publish.repository import Repository

OWNER = "nobody"
FQRN = "lab.example.org"
assert ctypes, "loaded before the process becomes a user who may not read it"


def _raising(error: BaseException) -> Callable[[], int]:
    def work() -> int:
        raise error

    return work


def _owned_by(owner: str) -> Repository:
    return Repository(FQRN, Places("/nonexistent"), {"CVMFS_USER": owner})


@pytest.fixture
def repository() -> Repository:
    if os.geteuid() != 0 or OWNER not in {entry.pw_name for entry in pwd.getpwall()}:
        pytest.skip(f"only root can become {OWNER}")
    return _owned_by(OWNER)


def test_root_becomes_the_owner_for_good_and_only_in_the_other_process(repository: Repository) -> None:
    entry = pwd.getpwnam(OWNER)

    def work() -> int:
        assert os.getresuid() == (entry.pw_uid,) * 3
        assert os.getresgid() == (entry.pw_gid,) * 3
        assert set(os.getgroups()) == set(os.getgrouplist(OWNER, entry.pw_gid))
        with pytest.raises(PermissionError):
            os.setuid(0)
        return 17

    assert acting.as_owner(repository, work) == 17
    assert os.geteuid() == 0
    here = os.getpid()
    for owner in ("root", "no-such-user"):  # nothing to become
        assert acting.as_owner(_owned_by(owner), lambda: int(os.getpid() == here)) == 1


def test_what_the_work_raises_is_raised(repository: Repository) -> None:
    with pytest.raises(Busy, match="held by another") as busy:
        acting.as_owner(repository, _raising(Busy("held by another", operation="lock", subject="x", exit_code=17)))
    assert (busy.value.exit_code, busy.value.operation, busy.value.subject) == (17, "lock", "x")
    with pytest.raises(OSError, match="No space") as full:
        acting.as_owner(repository, _raising(OSError(28, "No space left on device", "/full/file")))
    assert (full.value.errno, full.value.filename) == (28, "/full/file")
    with pytest.raises(KeyboardInterrupt):
        acting.as_owner(repository, _raising(KeyboardInterrupt()))
    with pytest.raises(Unsupported, match=f"user {OWNER} cannot read all of this installation"):
        acting.as_owner(repository, _raising(ModuleNotFoundError("No module named 'x'")))


def test_a_process_that_ends_without_a_word_is_told_of(
    repository: Repository, capfd: pytest.CaptureFixture[str]
) -> None:
    def killed() -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    with pytest.raises(Internal, match=rf"worked on {FQRN} as {OWNER} was killed by signal 9") as caught:
        acting.as_owner(repository, killed)
    assert caught.value.exit_code == 1
    with pytest.raises(NearfsError, match="ended unexpectedly"):
        acting.as_owner(repository, _raising(ZeroDivisionError()))
    assert "ZeroDivisionError" in capfd.readouterr().err
    sys.stderr.flush()
