"""A machine of a site with a real Docker engine: its own mount namespace, its own data root, no network of its own.

Owns: the machine's life, the engine's and the plugin's, and that nothing of them is left. Called from the test's own
thread; needs root, Debian's docker.io and busybox-static.
"""

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support import processes, site
from tests.support.waiting import wait_until

IMAGE = "small"
UNREAD_BYTES = 4_000_000  # in the image, and of no use to anybody; nothing makes it smaller
PLUGIN_SOCKET = "/run/docker/plugins/cvmfs.sock"
_READY_LIMIT_S = 60.0
_END_LIMIT_S = 30.0
_BUSYBOX = "/bin/busybox"
_GROUPS = Path("/sys/fs/cgroup")
# Debian's own client: another one on the PATH may speak a protocol that this engine does not know.
_CLIENT = "/usr/bin/docker"

# Beyond what a site's machine has: what systemd makes shared, and a /run in which nobody's sockets are.
_PRELUDE = """
mount --make-rshared /
mount -t tmpfs -o mode=0755 tmpfs /run
trap 'exit 0' TERM
touch {ready}
while :; do sleep 1000 & wait $!; done
"""


def missing() -> str | None:
    """Returns what this machine lacks, in words, or None."""
    absent = [name for name in ("dockerd", "nsenter", "unshare") if shutil.which(name) is None]
    absent += [path for path in (_CLIENT, _BUSYBOX) if not os.access(path, os.X_OK)]
    return f"no Docker engine for tests: {', '.join(absent)} (ci/setup docker installs them)" if absent else None


@dataclass
class Machine:
    """The machine, its engine and its plugin. `scratch` is on a real disk, and the same inside and outside."""

    holder: int
    scratch: Path
    name: str
    plugin_options: Sequence[str] = ()
    plugin: subprocess.Popen[bytes] | None = None
    engine: subprocess.Popen[bytes] | None = None
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def inside(self, *words: str | Path) -> list[str | Path]:
        """Returns the command that runs `words` on the machine."""
        return ["nsenter", f"--mount=/proc/{self.holder}/ns/mnt", "--wd=/", *words]

    def run(self, *words: str | Path, check: bool = True, limit: float = 100.0) -> subprocess.CompletedProcess[str]:
        """Runs a command on the machine."""
        return processes.run(self.inside(*words), check=check, limit=limit)

    def docker(self, *words: str | Path, check: bool = True, limit: float = 100.0) -> subprocess.CompletedProcess[str]:
        """Runs Docker's client."""
        return self.run(_CLIENT, "-H", f"unix://{self.scratch}/docker.sock", *words, check=check, limit=limit)

    def container(self, *options: str | Path) -> list[str | Path]:
        """Returns the words of `docker run` with its options; what it starts carries the mark of this run."""
        return ["run", "--network", "none", "-e", processes.MARK, *options]

    def start_engine(self) -> None:
        """Starts the engine, and returns when it answers."""
        places = [f"--data-root={self.scratch}/data", f"--exec-root={self.scratch}/exec", f"-p={self.scratch}/pid"]
        network = ["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"]
        rest = ["--storage-driver=vfs", f"--cgroup-parent={self.name}", f"--config-file={self.scratch}/daemon.json"]
        (self.scratch / "daemon.json").write_text('{"live-restore": true}', "ascii")  # whatever the machine's own says
        places.append(f"--containerd={self.scratch}/containerd.sock")
        command = self.inside("dockerd", "-H", f"unix://{self.scratch}/docker.sock", *places, *network, *rest)
        engine = self._stack.enter_context(processes.started(command, self.scratch / "dockerd.log"))

        def answers() -> bool:
            assert engine.poll() is None, (self.scratch / "dockerd.log").read_text(errors="replace")
            return self.docker("version", check=False).returncode == 0

        wait_until(answers, _READY_LIMIT_S, "the Docker engine answers")
        self.engine = engine

    def start_containerd(self) -> None:
        """Starts what holds containers while the engine is away; as on real machines, it is no child of the engine."""
        address = f"{self.scratch}/containerd.sock"
        places = [f"--root={self.scratch}/containerd", f"--state={self.scratch}/containerd-state", f"-a={address}"]
        command = self.inside("containerd", f"--config={self.scratch}/containerd.toml", *places)
        (self.scratch / "containerd.toml").write_text("version = 2\n", "ascii")
        self._stack.enter_context(processes.started(command, self.scratch / "containerd.log"))
        wait_until(lambda: Path(address).exists(), _READY_LIMIT_S, "containerd answers")

    def start_plugin(self, *options: str) -> None:
        """Starts the plugin, with other options than usual if told, and returns when it listens."""
        words = options or self.plugin_options
        command = self.inside(sys.executable, "-m", "nearfs.compat.docker_volume_cvmfs", *words)
        before = self.plugin_log.read_text("utf-8").count("listening") if self.plugin_log.exists() else 0
        plugin = self._stack.enter_context(processes.started(command, self.plugin_log))

        def listens() -> bool:
            assert plugin.poll() is None, self.plugin_log.read_text("utf-8")
            return self.plugin_log.read_text("utf-8").count("listening") > before

        wait_until(listens, _READY_LIMIT_S, "the plugin listens")
        self.plugin = plugin

    @property
    def plugin_log(self) -> Path:
        """What all plugins of this machine said."""
        return self.scratch / "plugin.log"

    def kill_plugin(self) -> None:
        """Kills the plugin, and nobody else."""
        assert self.plugin is not None
        self.plugin.send_signal(signal.SIGKILL)
        self.plugin.wait(_END_LIMIT_S)

    def restart_plugin(self, *options: str) -> None:
        """Ends the plugin as systemd does, and starts it anew."""
        assert self.plugin is not None
        self.plugin.terminate()
        assert self.plugin.wait(_END_LIMIT_S) == 0
        self.start_plugin(*options)

    def kill_engine(self) -> None:
        """Kills the engine, and nobody else; containers run on."""
        assert self.engine is not None
        self.engine.send_signal(signal.SIGKILL)
        self.engine.wait(_END_LIMIT_S)

    def mounts(self) -> list[str]:
        """Returns the mount points of repositories on the machine."""
        lines = self.run("cat", "/proc/mounts").stdout.splitlines()
        return [line.split(" ")[1] for line in lines if line.startswith("cvmfs2 ")]

    def import_image(self) -> None:
        """Makes the image `small`: busybox, with a shell, and a file that nothing reads."""
        archive = self.scratch / "image.tar"
        with tarfile.open(archive, "w") as out:
            for name in ("bin", "etc", "tmp", "proc", "sys", "dev", "taken", "taken/before", "unread"):
                directory = tarfile.TarInfo(name)
                directory.type, directory.mode = tarfile.DIRTYPE, 0o700 if name.startswith("taken") else 0o755
                out.addfile(directory)
            out.add(_BUSYBOX, "bin/busybox")
            for name in ("sh", "cat", "ls", "sleep", "head", "true", "id", "stat", "md5sum", "mount"):
                link = tarfile.TarInfo(f"bin/{name}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                out.addfile(link)
            users = b"root:x:0:0::/:/bin/sh\nordinary:x:1234:1234::/:/bin/sh\n"
            entry = tarfile.TarInfo("etc/passwd")
            entry.size = len(users)
            out.addfile(entry, io.BytesIO(users))
            unread = tarfile.TarInfo("unread/block")
            unread.size = UNREAD_BYTES
            out.addfile(unread, io.BytesIO(os.urandom(UNREAD_BYTES)))
        self.docker("import", archive, IMAGE)

    def close(self) -> None:
        """Ends containers, engine and plugin."""
        with contextlib.suppress(AssertionError):
            left = self.docker("ps", "-aq", check=False).stdout.split()
            if left:
                self.docker("rm", "-f", *left, check=False)
        self._stack.close()


@contextlib.contextmanager
def machine(made: site.Site, scratch: Path, plugin_options: Sequence[str]) -> Iterator[Machine]:
    """Yields a machine of `made` with an engine and a plugin; skips where that cannot be had."""
    if lack := missing():
        pytest.skip(lack)
    scratch.mkdir(parents=True, exist_ok=True)
    name = f"nearfs-{os.getpid()}"
    ready = scratch / "ready"
    script = made.prelude + _PRELUDE.format(ready=ready)
    with processes.started(["unshare", "-m", "sh", "-c", script], scratch / "machine.log") as holder:

        def is_up() -> bool:
            assert holder.poll() is None, (scratch / "machine.log").read_text(errors="replace")
            return ready.exists()

        wait_until(is_up, _READY_LIMIT_S, "the machine is up")
        made_machine = Machine(holder.pid, scratch, name, plugin_options)
        try:
            made_machine.start_containerd()
            made_machine.start_engine()
            made_machine.start_plugin()
            made_machine.import_image()
            yield made_machine
        finally:
            made_machine.close()
            _remove_groups(name)


def _remove_groups(name: str) -> None:
    """Ends what is left of the engine's containers, and removes the control groups that they were in."""

    def are_gone() -> bool:
        roots = list(_GROUPS.rglob(name))
        for root in roots:
            for directory, _, _ in os.walk(root, topdown=False):
                with contextlib.suppress(OSError):
                    for pid in Path(directory, "cgroup.procs").read_text("ascii").split():
                        os.kill(int(pid), signal.SIGKILL)
                with contextlib.suppress(OSError):
                    os.rmdir(directory)
        return not roots

    wait_until(are_gone, _END_LIMIT_S, f"the control groups {name} are gone")
