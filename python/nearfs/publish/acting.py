"""Who works on a repository: its owner, also where root calls (server.md 1.2).

Owns: the process in which a command of root does the owner's work, and what its caller learns of the outcome. Does not
own: what is done. Nothing that such a command leaves behind is root's, and root's rights never reach the owner's files:
the process becomes the owner for good, which FUSE asks for as well (it looks at all three user numbers).

Threading: forks, so it is called while no other thread of ours is at work; the caller waits for the process.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Concatenate, ParamSpec

from nearfs.errors import Internal, NearfsError, Unsupported, from_kind
from nearfs.publish import ownership
from nearfs.publish.repository import ANY_ROLE, Repository

if TYPE_CHECKING:
    import pwd
    from collections.abc import Callable, Iterator
    from types import FrameType

_P = ParamSpec("_P")
_SET_DEATH_SIGNAL = 1


def by_owner_of_any(work: Callable[Concatenate[Repository, _P], int]) -> Callable[Concatenate[str, _P], int]:
    """Does what `by_owner` does, for replicas as well."""

    @functools.wraps(work)
    def run(name: str, /, *words: _P.args, **more: _P.kwargs) -> int:
        repository = Repository.load(name, roles=ANY_ROLE)
        return as_owner(repository, lambda: work(repository, *words, **more))

    return run


def by_owner(work: Callable[Concatenate[Repository, _P], int]) -> Callable[Concatenate[str, _P], int]:
    """Makes a function of a repository one of its name, which loads it and does the work as its owner."""

    @functools.wraps(work)
    def run(name: str, /, *words: _P.args, **more: _P.kwargs) -> int:
        repository = Repository.load(name)
        return as_owner(repository, lambda: work(repository, *words, **more))

    return run


def as_owner(repository: Repository, work: Callable[[], int]) -> int:
    """Does the work as the repository's owner where root calls, and as the caller otherwise; returns what it returns.

    Raises what the work raises: errors of ours, `OSError` and `KeyboardInterrupt`.
    """
    account = ownership.owner(repository)
    if os.geteuid() != 0 or account is None or account.pw_uid == 0:
        return work()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not inherited by programs that are started: the end of the process is the end of the report.
    reading, writing = os.pipe()
    worker = os.fork()
    if worker == 0:
        os.close(reading)
        _work(account, work, writing)
    os.close(writing)
    with open(reading, "rb") as report, _passing_on(worker):
        told = report.read()
        _, status = os.waitpid(worker, 0)
    return _outcome(repository, told, os.waitstatus_to_exitcode(status))


def _work(account: pwd.struct_passwd, work: Callable[[], int], writing: int) -> None:
    """Becomes the owner, works, tells the outcome, and ends the process."""
    told: dict[str, object] = {}
    try:
        caller = os.getppid()
        os.initgroups(account.pw_name, account.pw_gid)
        os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
        os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
        _end_with(caller)
        told = {"code": work()}
    except NearfsError as error:
        told = {"kind": error.kind, "message": str(error), "operation": error.operation, "subject": error.subject}
        told["exit_code"] = error.exit_code
    except ImportError as error:
        message = (
            f"user {account.pw_name} cannot read all of this installation ({error}): owners of repositories work with "
            "it as well, so Python and nearfs have to lie where everybody can read them"
        )
        told = {
            "kind": Unsupported.kind,
            "message": message,
            "operation": "work as owner",
            "subject": "",
            "exit_code": 1,
        }
    except OSError as error:
        told = {"errno": error.errno or 0, "reason": error.strerror or str(error), "file": str(error.filename or "")}
    except KeyboardInterrupt:
        told = {"interrupted": True}
    except BaseException:  # noqa: BLE001 - nothing may return into the caller's half of the program
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        with contextlib.suppress(OSError):
            os.write(writing, json.dumps(told).encode())
        os._exit(0)


def _end_with(caller: int) -> None:
    """Has the kernel kill this process when the command that root called is killed: it is one command."""
    import ctypes

    ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != caller:
        os.kill(os.getpid(), signal.SIGKILL)


@contextlib.contextmanager
def _passing_on(worker: int) -> Iterator[None]:
    """Passes signals that are sent to the command on to the process that does the work, and waits for its end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def drop(_number: int, _frame: FrameType | None) -> None:
        pass  # the terminal has told both

    def pass_on(number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker, number)

    handlers = {signal.SIGINT: drop, signal.SIGTERM: pass_on, signal.SIGHUP: pass_on}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _outcome(repository: Repository, told: bytes, status: int) -> int:
    found = json.loads(told) if told else {}
    if "code" in found:
        return int(found["code"])
    if "kind" in found:
        error = from_kind(found["kind"], found["message"], operation=found["operation"], subject=found["subject"])
        error.exit_code = found["exit_code"]
        raise error
    if "errno" in found:
        raise OSError(found["errno"], found["reason"], found["file"] or None)
    if "interrupted" in found:
        raise KeyboardInterrupt
    owner = repository.text("CVMFS_USER", "root")
    end = f"was killed by signal {-status}" if status < 0 else "ended unexpectedly"
    message = f"the process that worked on {repository.fqrn} as {owner} {end}; the next command puts things right"
    raise Internal(message, operation="work as owner", subject=repository.fqrn, exit_code=1)
