"""A guest with a Linux kernel of its own at the near end of a line, and what can be asked of it.

Owns the guest's first script, the questions and the bounds of their waits; the other end is `lab.guest_agent`, which
the host's Python runs inside. Questions go over a serial line, so they cost the emulated line nothing. One thread a
guest.
"""

import json
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.harness.commands import Command, Run
from bench.lab import uml
from bench.lab.line import Line
from bench.lab.uml import GuestError

MODULES = Path("/usr/lib/uml/modules")
PACKAGES = ("user-mode-linux",)
#: Where the guest can write; in memory, and gone with it.
WRITABLE = "/run/lab"
# The host's /tmp is there, but nothing can be written to it.
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR": WRITABLE}
_BOOT_LIMIT_S = 60.0
_ANSWER_MARGIN_S = 30.0
_SHORT_LIMIT_S = 60.0
_MAKE_LIMIT_S = 600.0
_MOUNT_LIMIT_S = 150.0
_POWER_OFF_LIMIT_S = 15.0


class LateError(GuestError):
    """A command in the guest did not end within its limit and was killed."""


class Guest:
    """A running guest; made by `Guest.boot`, and a context that powers it off."""

    def __init__(self, machine: uml.Machine, wire: uml.Wire, boot_s: float) -> None:
        self._machine: uml.Machine | None = machine
        self._wire = wire
        self._questions = 0
        self.address = wire.guest_address
        self.boot_s = boot_s
        self.power_off_s = 0.0

    @classmethod
    def boot(
        cls,
        home: Path,
        line: Line,
        *,
        modules: Sequence[str] = (),
        disks: Sequence[Path] = (),
        memory_mib: int = uml.MEMORY_MIB,
    ) -> Self:
        """Boots a guest at the near end of `line` and returns when it answers. `home` is for its log and sockets.

        `modules` are kernel modules, loaded already when it returns; `disks` are images that it sees as /dev/ubda,
        /dev/ubdb and so on. Raises `GuestError`.
        """
        started = time.monotonic()
        own = Path(tempfile.mkdtemp(prefix="guest-", dir=home))
        wire = uml.lay_wire(line)
        try:
            machine = uml.start(own, wire, _write_init(own, wire), disks, memory_mib)
        except BaseException:
            wire.remove()
            raise
        guest = cls(machine, wire, 0.0)
        try:
            if guest._answer(machine, _BOOT_LIMIT_S) != "ready":
                raise GuestError(machine.told("the guest does not say that it is ready"))
            guest._ask("modules", _SHORT_LIMIT_S, folder=str(MODULES), names=list(modules))
        except BaseException:
            guest.kill()
            raise
        guest.boot_s = time.monotonic() - started
        return guest

    def run(self, command: Command, tree: str) -> Run:
        """Runs a command in the guest with an empty scratch directory. Raises `LateError` past its limit."""
        scratch = f"{WRITABLE}/scratch/{self._questions}"
        there = command.at(tree, scratch)
        answer = self._ask(
            "run",
            there.limit_s + _ANSWER_MARGIN_S,
            argv=list(there.argv),
            environment={**_ENVIRONMENT, **there.environment},
            stdin=there.stdin,
            limit_s=there.limit_s,
            scratch=scratch,
        )
        return Run(**answer)

    def mount(self, kind: str, source: str, point: str, options: str = "") -> float:
        """Mounts in the guest and returns the seconds that `mount` took there."""
        return float(self._ask("mount", _MOUNT_LIMIT_S, kind=kind, source=source, point=point, options=options))

    def unmount(self, point: str) -> float:
        """Unmounts in the guest and returns the seconds; 0 where nothing is mounted."""
        return float(self._ask("unmount", _MOUNT_LIMIT_S, point=point))

    def drop_caches(self) -> None:
        """Empties page, dentry and inode caches of the guest's kernel."""
        self._ask("drop_caches", _SHORT_LIMIT_S)

    def mountstats(self) -> str:
        """Returns the guest's /proc/self/mountstats."""
        return str(self._ask("mountstats", _SHORT_LIMIT_S))

    def attribute(self, path: str, name: str) -> str | None:
        """Returns an extended attribute of a path in the guest, None where there is none."""
        value = self._ask("attribute", _SHORT_LIMIT_S, path=path, name=name)
        return None if value is None else str(value)

    def await_end(self, name: str, limit_s: float = 20.0) -> None:
        """Returns when no process of that name is left in the guest. Raises `LateError`."""
        self._ask("await_end", limit_s + _ANSWER_MARGIN_S, name=name, limit_s=limit_s)

    def write(self, path: str, text: str) -> None:
        """Writes a file below `WRITABLE` in the guest."""
        self._ask("write", _SHORT_LIMIT_S, path=path, text=text)

    def power_off(self) -> None:
        """Powers the guest off, with force if it does not answer; nothing of it is left. Once is enough."""
        if self._machine is None:
            return
        started = time.monotonic()
        try:
            self._machine.send(json.dumps({"verb": "power_off"}).encode("ascii"), _SHORT_LIMIT_S)
        except GuestError:
            self.kill()  # it is gone already, or hangs
        else:
            self._end(_POWER_OFF_LIMIT_S)
        self.power_off_s = time.monotonic() - started

    def kill(self) -> None:
        """Ends the guest as a power cut does."""
        if self._machine is not None:
            self._machine.process.kill()
            self._end(_SHORT_LIMIT_S)

    def _end(self, limit_s: float) -> None:
        machine, self._machine = self._machine, None
        if machine is not None:
            try:
                machine.end(limit_s)
            finally:
                self._wire.remove()

    def _ask(self, verb: str, limit_s: float, /, **fields: Any) -> Any:
        if self._machine is None:
            raise GuestError(f"{verb}: the guest is powered off")
        self._questions += 1
        question = {"number": self._questions, "verb": verb, "fields": fields}
        self._machine.send(json.dumps(question).encode("ascii"), _SHORT_LIMIT_S)
        return self._answer(self._machine, limit_s)

    def _answer(self, machine: uml.Machine, limit_s: float) -> Any:
        answer: dict[str, Any] = {}
        # An earlier question may have been given up, by an interrupt or because it took too long.
        while answer.get("number") != self._questions:
            line = machine.receive(limit_s)
            try:
                answer = json.loads(line or b"{}")
            except ValueError:
                raise GuestError(machine.told(f"the guest said {line[:200]!r}")) from None
        if "late" in answer:
            raise LateError(answer["late"])
        if "error" in answer:
            raise GuestError(machine.told(f"in the guest: {answer['error']}"))
        return answer["result"]

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Powers off."""
        self.power_off()


def missing() -> str | None:
    """Returns in one sentence why no guest can run here, None where one can."""
    if shutil.which(uml.PROGRAM) is None or not MODULES.is_dir():
        return f"{uml.PROGRAM} is not installed: apt-get install {' '.join(PACKAGES)}"
    if not Path("/dev/net/tun").exists():
        return "there is no /dev/net/tun (in a container: --device /dev/net/tun --cap-add NET_ADMIN)"
    return None


def make_disk(image: Path, size_mib: int, content: Path | None = None) -> Path:
    """Makes an ext4 image, a sparse file, and returns its path.

    With `content` it holds a copy of that directory, and `size_mib` is the room beside it.
    """
    size, inodes = size_mib << 20, 0
    words = ["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"]
    if content is not None:
        entries = [one.lstat().st_size for one in content.rglob("*")]
        inodes = len(entries) + 1000
        # Whole blocks, and a twentieth for directories and the file system's own tables.
        size += sum(-(-length // 4096) * 4096 for length in entries) * 21 // 20 + inodes * 512
        words += ["-N", str(inodes), "-d", str(content)]
    with image.open("wb") as file:
        file.truncate(-(-size // 4096) * 4096)
    done = subprocess.run([*words, str(image)], capture_output=True, text=True, timeout=_MAKE_LIMIT_S, check=False)
    if done.returncode:
        raise GuestError(f"mkfs.ext4 cannot make {image}: {done.stderr.strip()}")
    return image


def _write_init(home: Path, wire: uml.Wire) -> Path:
    """Writes the guest's first process: file systems, network, then the agent; and power off when that ends."""
    top = Path(__file__).resolve().parent.parent.parent
    init = home / "init"
    init.write_text(
        f"""#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
exec </dev/null >/dev/console 2>&1
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs -o mode=755 run /run
mkdir -p /run/lock {WRITABLE}
ip link set lo up
ip addr add {wire.guest_address}/30 dev vec0
ip link set vec0 up
ip route add default via {wire.host_address}
cd {shlex.quote(str(top))}
{shlex.quote(sys.executable)} -E -s -S -B -m bench.lab.guest_agent /dev/ttyS0
echo "the agent ended with $?"
echo o >/proc/sysrq-trigger
sleep 60
""",
        "utf-8",
    )
    init.chmod(0o755)
    return init
