"""The volume plugin without Docker: its protocol, who counts as a user of a mount, and what survives a restart."""

import asyncio
import configparser
import json
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from nearfs.containers import installing, state
from nearfs.containers.mounting import Mounter
from nearfs.containers.naming import Volume
from nearfs.containers.protocol import VolumePlugin
from nearfs.containers.volumes import STARTING_LIMIT_S, Volumes
from nearfs.errors import Corrupt, Unreachable
from nearfs.mount_table import Entry

NAME = "lab.example.org@v1"
OTHER = "lab.example.org@v2"


@dataclass
class Kernel:
    """Stands for the machine: what is mounted, what a container shows, what cannot be reached."""

    mounted: set[str] = field(default_factory=set)
    seen: bool | None = False
    unreachable: bool = False
    mounts: int = 0
    gate: threading.Event | None = None
    entered: threading.Event = field(default_factory=threading.Event)
    forgotten: list[str] = field(default_factory=list)

    def point(self, volume: Volume) -> str:
        return f"/points/{volume.identity}"

    def shown(self, volume: Volume) -> Entry | None:
        point = self.point(volume)
        return Entry("0:7", point, "fuse", "cvmfs2") if point in self.mounted else None

    def is_seen_elsewhere(self, mount: Entry) -> bool | None:
        return self.seen

    def check(self, volume: Volume, deadline: float) -> None:
        pass

    def mount(self, volume: Volume, deadline: float) -> None:
        self.entered.set()
        if self.gate is not None:
            assert self.gate.wait(20)
        if self.unreachable:
            raise Unreachable("nobody answers")
        self.mounts += self.point(volume) not in self.mounted
        self.mounted.add(self.point(volume))

    def unmount(self, volume: Volume) -> None:
        self.mounted.discard(self.point(volume))

    def forget(self, volume: Volume) -> None:
        self.forgotten.append(volume.identity)


@dataclass
class Plugin:
    """A plugin on a machine; `restarted` is its successor on the same machine."""

    path: Path
    kernel: Kernel = field(default_factory=Kernel)
    boot: str = "one"
    now_s: float = 1000.0
    limit_s: float = 20.0
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.restarted()

    def restarted(self) -> None:
        kept = state.load(self.path / "state.json", self.boot)
        mounter = cast("Mounter", self.kernel)
        self.volumes = Volumes(kept, mounter, self.limit_s, self.said.append, lambda: self.now_s)
        self.volumes.recover()
        self.app = VolumePlugin(self.volumes, self.said.append)

    def ask(self, method: str, body: object = None, *, raw: bytes | None = None, verb: str = "POST") -> Any:
        """Returns status and document of one request."""
        sent: list[Any] = []
        content = json.dumps(body).encode() if raw is None else raw
        pieces = [content[at : at + 700_000] for at in range(0, len(content), 700_000)] or [b""]

        async def receive() -> dict[str, Any]:
            piece = pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(self.app({"type": "http", "method": verb, "path": f"/{method}"}, receive, send))
        assert dict(sent[0]["headers"])[b"content-type"] == b"application/vnd.docker.plugins.v1.2+json"
        return sent[0]["status"], json.loads(sent[1]["body"])

    def done(self, method: str, **request: object) -> Any:
        """Returns the document of a request that has to be fine."""
        status, document = self.ask(f"VolumeDriver.{method}", request)
        assert (status, document["Err"]) == (200, "")
        return document


@pytest.fixture
def plugin(tmp_path: Path) -> Plugin:
    made = Plugin(tmp_path)
    for name in (NAME, OTHER):
        made.done("Create", Name=name, Opts=None)
    return made


def test_the_protocol(plugin: Plugin) -> None:
    assert plugin.ask("Plugin.Activate") == (200, {"Implements": ["VolumeDriver"], "Err": ""})
    assert plugin.done("Capabilities")["Capabilities"] == {"Scope": "local"}
    assert plugin.done("Mount", Name=NAME, ID="a")["Mountpoint"] == f"/points/{NAME}"
    assert plugin.done("Path", Name=NAME)["Mountpoint"] == f"/points/{NAME}"
    assert plugin.done("Path", Name=OTHER)["Mountpoint"] == ""
    shown = plugin.done("Get", Name=NAME)["Volume"]
    assert shown["Status"] == {"repository": "lab.example.org", "tag": "v1", "containers": 1}
    assert (shown["Name"], shown["Mountpoint"]) == (NAME, f"/points/{NAME}")
    listed = plugin.done("List")["Volumes"]
    assert listed == [{"Name": NAME, "Mountpoint": f"/points/{NAME}"}, {"Name": OTHER, "Mountpoint": ""}]
    plugin.done("Unmount", Name=NAME, ID="a")
    plugin.done("Remove", Name=NAME)
    assert plugin.ask("VolumeDriver.Get", {"Name": NAME}) == (500, {"Err": f"no such volume: {NAME}"})
    assert plugin.kernel.forgotten == [NAME]


@pytest.mark.parametrize(
    ("method", "raw", "status", "words"),
    [
        ("VolumeDriver.Snapshot", b"{}", 404, "not of this protocol"),
        ("VolumeDriver.Mount", b"{", 400, "no JSON"),
        ("VolumeDriver.Mount", b"[" * 100_000, 400, "no JSON"),
        ("VolumeDriver.Mount", b"[]", 400, "no JSON object"),
        ("VolumeDriver.Mount", b"\xff", 400, "no JSON"),
        ("VolumeDriver.Mount", b'{"Name": 7}', 400, "printable"),
        ("VolumeDriver.Mount", b'{"Name": "a", "ID": []}', 400, "ID"),
        ("VolumeDriver.Create", b'{"Name": "a", "Opts": {"tag": 1}}', 400, "names with texts"),
        ("VolumeDriver.Create", b'{"Name": "a", "Opts": []}', 400, "not fully qualified"),
        ("VolumeDriver.Create", b'{"Name": "a"}' + b" " * (1 << 20), 400, "larger than"),
    ],
)
def test_requests_that_are_none(plugin: Plugin, method: str, raw: bytes, status: int, words: str) -> None:
    answered, document = plugin.ask(method, raw=raw)
    assert answered == status
    assert words in document["Err"]


def test_only_post_is_a_request(plugin: Plugin) -> None:
    assert plugin.ask("Plugin.Activate", verb="GET")[0] == 404


def test_a_mount_is_one_and_goes_with_its_last_user(plugin: Plugin) -> None:
    plugin.done("Create", Name="same", Opts={"repository": "lab.example.org", "tag": "v1"})
    for name, who in ((NAME, "a"), (NAME, "b"), ("same", "c"), (NAME, "a")):
        plugin.done("Mount", Name=name, ID=who)
    assert plugin.kernel.mounts == 1
    for name, who in ((NAME, "a"), (NAME, "b"), ("same", "c")):
        plugin.done("Unmount", Name=name, ID=who)
        assert plugin.kernel.mounted == {f"/points/{NAME}"}, "a asked twice, and gave back once"
    plugin.done("Unmount", Name=NAME, ID="nobody")
    assert plugin.kernel.mounted == {f"/points/{NAME}"}
    plugin.done("Unmount", Name=NAME, ID="a")
    assert plugin.kernel.mounted == set()


def test_a_volume_that_is_used_or_shared_stays(plugin: Plugin) -> None:
    plugin.done("Create", Name="same", Opts={"repository": "lab.example.org", "tag": "v1"})
    plugin.done("Mount", Name=NAME, ID="a")
    plugin.done("Remove", Name="same")
    assert plugin.kernel.mounted == {f"/points/{NAME}"}
    assert plugin.kernel.forgotten == []
    status, document = plugin.ask("VolumeDriver.Remove", {"Name": NAME})
    assert status == 500
    assert "in use by 1 container" in document["Err"]


def test_a_name_keeps_its_meaning(plugin: Plugin) -> None:
    plugin.done("Create", Name=NAME, Opts={})
    status, document = plugin.ask("VolumeDriver.Create", {"Name": NAME, "Opts": {"CVMFS_TIMEOUT": "9"}})
    assert status == 500
    assert f"docker volume rm {NAME}" in document["Err"]


def test_a_mount_that_fails_leaves_no_user(plugin: Plugin) -> None:
    plugin.kernel.unreachable = True
    assert plugin.ask("VolumeDriver.Mount", {"Name": NAME, "ID": "a"}) == (500, {"Err": "nobody answers"})
    assert state.load(plugin.path / "state.json", plugin.boot).users == {}


def test_who_waits_too_long_for_another_is_told(plugin: Plugin) -> None:
    plugin.kernel.gate = threading.Event()
    first = threading.Thread(target=lambda: plugin.done("Mount", Name=NAME, ID="a"))
    first.start()
    assert plugin.kernel.entered.wait(20)
    plugin.volumes._limit_s = 0.05
    status, document = plugin.ask("VolumeDriver.Mount", {"Name": NAME, "ID": "b"})
    plugin.kernel.gate.set()
    first.join(20)
    assert status == 500
    assert "takes too long" in document["Err"]
    assert set(state.load(plugin.path / "state.json", plugin.boot).users[NAME]) == {"a"}


def test_users_survive_the_plugin_and_not_the_machine(plugin: Plugin) -> None:
    plugin.done("Mount", Name=NAME, ID="a")
    plugin.restarted()
    assert plugin.kernel.mounted == {f"/points/{NAME}"}
    plugin.done("Mount", Name=NAME, ID="b")
    plugin.done("Unmount", Name=NAME, ID="a")
    assert plugin.kernel.mounted == {f"/points/{NAME}"}
    plugin.boot = "two"
    plugin.restarted()
    assert plugin.kernel.mounted == set()
    assert plugin.done("Get", Name=NAME)["Volume"]["Status"]["containers"] == 0


def test_a_request_that_was_never_answered_does_not_count(plugin: Plugin) -> None:
    plugin.kernel.gate = threading.Event()
    asking = threading.Thread(target=lambda: plugin.done("Mount", Name=NAME, ID="a"))
    asking.start()
    assert plugin.kernel.entered.wait(20)
    kept = (plugin.path / "state.json").read_bytes()
    plugin.kernel.gate.set()
    asking.join(20)
    (plugin.path / "state.json").write_bytes(kept)  # the plugin was killed before it answered
    plugin.kernel.gate = None
    plugin.restarted()
    assert plugin.kernel.mounted == set()
    plugin.done("Mount", Name=NAME, ID="a")  # Docker asks again
    plugin.done("Unmount", Name=NAME, ID="a")
    assert plugin.kernel.mounted == set()


@pytest.mark.parametrize(
    ("seen", "later_s", "stays"),
    [(False, STARTING_LIMIT_S + 1, False), (True, STARTING_LIMIT_S + 1, True), (None, STARTING_LIMIT_S + 1, True),
     (False, STARTING_LIMIT_S - 1, True)],
)  # fmt: skip
def test_users_that_docker_lost_are_found_out(plugin: Plugin, seen: bool | None, later_s: float, stays: bool) -> None:
    plugin.done("Mount", Name=NAME, ID="a")
    plugin.kernel.seen = seen
    plugin.now_s += later_s
    plugin.restarted()
    assert bool(plugin.kernel.mounted) is stays


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 2}', '{"version": 1, "boot": "x", "volumes": {"a": 1}}'])
def test_a_state_that_is_none_is_not_forgotten(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(Corrupt, match="move it away"):
        state.load(tmp_path / "state.json", "x")


def test_systemd_keeps_clients_and_docker_finds_the_socket(tmp_path: Path) -> None:
    units, discovery = tmp_path / "units", tmp_path / "plugins"
    wanted = installing.files(["/a b/docker-volume-cvmfs", "--x"], Path("/run/s.sock"), 60, units, discovery)
    installing.write(wanted)
    service, listening = (configparser.ConfigParser(strict=False, interpolation=None) for _ in range(2))
    service.read(units / "docker-volume-cvmfs.service")
    listening.read(units / "docker-volume-cvmfs.socket")
    assert service["Service"]["KillMode"] == "process"
    assert service["Service"]["ExecStart"] == "'/a b/docker-volume-cvmfs' --x"
    assert int(service["Service"]["TimeoutStopSec"]) > 60
    # A mount namespace of its own would hide the plugin's mounts from Docker.
    assert not [key for key in service["Service"] if key.startswith(("private", "protect", "readonly"))]
    assert listening["Socket"]["ListenStream"] == "/run/s.sock"
    assert (discovery / "cvmfs.spec").read_text() == "unix:///run/s.sock\n"
    assert sorted(installing.remove(wanted)) == sorted(wanted)
    assert not (discovery / "cvmfs.spec").exists()
