"""`docker-volume-cvmfs` as a process: its socket, its own or systemd's, and its end. No Docker, no mount."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support import processes
from tests.support.waiting import wait_until

COMMAND = (sys.executable, "-m", "nearfs.compat.docker_volume_cvmfs")
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the plugin runs as root")


class Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket, as Docker speaks it."""

    def __init__(self, path: Path) -> None:
        super().__init__("plugin", timeout=20)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(str(self.path))


def ask(path: Path, method: str) -> Any:
    connection = Connection(path)
    with contextlib.closing(connection):
        connection.request("POST", f"/{method}", body="{}")
        return json.loads(connection.getresponse().read())


def places(folder: Path) -> Sequence[str]:
    return ["--socket", str(folder / "plugins" / "cvmfs.sock"), "--state", str(folder / "state")]


@contextlib.contextmanager
def plugin(folder: Path, command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    log = folder / "log"
    log.touch()
    before = log.stat().st_size
    with processes.started(command, log) as process:
        wait_until(lambda: b"listening" in log.read_bytes()[before:], 30, "the plugin listens")
        yield process


def test_it_serves_on_a_socket_of_its_own_until_it_is_asked_to_end(tmp_path: Path) -> None:
    path = tmp_path / "plugins" / "cvmfs.sock"
    with plugin(tmp_path, [*COMMAND, *places(tmp_path)]) as process:
        assert ask(path, "Plugin.Activate")["Implements"] == ["VolumeDriver"]
        assert path.stat().st_mode & 0o777 == 0o600
        second = processes.run([*COMMAND, *places(tmp_path)], check=False)
        assert (second.returncode, second.stdout) == (14, "")
        assert "another plugin answers" in second.stderr
        process.terminate()
        assert process.wait(30) == 0
    assert not path.exists()


def test_it_takes_the_place_of_one_that_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "plugins" / "cvmfs.sock"
    with plugin(tmp_path, [*COMMAND, *places(tmp_path)]) as process:
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    assert path.exists()
    with plugin(tmp_path, [*COMMAND, *places(tmp_path)]):
        assert ask(path, "VolumeDriver.List")["Volumes"] == []


def test_it_takes_over_the_socket_of_systemd(tmp_path: Path) -> None:
    path = tmp_path / "theirs.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        # As systemd does it: the socket is descriptor 3 of exactly this process.
        taking = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3)\n"
            "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1'); os.execv(sys.argv[2], sys.argv[2:])"
        )
        command = [sys.executable, "-c", taking, str(listening.fileno()), *COMMAND, *places(tmp_path)]
        log = tmp_path / "log"
        with log.open("ab") as out:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                pass_fds=[listening.fileno()],
                env=processes.marked_environment(),
                start_new_session=True,
            )
        try:
            wait_until(lambda: b"listening" in log.read_bytes(), 30, "the plugin listens")
            assert ask(path, "Plugin.Activate")["Implements"] == ["VolumeDriver"]
        finally:
            process.terminate()
            code = process.wait(30)
    assert code == 0
    assert path.exists(), "systemd keeps its socket"


@pytest.mark.parametrize("place", ["relative", "/a,b", "/a b", '/a"b', "/a#b"])
def test_places_that_no_option_can_carry_are_refused(place: str, tmp_path: Path) -> None:
    refused = processes.run([*COMMAND, "--state", place], check=False, cwd=tmp_path)
    assert refused.returncode == 2
    assert "must be an absolute path without" in refused.stderr


def test_a_state_that_is_damaged_stops_it(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "state.json").write_text("{")
    refused = processes.run([*COMMAND, *places(tmp_path)], check=False)
    assert refused.returncode == 11
    assert "move it away" in refused.stderr


def test_install_writes_what_starts_this_very_command(tmp_path: Path) -> None:
    words = ["--units", str(tmp_path / "units"), "--discovery", str(tmp_path / "docker")]
    done = processes.run([*COMMAND, "install", *places(tmp_path), "--timeout", "20", *words])
    assert "systemctl enable --now docker-volume-cvmfs" in done.stdout
    service = (tmp_path / "units" / "docker-volume-cvmfs.service").read_text()
    assert f"--state {tmp_path}/state --timeout 20" in service
    removed = processes.run([*COMMAND, "uninstall", *places(tmp_path), *words])
    assert removed.stdout.count("removed") == 3
    assert not list((tmp_path / "units").iterdir())
