"""Container images, measured: `python -m bench.image [--tree DIR] [--rtt MS] [--rate MBIT] [--rounds N] [--keep]`.

An image of one layer (a Debian made by debootstrap, or a tree that is there) is unpacked into a repository and served
at the far end of an emulated line. At the near end, with nothing cached, a client mounts it and `runc` starts a
container with its root on the mount; the rival fetches the same layer, deflated, unpacks it with tar, and starts the
same container: the least that any engine does with an image. Prints seconds and bytes until the container has answered;
`--keep` writes a result.

Owns the story and its arithmetic. Needs root, FUSE, `runc`, and `debootstrap` without `--tree`. Runs in mount and
process namespaces of its own. Main thread only.
"""

import argparse
import contextlib
import gzip
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.harness import enclosure, ours
from bench.harness.machine import write_result
from bench.harness.processes import drop_kernel_caches
from bench.harness.result import LineKey
from bench.lab import line as lines
from bench.lab import servers
from bench.lab.line import Line

FQRN = "images.example.org"
NAME = "bench:latest"
ANSWERS = {"shell": ("/bin/sh", "-c", "echo answer"), "python": ("/usr/bin/python3", "-c", "print('answer')")}
_DEBIAN = ("debootstrap", "--variant=minbase", "--include=python3,perl,gcc", "stable")
_GROUP = "nearfs-bench-image"
_LIMIT_S = 1800


@dataclass
class Place:
    """The directories of one run."""

    home: Path

    @property
    def prefix(self) -> Path:
        """Returns the publisher's directory."""
        return self.home / "publisher"

    @property
    def layout(self) -> Path:
        """Returns the image as it comes."""
        return self.home / "layout"

    @property
    def storage(self) -> Path:
        """Returns the repository as it is served."""
        return self.prefix / "srv" / "cvmfs"

    def fresh(self, name: str) -> Path:
        """Returns an empty directory."""
        path = self.home / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path


def _run(*words: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=_LIMIT_S, cwd=cwd)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, words))}: failed\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def make_image(tree: Path, layout: Path) -> tuple[Path, int]:
    """Writes an OCI layout of one layer; returns the layer's file, deflated, and the size of its tar."""
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    plain = layout / "layer.tar"
    with tarfile.open(plain, "w") as archive:
        for name in sorted(os.listdir(tree)):
            archive.add(tree / name, name)
    size = plain.stat().st_size
    deflated = layout / "layer.tar.gz"
    with plain.open("rb") as source, gzip.GzipFile(deflated, "wb", compresslevel=6, mtime=0) as out:
        shutil.copyfileobj(source, out, 1 << 20)
    diff_id = _digest(plain)
    plain.unlink()

    def put(path: Path, media: str) -> dict[str, Any]:
        digest = _digest(path)
        described: dict[str, Any] = {
            "mediaType": f"application/vnd.oci.image.{media}",
            "digest": f"sha256:{digest}",
        }
        described |= {"size": path.stat().st_size}
        path.rename(blobs / digest)
        return described

    def document(content: dict[str, Any], media: str) -> dict[str, Any]:
        path = layout / "document"
        path.write_text(json.dumps(content))
        return put(path, media)

    layer = put(deflated, "layer.v1.tar+gzip")
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{diff_id}"]}
    config = document({"os": "linux", "architecture": "any", "rootfs": rootfs}, "config.v1+json")
    manifest = document({"schemaVersion": 2, "config": config, "layers": [layer]}, "manifest.v1+json")
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
    return blobs / str(layer["digest"]).removeprefix("sha256:"), size


def _digest(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def publish(place: Place) -> float:
    """Unpacks the image into a repository of its own; returns the seconds."""
    for words in (["cvmfs_server", "mkfs", "-p", "-o", "root", FQRN],):
        _check(ours.run(words, place.prefix, _LIMIT_S))
    begun = time.perf_counter()
    _check(ours.run(["nearfs", "image", "unpack", str(place.layout), FQRN, "--name", NAME], place.prefix, _LIMIT_S))
    return time.perf_counter() - begun


def _check(done: "subprocess.CompletedProcess[str]") -> None:
    if done.returncode:
        raise SystemExit(f"{done.args}: failed\n{done.stdout}{done.stderr}")


def start(place: Place, root: Path, command: tuple[str, ...]) -> None:
    """Runs a container with this root until it has answered."""
    bundle = place.fresh("bundle")
    _run("runc", "spec", cwd=bundle)
    spec = json.loads((bundle / "config.json").read_text())
    spec["root"] = {"path": str(root), "readonly": False}
    spec["process"] |= {"args": list(command), "terminal": False}
    spec["linux"]["cgroupsPath"] = f"/{_GROUP}/container"
    (bundle / "config.json").write_text(json.dumps(spec))
    said = _run("runc", "--root", str(place.home / "runc"), "run", "-b", str(bundle), "image")
    if said.strip() != "answer":
        raise SystemExit(f"the container said {said!r}")


@contextlib.contextmanager
def mounted(place: Place, line: Line, url: str) -> Iterator[Path]:
    """Mounts the repository with an empty cache, and an overlay above the image; yields the container's root."""
    point, root = place.fresh("mount"), place.fresh("root")
    upper, work, cache = place.fresh("upper"), place.fresh("work"), place.fresh("cache")
    override = place.home / "override"
    key = place.prefix / "etc" / "cvmfs" / "keys" / f"{FQRN}.pub"
    override.write_text(
        f"CVMFS_SERVER_URL={url}/cvmfs/{FQRN}\nCVMFS_HTTP_PROXY=DIRECT\nCVMFS_PUBLIC_KEY={key}\n"
        f"CVMFS_CACHE_BASE={cache}\nCVMFS_SUID=yes\nCVMFS_CLAIM_OWNERSHIP=no\n"
    )
    client = line.near_command(str(ours.BIN / "cvmfs2"), "-o", f"override={override},allow_other", FQRN, str(point))
    _run(*client)
    try:
        lower = os.path.realpath(point / "docker.io" / "library" / NAME)
        _run("mount", "-t", "overlay", "-o", f"lowerdir={lower},upperdir={upper},workdir={work}", "overlay", root)
        yield root
    finally:
        for place_of_mount in (root, point):
            subprocess.run(["umount", place_of_mount], check=False, capture_output=True, timeout=_LIMIT_S)


def from_repository(place: Place, line: Line, url: str, command: tuple[str, ...]) -> dict[str, float]:
    """Returns seconds and bytes until a container on the mount has answered, and the seconds of a second one."""
    drop_kernel_caches()
    before, begun = line.traffic(), time.perf_counter()
    with mounted(place, line, url) as root:
        start(place, root, command)
        wall = time.perf_counter() - begun
        crossed = line.traffic().down_bytes - before.down_bytes
        begun = time.perf_counter()
        start(place, root, command)
        return {"wall_s": wall, "bytes": crossed, "again_s": time.perf_counter() - begun}


def from_copy(place: Place, line: Line, url: str, command: tuple[str, ...]) -> dict[str, float]:
    """Returns seconds and bytes until a container in the unpacked copy has answered."""
    root, copy = place.fresh("root"), place.home / "copy"
    drop_kernel_caches()
    before, begun = line.traffic(), time.perf_counter()
    _run(*line.near_command("curl", "-sSf", "-o", str(copy), url))
    fetched = time.perf_counter() - begun
    _run("tar", "-C", root, "-xzf", copy)
    start(place, root, command)
    crossed = line.traffic().down_bytes - before.down_bytes
    figures = {"wall_s": time.perf_counter() - begun, "bytes": crossed, "fetch_s": fetched}
    place.fresh("root")  # now, lest it costs whoever comes next
    copy.unlink()
    return figures


@contextlib.contextmanager
def serving_file(line: Line, address: str, file: Path) -> Iterator[str]:
    """Serves a directory with one file at the far end; yields the file's URL."""
    words = [sys.executable, "-m", "http.server", "8099", "--bind", address, "--directory", str(file.parent)]
    server = subprocess.Popen(line.far_command(*words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = f"http://{address}:8099/{file.name}"
        _run(*line.far_command("curl", "-sSf", "--retry", "20", "--retry-connrefused", "-I", "-o", "/dev/null", url))
        yield url
    finally:
        server.kill()
        server.wait()


def measure(options: argparse.Namespace, place: Place) -> dict[str, Any]:
    """Returns what was measured."""
    tree = options.tree
    if tree is None:
        tree = place.home / "debian"
        _run(*_DEBIAN, tree)
        shutil.rmtree(tree / "var" / "cache" / "apt", ignore_errors=True)
    layer, tar_bytes = make_image(tree, place.layout)
    unpack_s = publish(place)
    about = {"tar_bytes": tar_bytes, "layer_bytes": layer.stat().st_size, "unpack_s": unpack_s}
    rounds: list[dict[str, dict[str, float]]] = []
    key = LineKey(options.rtt, options.rate)
    with lines.up(key, f"nearfs-image-{os.getpid()}") as line, contextlib.ExitStack() as stack:
        home = place.fresh("server")
        web = stack.enter_context(servers.nearfs_serve(home, line, place.storage))
        url = stack.enter_context(serving_file(line, web.url.split("/")[2].rpartition(":")[0], layer))
        for number in range(options.rounds):
            cells = {name: from_repository(place, line, web.url, command) for name, command in ANSWERS.items()}
            cells["shell, copied"] = from_copy(place, line, url, ANSWERS["shell"])
            rounds.append(cells)
            print(f"round {number + 1} of {options.rounds} is done", file=sys.stderr)
    return {"line": str(key), **about, "rounds": rounds}


def _remove_groups() -> None:
    for path in Path("/sys/fs/cgroup").rglob(_GROUP):
        with contextlib.suppress(OSError):
            path.rmdir()


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints and returns the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="bench.image", description="Measures starting containers.")
    parser.add_argument("--tree", type=Path, help="root file system of the image; otherwise debootstrap makes one")
    enclosure.add_options(parser)
    options = parser.parse_args(words)
    home = enclosure.home()
    if home is None:
        try:
            return enclosure.enter("bench.image", words, options.directory)
        finally:
            _remove_groups()
    absent = [name for name in ("runc", "curl", *(() if options.tree else (_DEBIAN[0],))) if not shutil.which(name)]
    if absent:
        raise SystemExit(f"not installed: {', '.join(absent)} (ci/setup lab installs what is missing)")
    enclosure.prepare()
    found = measure(options, Place(home))
    sizes = f"{found['tar_bytes'] / 1e6:.0f} MB, {found['layer_bytes'] / 1e6:.0f} MB deflated"
    print(f"image of {sizes}, unpacked in {found['unpack_s']:.1f} s; {found['line']}")
    for cell in found["rounds"][0]:
        wall = [one[cell]["wall_s"] for one in found["rounds"]]
        crossed = statistics.median(one[cell]["bytes"] for one in found["rounds"])
        spread = f"{min(wall):.2f} to {max(wall):.2f}"
        print(f"{cell}: {statistics.median(wall):.2f} s ({spread}), {crossed / 1e6:.1f} MB")
    if options.keep:
        print(write_result("image", found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
