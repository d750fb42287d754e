"""A private place for a run: mounts, processes and network namespaces of it cannot outlive it.

Owns the outer process and the directory of a run. The run itself is the first process of a process namespace of its
own, with a mount namespace of its own: when it ends, by itself, by Ctrl-C or by a kill, the kernel ends everything that
it started and undoes every mount; network namespaces live in its private /run/netns. Needs root. Main thread only.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import FrameType

_HOME = "NEARFS_BENCH_HOME"
# A progress bar hides it.
_SHOW_CURSOR = b"\x1b[?25h\n"
_PREFIX = "nearfs-bench-"
_GRACE_S = 30.0
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def home() -> Path | None:
    """Returns the directory of the run if this process is inside, None outside."""
    value = os.environ.get(_HOME)
    return Path(value) if value else None


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds what every measurement on one emulated line is told: the line, the rounds, and places."""
    parser.add_argument("--rtt", type=float, default=50.0, help="milliseconds")
    parser.add_argument("--rate", type=float, default=100.0, help="Mbit/s")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", type=Path, default=Path("/tmp"), help="where the run has its files")
    parser.add_argument("--keep", action="store_true", help="write a result into bench/results")


def enter(module: str, arguments: list[str], place: Path) -> int:
    """Runs `python -m MODULE ARGUMENTS` inside and returns its exit code; its directory below `place` is gone then."""
    _remove_abandoned(place)
    directory = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=place))
    words = ["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]
    # Ended with this process, however that ends.
    command = ["setpriv", "--pdeathsig", "KILL", "unshare", *words, sys.executable, "-m", module, *arguments]
    child = subprocess.Popen(command, env={**os.environ, _HOME: str(directory)})
    for number in _STOPS:  # SIGINT as well: a shell starts its background jobs with that one ignored
        signal.signal(number, signal.default_int_handler)
    try:
        return child.wait()
    except KeyboardInterrupt:
        # A Ctrl-C reached the run as well, which tidies up; a signal to this process alone is passed on.
        _signal_inside(child.pid)
        try:
            child.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        return 130
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def prepare() -> None:
    """Makes the inside ready: signals that stop it, and a /run/netns of its own, whose names are free and vanish."""
    for number in _STOPS:
        signal.signal(number, _stop)
    Path("/run/netns").mkdir(exist_ok=True)
    places = ["/run/netns"]
    if not os.environ[_HOME].startswith("/dev/shm/"):
        places.append("/dev/shm")  # Squid and guests name their shared memory as they like, and may be killed
    for place in places:
        command = ["mount", "-t", "tmpfs", "tmpfs", place]
        subprocess.run(command, check=True, capture_output=True, timeout=_GRACE_S)


def _stop(_number: int, _frame: FrameType | None) -> None:
    """Ends the run at once: with this process goes everything in here, whatever it waits for."""
    if sys.stdout.isatty():
        os.write(sys.stdout.fileno(), _SHOW_CURSOR)
    os.write(sys.stderr.fileno(), b"interrupted; nothing was kept\n")
    os._exit(130)


def _signal_inside(unshare: int) -> None:
    try:
        children = Path(f"/proc/{unshare}/task/{unshare}/children").read_text("ascii").split()
        for child in children:
            os.kill(int(child), signal.SIGINT)
    except OSError:  # it has ended
        pass


def _remove_abandoned(place: Path) -> None:
    """Removes directories of runs whose outer process was killed: all that such a run can leave."""
    for path in place.glob(f"{_PREFIX}*-*"):
        owner = path.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            shutil.rmtree(path, ignore_errors=True)
