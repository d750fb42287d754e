"""Builds bench/probe.pyx into an extension beside it: `python -m bench.build_probe`.

Owns the steps (Cython, then the C compiler) and the question whether they are needed: only when the source, Cython, the
interpreter or the options changed. Intermediate files and the stamp lie in target/bench. Several processes may call it
at once: one builds, the others wait for it.
"""

import fcntl
import hashlib
import importlib.metadata
import os
import shlex
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
SOURCE = PROJECT / "bench/probe.pyx"
WORK = PROJECT / "target/bench"
FLAGS = ("-O2", "-g", "-fPIC", "-shared", "-fno-strict-aliasing", "-D_FILE_OFFSET_BITS=64")
"""-O2 without tuning for this processor: the file may be copied to another machine or run in an emulator."""
STEP_LIMIT_S = 300
LOCK_LIMIT_S = 600


class BuildError(Exception):
    """A step failed; the sentence says which, and holds what its tool printed."""


def extension() -> Path:
    """Returns where the extension of the running interpreter belongs."""
    return SOURCE.with_suffix(sysconfig.get_config_var("EXT_SUFFIX"))


def build() -> Path:
    """Builds the extension unless it is there and as wanted; returns its path. Raises BuildError."""
    WORK.mkdir(parents=True, exist_ok=True)
    stamp = WORK / f"{extension().name}.stamp"
    wanted = _wanted()
    with open(WORK / "probe.lock", "w", encoding="ascii") as lock:
        _take(lock.fileno())
        if not (extension().is_file() and stamp.is_file() and stamp.read_text("ascii") == wanted):
            _compile(stamp)
            stamp.write_text(wanted, "ascii")
    return extension()


def _wanted() -> str:
    """Returns what the extension is made of and by, in one line."""
    try:
        cython = importlib.metadata.version("cython")
    except importlib.metadata.PackageNotFoundError:
        raise BuildError("Cython is missing: install the extra `bench` (pip install 'nearfs[bench]')") from None
    source = hashlib.sha256(SOURCE.read_bytes()).hexdigest()
    return f"{source} cython {cython} {sys.version.split()[0]} {' '.join((*_compiler(), *FLAGS))}\n"


def _take(descriptor: int) -> None:
    until = time.monotonic() + LOCK_LIMIT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise BuildError(f"another process builds {SOURCE.name} for more than {LOCK_LIMIT_S} s") from None
            time.sleep(0.1)
        else:
            return


def _compiler() -> list[str]:
    return shlex.split(os.environ.get("CC", "")) or ["cc"]


def _compile(stamp: Path) -> None:
    headers = sysconfig.get_path("include")
    if not Path(headers, "Python.h").is_file():
        raise BuildError(
            f"{headers}/Python.h is missing: install the headers of {sys.executable} (Debian: python3-dev)"
        )
    generated = WORK / "probe.c"
    _run([sys.executable, "-m", "cython", "-3", "--module-name", "bench.probe", "-o", str(generated), str(SOURCE)])
    finished = WORK / f"{extension().name}.{os.getpid()}"
    try:
        _run([*_compiler(), *FLAGS, f"-I{headers}", str(generated), "-o", str(finished)])
        stamp.unlink(missing_ok=True)  # it tells of the extension that goes now
        # A rename, as another process may have the old one loaded.
        finished.replace(extension())
    finally:
        finished.unlink(missing_ok=True)


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=STEP_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{shlex.join(command)}: {error}") from error
    if done.returncode != 0:
        raise BuildError(f"{shlex.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def main() -> int:
    """Builds, prints the path, and returns the exit code."""
    try:
        print(build())
    except BuildError as error:
        print(f"bench.build_probe: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
