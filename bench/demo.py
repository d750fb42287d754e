"""`make demo`: a real software tree published, served over HTTP, mounted with an empty cache and used.

Owns the story and its table; every step runs the commands that a user would type, in directories of its own that are
gone afterwards. Needs root, /dev/fuse and overlayfs; says in one sentence what is missing. Main thread only.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench import lmod
from bench.harness import ours
from bench.trees import python_copy
from bench.trees.modulefiles import build_modulefiles

FQRN = "demo.example.org"
MODULES = 1000
STEP_LIMIT_S = 240
READY_LIMIT_S = 20
# Writable layers of overlayfs cannot lie on these.
_UNFIT_FOR_OVERLAY = {"overlay", "overlayfs", "fuse", "aufs"}


class CannotRun(Exception):
    """This machine lacks something; the text is the sentence for the user."""


@dataclass
class Row:
    """A line of the table: what was done, and what it took; requests and bytes are None where no server was asked."""

    what: str
    seconds: float
    requests: int | None = None
    transferred: int | None = None
    remark: str = ""


@dataclass
class Demo:
    """The directories of one run, the access log's position, and what was measured so far."""

    home: Path
    rows: list[Row] = field(default_factory=list)
    _log_seen: int = 0

    @property
    def prefix(self) -> Path:
        """Returns the directory below which the publisher keeps everything."""
        return self.home / "publisher"

    @property
    def tree(self) -> Path:
        """Returns the repository's tree as the publisher sees it."""
        return self.prefix / "cvmfs" / FQRN

    @property
    def access_log(self) -> Path:
        """Returns the server's log."""
        return self.home / "access.jsonl"

    def run(self, *command: str | Path) -> str:
        """Runs a command of ours as a user would, prints it, and returns its output; ends the demo if it fails."""
        words = [str(word) for word in command]
        print(f"  $ {' '.join(words).replace(str(self.home), '$DEMO')}", flush=True)
        done = ours.run(words, self.prefix, STEP_LIMIT_S)
        if done.returncode:
            raise SystemExit(f"demo: {words[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    @contextlib.contextmanager
    def measured(self, what: str) -> Iterator[Row]:
        """Times what happens inside, and counts what the server was asked meanwhile."""
        self.traffic()
        row = Row(what, 0.0)
        started = time.monotonic()
        yield row
        row.seconds = time.monotonic() - started
        if self.access_log.exists():
            row.requests, row.transferred = self.traffic()
        self.rows.append(row)

    def traffic(self) -> tuple[int, int]:
        """Returns requests and bytes since the last call."""
        if not self.access_log.exists():
            return 0, 0
        lines = self.access_log.read_text("utf-8").splitlines()
        new = [json.loads(line) for line in lines[self._log_seen :]]
        self._log_seen = len(lines)
        return len(new), sum(line["bytes"] for line in new)


def workplace() -> Path:
    """Returns a directory on a file system that overlayfs accepts for writing."""
    for candidate in (os.environ.get("TMPDIR", "/tmp"), "/var/tmp", "/dev/shm"):
        kind = subprocess.run(
            ["stat", "-f", "-c", "%T", candidate], capture_output=True, text=True, check=False
        ).stdout.strip()
        if kind and kind not in _UNFIT_FOR_OVERLAY and shutil.disk_usage(candidate).free > 1 << 30:
            return Path(candidate)
    raise CannotRun("no temporary directory with 1 GB free on a file system that overlayfs can write to (set TMPDIR)")


def check_machine() -> Path:
    """Returns Lmod's program; raises `CannotRun` for what is missing."""
    if os.geteuid() != 0:
        raise CannotRun("it mounts file systems: run it as root (in a VM or a container)")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        raise CannotRun("/dev/fuse is missing: start the container with --device /dev/fuse --cap-add SYS_ADMIN")
    if "overlay" not in Path("/proc/filesystems").read_text("ascii").split():
        raise CannotRun("the kernel has no overlayfs, which a transaction needs")
    program = lmod.find_lmod()
    if program is None:
        raise CannotRun("Lmod is missing: apt-get install lmod")
    return program


def drop_kernel_caches() -> None:
    """Empties the kernel's caches where that is allowed; without it, cold figures are a little warm."""
    os.sync()
    with contextlib.suppress(OSError):
        Path("/proc/sys/vm/drop_caches").write_text("3")


def fill(tree: Path) -> None:
    """Puts this machine's Python and the modulefiles into the tree, each to become a nested catalog."""
    (tree / ".cvmfsdirtab").write_text("/sw/*\n/modules\n", "ascii")
    python_copy.copy_python(tree / "sw" / "python", pycache=True)
    build_modulefiles(tree / "modules", MODULES)


@contextlib.contextmanager
def serving(demo: Demo) -> Iterator[str]:
    """Runs `nearfs serve` on a free port and yields its URL."""
    ready = demo.home / "ready"
    command = [str(ours.BIN / "nearfs"), "serve", "--port", "0", "--root", str(demo.prefix / "srv" / "cvmfs")]
    command += ["--ready-file", str(ready), "--access-log", str(demo.access_log)]
    print(f"  $ {' '.join(command[1:]).replace(str(demo.home), '$DEMO')}".replace("  $ ", "  $ nearfs "), flush=True)
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + READY_LIMIT_S
        while not ready.exists():
            if server.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("demo: nearfs serve did not start")
            time.sleep(0.02)
        yield ready.read_text("utf-8").strip().rstrip("/")
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(timeout=10)
        except subprocess.TimeoutExpired:
            server.kill()


@contextlib.contextmanager
def mounted(demo: Demo, url: str, name: str, extra: str = "") -> Iterator[Path]:
    """Mounts the repository with a cache of its own, empty at first, and unmounts it afterwards."""
    point, configuration = demo.home / name, demo.home / f"{name}.conf"
    point.mkdir()
    configuration.write_text(
        f"CVMFS_SERVER_URL={url}/cvmfs/{FQRN}\n"
        "CVMFS_HTTP_PROXY=DIRECT\n"
        f"CVMFS_PUBLIC_KEY={demo.prefix}/etc/cvmfs/keys/{FQRN}.pub\n"
        f"CVMFS_CACHE_BASE={demo.home}/cache-{name}\n{extra}",
        "utf-8",
    )
    try:
        demo.run("cvmfs2", "-o", f"config={configuration}", FQRN, point)
        yield point
    finally:
        if subprocess.run(["umount", point], check=False, capture_output=True).returncode:
            subprocess.run(["umount", "-l", point], check=False, capture_output=True)


def use_python(tree: Path) -> None:
    """Runs `python3 -m json.tool` with the interpreter and library of the repository."""
    argv, environment = python_copy.start_command(tree / "sw" / "python")
    done = subprocess.run(
        [*argv, "-m", "json.tool"],
        input='{"published": true}',
        env=environment,
        capture_output=True,
        text=True,
        timeout=STEP_LIMIT_S,
        check=False,
    )
    if done.returncode or json.loads(done.stdout) != {"published": True}:
        raise SystemExit(f"demo: the published Python does not work:\n{done.stderr}")


def use_modules(tree: Path, scratch: Path) -> int:
    """Runs `module avail` over the repository's modulefiles and returns how many modules it lists."""
    home = Path(tempfile.mkdtemp(dir=scratch))
    argv, environment = lmod.avail_command(tree / "modules" / "all", home)
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=STEP_LIMIT_S, check=False)
    return len(lmod.listed_modules(done.stderr))


def tell(demo: Demo) -> None:
    """Runs the whole story."""
    print("1. A new repository, and a transaction that fills it")
    with demo.measured("create a repository"):
        demo.run("cvmfs_server", "mkfs", "-p", "-o", "root", FQRN)
    demo.run("cvmfs_server", "transaction", FQRN)
    fill(demo.tree)
    with demo.measured("publish CPython's library and 1,000 modulefiles") as row:
        row.remark = demo.run("cvmfs_server", "publish", "-a", "first", FQRN).splitlines()[-1].partition(": ")[2]

    print("\n2. Served over HTTP, mounted with an empty cache, used")
    with serving(demo) as url:
        drop_kernel_caches()
        with contextlib.ExitStack() as stack:
            with demo.measured("mount, empty cache"):
                point = stack.enter_context(mounted(demo, url, "mnt"))
            for state in ("cold", "hot"):
                with demo.measured(f"python3 -m json.tool, {state}"):
                    use_python(point)
            for state in ("cold", "hot"):
                with demo.measured(f"module avail, {state}") as row:
                    row.remark = f"{use_modules(point, demo.home)} modules listed"
        with contextlib.ExitStack() as stack:
            drop_kernel_caches()
            shutil.move(demo.home / "cache-mnt", demo.home / "cache-again")
            with demo.measured("mount again, warm disk cache"):
                point = stack.enter_context(mounted(demo, url, "again"))
            with demo.measured("python3 -m json.tool, warm disk cache"):
                use_python(point)
            with demo.measured("module avail, warm disk cache"):
                use_modules(point, demo.home)

        print("\n3. A second revision: one file more")
        demo.run("cvmfs_server", "transaction", FQRN)
        (demo.tree / "modules" / "all" / "Second").mkdir()
        (demo.tree / "modules" / "all" / "Second" / "2.0.lua").write_text('help("new in the second revision")\n')
        with demo.measured("publish a change of one file") as row:
            row.remark = demo.run("cvmfs_server", "publish", "-a", "second", FQRN).splitlines()[-1].partition(": ")[2]
        print(demo.run("cvmfs_server", "tag", "-l", FQRN).rstrip())
        with mounted(demo, url, "new") as point:
            now = use_modules(point, demo.home)
        with mounted(demo, url, "old", "CVMFS_REPOSITORY_TAG=first\n") as point:
            before = use_modules(point, demo.home)
        print(f"  modules in the newest revision: {now}; with CVMFS_REPOSITORY_TAG=first: {before}")
        if (before, now) != (MODULES, MODULES + 1):
            raise SystemExit("demo: the revisions do not show what was published")

    print("\n4. Checked and removed")
    demo.run("cvmfs_server", "check", "-i", FQRN)
    demo.run("cvmfs_server", "rmfs", "-f", FQRN)


def table(rows: list[Row]) -> None:
    """Prints what was measured."""
    print(f"\n{'':48}{'seconds':>9}{'requests':>10}{'bytes':>13}")
    for row in rows:
        asked = "" if row.requests is None else f"{row.requests:,}"
        moved = "" if row.transferred is None else f"{row.transferred:,}"
        print(f"{row.what:48}{row.seconds:9.2f}{asked:>10}{moved:>13}  {row.remark}".rstrip())


def clean(demo: Demo) -> None:
    """Undoes what an interrupted demo left: mounts first, then directories."""
    with contextlib.suppress(FileNotFoundError):
        lines = Path("/proc/self/mountinfo").read_text("utf-8").splitlines()
        points = [line.split(" ")[4] for line in lines]
        for point in reversed([point for point in points if point.startswith(f"{demo.home}/")]):
            subprocess.run(["umount", "-l", point], check=False, capture_output=True)
    shutil.rmtree(demo.home, ignore_errors=True)


def main() -> int:
    """Runs the demonstration and returns the exit code."""
    try:
        check_machine()
        demo = Demo(Path(tempfile.mkdtemp(prefix="nearfs-demo-", dir=workplace())))
    except CannotRun as reason:
        print(f"The demonstration cannot run here: {reason}.")
        return 1
    print(f"nearfs demonstration; DEMO={demo.home}\n")
    try:
        tell(demo)
    finally:
        clean(demo)
    table(demo.rows)
    print("\nEverything ran on this machine over loopback; see README.md for what to try next.")
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
