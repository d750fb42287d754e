"""The volume plugin with a real Docker engine: the talk's command lines, revisions side by side, deaths, and words."""

import contextlib
import json
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import docker, processes, publishing, serving
from tests.support import site as sites
from tests.support.golden import PROJECT, Golden, missing
from tests.support.waiting import wait_until

APPS = "myapps.example.com"
GOLDEN = "golden.example.org"
POINTS = "/var/lib/docker-volume-cvmfs/mounts"
LIMIT_S = 15
pytestmark = pytest.mark.mount


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[publishing.Publisher]:
    """Two revisions of the talk's repository, the first one tagged."""
    with publishing.publishing(tmp_path_factory.mktemp("publisher"), APPS) as made:
        made.create()
        with made.transaction("-a", "v1") as union:
            (union / "version").write_text("one\n")
            (union / "long").write_bytes(b"x" * 4_000_000)
        with made.transaction("-a", "v2") as union:
            (union / "version").write_text("two\n")
        yield made


@pytest.fixture(scope="module")
def machine(
    publisher: publishing.Publisher, golden: Golden, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[docker.Machine]:
    """A machine with an engine and a plugin, whose /etc/cvmfs knows both repositories."""
    scratch = tmp_path_factory.mktemp("docker")
    made = sites.make(scratch / "site")
    made.write(
        "default.local",
        {"CVMFS_USER": sites.USER, "CVMFS_HTTP_PROXY": "DIRECT", "CVMFS_CACHE_BASE": sites.CACHE_BASE},
    )
    with contextlib.ExitStack() as stack:
        for fqrn, storage, key in (
            (APPS, publisher.storage, publisher.public_key),
            (GOLDEN, golden.repositories[GOLDEN].storage, golden.repositories[GOLDEN].public_key),
        ):
            keys = made.etc / "keys" / fqrn
            keys.mkdir(parents=True)
            (keys / f"{fqrn}.pub").write_bytes(key.read_bytes())
            served = stack.enter_context(serving.serving(storage.parent, scratch / f"serving-{fqrn}"))
            settings = {"CVMFS_SERVER_URL": f"{served.url}/cvmfs/@fqrn@", "CVMFS_KEYS_DIR": f"/etc/cvmfs/keys/{fqrn}"}
            domain = fqrn.partition(".")[2]
            made.write(f"domain.d/{domain}.conf", {**settings, "CVMFS_MAGIC_XATTRS_VISIBILITY": "never"})
        options = ["--timeout", str(LIMIT_S), "--verbose"]
        yield stack.enter_context(docker.machine(made, scratch / "engine", options))


@pytest.fixture(autouse=True)
def clean(machine: docker.Machine) -> Iterator[None]:
    """Every test leaves no container, and with the last one no mount."""
    yield
    left = machine.docker("ps", "-aq").stdout.split()
    if left:
        machine.docker("rm", "-f", *left)
    machine.docker("volume", "rm", *machine.docker("volume", "ls", "-q").stdout.split(), check=False)
    assert machine.docker("volume", "ls", "-q").stdout == ""
    wait_until(lambda: not machine.mounts(), 20, "no volume is mounted")


def test_the_command_lines_of_the_talk(machine: docker.Machine) -> None:
    run = machine.container("--rm", "--volume-driver", "cvmfs")
    newest = machine.docker(*run, "-v", f"{APPS}:/myapps", docker.IMAGE, "cat", "/myapps/version")
    older = machine.docker(*run, "-v", f"{APPS}@trunk-previous:/myapps", docker.IMAGE, "cat", "/myapps/version")
    assert (newest.stdout, older.stdout) == ("two\n", "one\n")
    wait_until(lambda: not machine.mounts(), 20, "the last container's volume is unmounted")


def held(machine: docker.Machine, volume: str, *command: str) -> str:
    """Starts a container that stays; returns its name."""
    options = machine.container("-d", "--volume-driver", "cvmfs", "-v", f"{volume}:/myapps", docker.IMAGE)
    return machine.docker(*options, *(command or ("sleep", "10000"))).stdout.strip()


def version(machine: docker.Machine, container: str) -> str:
    return machine.docker("exec", container, "cat", "/myapps/version").stdout


def end(machine: docker.Machine, container: str) -> None:
    machine.docker("rm", "-f", container)


def test_revisions_side_by_side_and_one_mount_each(machine: docker.Machine, publisher: publishing.Publisher) -> None:
    root_hash = publisher.tags()["v1"][0]
    machine.docker(
        *("volume", "create", "-d", "cvmfs", "--name", "free", "-o", f"repository={APPS}", "-o", "tag=v1"),
        *("-o", "CVMFS_CLAIM_OWNERSHIP=yes"),
    )
    first, second = held(machine, f"{APPS}@v1"), held(machine, f"{APPS}@v2")
    again, by_hash = held(machine, f"{APPS}@v1"), held(machine, f"{APPS}@{root_hash}")
    dated, free = held(machine, f"{APPS}#2100-01-01"), held(machine, "free")
    containers = (first, second, again, by_hash, dated, free)
    shown = [version(machine, container) for container in containers]
    assert shown == ["one\n", "two\n", "one\n", "one\n", "two\n", "one\n"]
    points = [f"{POINTS}/{APPS}{end}" for end in ("@v1", "@v2", f"@{root_hash}", "#21000101T000000Z")]
    mounted = machine.mounts()
    assert len(mounted) == 5
    assert set(points) < set(mounted)
    owners = [machine.docker("exec", one, "stat", "-c", "%u", "/myapps/version").stdout for one in (first, free)]
    assert owners == ["0\n", "65534\n"]
    inspected = json.loads(machine.docker("volume", "inspect", f"{APPS}@v1").stdout)[0]
    assert inspected["Mountpoint"] == points[0]
    assert inspected["Status"] == {"repository": APPS, "tag": "v1", "containers": 2}
    # Docker asks for a mount under the same identifier a second time to copy, and gives it back.
    machine.docker("cp", f"{first}:/myapps/version", "-")
    end(machine, again)
    assert version(machine, first) == "one\n"
    busy = machine.docker("volume", "rm", f"{APPS}@v1", check=False)
    assert "volume is in use" in busy.stderr
    listed = machine.run(sys.executable, "-m", "nearfs.compat.docker_volume_cvmfs", "list").stdout
    assert re.search(rf"^{APPS}@v1 +{APPS} at tag v1 +1 +{points[0]}$", listed, re.MULTILINE)
    end(machine, first)
    wait_until(lambda: points[0] not in machine.mounts(), 20, "the first revision is unmounted")
    assert version(machine, second) == "two\n"


@pytest.mark.skipif(missing() is not None, reason="no golden repositories")
@pytest.mark.parametrize("user", ["root", "ordinary"])
def test_a_container_sees_the_golden_tree(machine: docker.Machine, golden: Golden, user: str) -> None:
    python = Path(sys.executable).resolve()
    shared = [f"{path}:{path}:ro" for path in (sys.base_prefix, "/usr/lib", "/lib64", "/lib")]
    options = [word for volume in (*shared, f"{golden.manifest}:/manifest.py:ro") for word in ("-v", volume)]
    run = machine.container("--rm", "--user", user, "--volume-driver", "cvmfs", *options)
    done = machine.docker(*run, "-v", f"{GOLDEN}@v2:/golden", docker.IMAGE, python, "/manifest.py", "/golden")
    shown = [json.loads(line) for line in done.stdout.splitlines()]
    assert shown == list(golden.repositories[GOLDEN].listing("v2"))


def test_a_plugin_that_dies_and_its_successor(machine: docker.Machine) -> None:
    reading = "while md5sum /myapps/long >/tmp/sum; do cat /tmp/sum /myapps/version; sleep 0.05; done; echo failed"
    first = held(machine, f"{APPS}@v1", "sh", "-c", reading)
    before = len(machine.docker("logs", first).stdout)
    machine.kill_plugin()
    wait_until(lambda: len(machine.docker("logs", first).stdout) > before + 200, 30, "the container reads on")
    machine.start_plugin()
    second = held(machine, f"{APPS}@v1")
    assert machine.mounts() == [f"{POINTS}/{APPS}@v1"]
    assert "failed" not in machine.docker("logs", first).stdout
    end(machine, first)
    assert version(machine, second) == "one\n"
    end(machine, second)
    wait_until(lambda: not machine.mounts(), 20, "the last container's volume is unmounted")


def test_a_client_that_dies_is_replaced_for_the_next_container(machine: docker.Machine) -> None:
    first = held(machine, f"{APPS}@v1")
    talk = f"/var/lib/docker-volume-cvmfs/clients/{APPS}@v1/workspace/cvmfs_io.{APPS}"
    client = [machine.run("cvmfs_talk", "-p", talk, *who).stdout.strip() for who in (["pid", "watchdog"], ["pid"])]
    # The one that would clean up after the other dies as well, first.
    machine.run("kill", "-9", *client)
    assert machine.mounts() == [f"{POINTS}/{APPS}@v1"]
    failed = machine.docker("exec", first, "cat", "/myapps/version", check=False)
    assert failed.returncode == 1
    assert "not connected" in failed.stderr
    second = held(machine, f"{APPS}@v1")
    assert version(machine, second) == "one\n"
    end(machine, first)
    assert version(machine, second) == "one\n"


def test_an_engine_that_dies_finds_its_volumes(machine: docker.Machine) -> None:
    first = held(machine, f"{APPS}@v1")
    machine.kill_engine()
    machine.start_engine()
    assert version(machine, first) == "one\n"
    second = held(machine, f"{APPS}@v1")
    end(machine, first)
    assert version(machine, second) == "one\n"
    assert machine.mounts() == [f"{POINTS}/{APPS}@v1"]


def test_docker_finds_the_plugin_by_what_install_writes(machine: docker.Machine) -> None:
    places = ("--socket", "/run/elsewhere/plugin.sock")
    command = (sys.executable, "-m", "nearfs.compat.docker_volume_cvmfs")
    try:
        machine.run(*command, "install", *places, "--units", "/mnt/units")
        machine.restart_plugin(*places)
        machine.kill_engine()  # it keeps in mind where a plugin was
        machine.start_engine()
        assert version(machine, held(machine, f"{APPS}@v1")) == "one\n"
    finally:
        machine.run(*command, "uninstall", *places, "--units", "/mnt/units")
        machine.restart_plugin(*machine.plugin_options)
        machine.kill_engine()
        machine.start_engine()


def test_what_goes_wrong_is_said_by_docker_run(machine: docker.Machine) -> None:
    def complaint(volume: str) -> str:
        options = machine.container("--rm", "--volume-driver", "cvmfs", "-v", f"{volume}:/myapps")
        failed = machine.docker(*options, docker.IMAGE, "true", check=False)
        assert failed.returncode == 125
        return failed.stderr

    assert "no configuration for other.example.net: CVMFS_SERVER_URL is not set" in complaint("other.example.net")
    unknown = complaint("unknown.example.com")
    assert "cannot mount unknown.example.com: " in unknown
    assert "HTTP status 404 Not Found" in unknown
    assert "is the name of the repository right?" in unknown
    assert f"cannot mount {APPS} at tag v3: " in complaint(f"{APPS}@v3")
    assert "no such tag: v3" in complaint(f"{APPS}@v3")
    assert "'v1@v2' is no tag" in complaint(f"{APPS}@v1@v2")
    assert "is no date: write 2026-01-31" in complaint(f"{APPS}#yesterday")

    def create(name: str, *options: str) -> str:
        words = [word for option in (f"repository={APPS}", *options) for word in ("-o", option)]
        return machine.docker("volume", "create", "-d", "cvmfs", "--name", name, *words, check=False).stderr

    assert "a volume has no option 'CVMFS_PUBLIC_KEY'" in create("keys", "CVMFS_PUBLIC_KEY=/tmp/key")
    assert "more than one revision" in create("both", "tag=v1", "date=2026-01-31")
    refusing = f"http://127.0.0.1:{serving.free_port()}/@fqrn@"
    assert create("refused", "tag=v1", f"CVMFS_SERVER_URL={refusing}") == ""
    said = complaint("refused")
    assert "Connection refused" in said
    assert "is the network up" in said
    assert machine.mounts() == []


def test_a_silent_network_is_waited_for_as_long_as_configured(machine: docker.Machine) -> None:
    machine.restart_plugin("--timeout", "3")
    try:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"http://127.0.0.1:{silent.getsockname()[1]}/@fqrn@"
            options = ["-o", f"CVMFS_SERVER_URL={url}", "-o", "CVMFS_TIMEOUT_DIRECT=300", "-o", "CVMFS_TIMEOUT=300"]
            machine.docker("volume", "create", "-d", "cvmfs", "--name", "silent", "-o", f"repository={APPS}", *options)
            run = machine.container("--rm", "-v", "silent:/myapps", docker.IMAGE, "true")
            failed = machine.docker(*run, check=False, limit=60)
        assert "no answer from any server or proxy within 3 s: is the network up?" in failed.stderr
        assert machine.mounts() == []
        assert [running for running in processes.of_this_run() if "mount_cvmfs" in running.command] == []
    finally:
        machine.restart_plugin(*machine.plugin_options)


def test_a_bind_of_what_the_machine_mounts(machine: docker.Machine) -> None:
    """Is how engines without the plugin do it; a mount that comes later is seen in the container, too."""
    bound = f"{sites.MOUNT_DIR}:/cvmfs:ro,rslave"
    container = machine.docker(*machine.container("-d", "-v", bound), docker.IMAGE, "sleep", "10000").stdout.strip()
    point, own = f"{sites.MOUNT_DIR}/{GOLDEN}", f"{sites.MOUNT_DIR}/own"
    script = PROJECT / "docs" / "examples" / "containers" / "own-mount.sh"
    try:
        machine.run("mkdir", "-p", point, own)
        machine.run("mount", "-t", "cvmfs", GOLDEN, point)
        machine.run("env", "HOME=/mnt", script, APPS, "v1", own)
        shown = [
            machine.docker("exec", container, "cat", f"/cvmfs/{path}").stdout
            for path in (f"{GOLDEN}/hello.txt", f"{GOLDEN}/.cvmfs/snapshots/v1/hello.txt", "own/version")
        ]
        assert shown == ["hello again\n", "hello world\n", "one\n"]
    finally:
        machine.run("umount", "-l", point, own, check=False)


def test_an_image_starts_from_a_repository(machine: docker.Machine, tmp_path: Path) -> None:
    """Root on the mount, an overlay above it: what no container reads is not fetched."""
    fqrn = "images.example.com"
    machine.docker("save", "-o", tmp_path / "small.tar", docker.IMAGE)
    with publishing.publishing(tmp_path / "images", fqrn) as made:
        made.create()
        command = [sys.executable, "-m", "nearfs.cli.main", "image", "unpack", str(tmp_path / "small.tar"), fqrn]
        processes.run(command, env=made.environment, cwd=Path("/"))
        with serving.serving(made.storage.parent, tmp_path / "serving") as served:
            settings = made.client_settings(served.url, tmp_path / "cache", CVMFS_SHARED_CACHE="no")
            override = tmp_path / "override"
            override.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
            point = f"{sites.MOUNT_DIR}/{fqrn}"
            script = _RUN_FROM_MOUNT.format(
                override=override, fqrn=fqrn, point=point, group=machine.name, edit=_EDIT, python=sys.executable
            )
            try:
                done = machine.run("sh", "-c", script)
            finally:
                machine.run("umount", "-l", "/mnt/bundle/rootfs", point, check=False)
            fetched_bytes = sum(request["bytes"] for request in served.requests())
    assert 100_000 < fetched_bytes < docker.UNREAD_BYTES
    assert done.stdout.splitlines()[-3:] == ["uid=0(root) gid=0", "written", "before"]


_EDIT = """
import json, sys
spec = json.load(open("config.json"))
spec["process"].update(args=sys.argv[2:], terminal=False)
spec["root"]["readonly"] = False
spec["linux"]["cgroupsPath"] = sys.argv[1]
json.dump(spec, open("config.json", "w"))
"""
_RUN_FROM_MOUNT = """
set -e
mkdir -p {point} /mnt/bundle/rootfs /mnt/bundle/upper /mnt/bundle/work
cd /mnt/bundle
cvmfs2 -o override={override},allow_other {fqrn} {point}
lower=$(readlink -f {point}/docker.io/library/small:latest)
mount -t overlay -o lowerdir=$lower,upperdir=upper,workdir=work overlay rootfs
runc spec
{python} -c '{edit}' /{group}/image /bin/sh -c 'id; echo written >/tmp/file; cat /tmp/file; ls /taken'
mkdir /mnt/runc
runc --root /mnt/runc run from-mount
"""
