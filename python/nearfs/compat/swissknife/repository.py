"""Stored repositories: info, check, pull, lsrepo, tag_list, dirtab.

Owns: their options. Threading: a short-lived command, one thread.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from nearfs.cli import output, snapshot_cmd, stored_cmd, tag_cmd
from nearfs.cli.stored_cmd import Shown, Stored
from nearfs.compat.server.words import UsageError
from nearfs.compat.swissknife.verbs import Letters
from nearfs.publish.places import Places
from nearfs.publish.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Sequence

_FACTS = "cCntmvgoMRe"


def info(words: Sequence[str]) -> int:
    """Prints facts of a repository."""
    options = Letters("info", words, "r:u:l:cCntmvgohLXMRe", "r")
    for letter in "LX":
        if options.has(letter):
            raise UsageError(f"info: option -{letter} is not available in this version")
    wanted = "".join(letter for letter in _FACTS if options.has(letter))
    place = Stored(options.value("r"))
    return stored_cmd.info(place, wanted, labels=options.has("h"), mountpoint=options.value("u"))


def check(words: Sequence[str]) -> int:
    """Verifies the catalogs of a local storage; -c looks for data objects as well."""
    options = Letters("check", words, "r:n:t:l:s:k:z:N:R:cdLa", "r")
    return stored_cmd.check(
        Stored(options.value("r")), tag=options.value("n"), subtree=options.value("s"), check_chunks=options.has("c")
    )


def pull(words: Sequence[str]) -> int:
    """Brings a storage up to date with its source, as a script of old does it: without locks and marks."""
    options = Letters("pull", words, "u:m:r:k:x:R:w:n:l:t:a:d:Z:pizc", "umrkx")
    if options.has("c"):
        raise UsageError("pull: preloaded caches (-c) are not available in this version")
    kind, *places = options.value("r").split(",")
    if kind != "local" or len(places) != 2:
        raise UsageError("pull: -r has to be local,<temporary directory>,<storage>")
    checksum = options.value("R")
    settings = {
        "CVMFS_REPOSITORY_TYPE": "stratum1",
        "CVMFS_REPOSITORY_NAME": options.value("m"),
        "CVMFS_STRATUM0": options.value("u"),
        "CVMFS_UPSTREAM_STORAGE": options.value("r"),
        "CVMFS_PUBLIC_KEY": options.value("k"),
        # The checksum of the reference log, and what tells of a power cut.
        "CVMFS_SPOOL_DIR": os.path.dirname(checksum) if checksum else options.value("x"),
        "CVMFS_NUM_WORKERS": options.value("n"),
        "CVMFS_HTTP_TIMEOUT": options.value("t"),
        "CVMFS_HTTP_RETRIES": options.value("a"),
        "NEARFS_REPLICA_PATHS": options.value("d"),
    }
    if options.value("Z"):
        settings["CVMFS_AUTO_GC_TIMESPAN"] = f"@{options.value('Z')}"
    return snapshot_cmd.pull(Repository(options.value("m"), Places.here(), settings))


def lsrepo(words: Sequence[str]) -> int:
    """Lists catalogs."""
    options = Letters("lsrepo", words, "r:n:k:l:z:htdse", "r")
    shown = Shown(tree=options.has("t"), hashes=options.has("d"), sizes=options.has("s"), entries=options.has("e"))
    return stored_cmd.list_catalogs(Stored(options.value("r")), "", shown)


def tag_list(words: Sequence[str]) -> int:
    """Lists tags of a local storage."""
    options = Letters("tag_list", words, "w:t:p:f:r:m:b:e:L:P:xB", "w")
    listed = stored_cmd.tags(Stored(options.value("w")))
    for line in tag_cmd.machine_lines(listed) if options.has("x") else tag_cmd.table_lines(listed):
        output.line(line)
    return 0


def dirtab(words: Sequence[str]) -> int:
    """Makes the markers of nested catalogs that a .cvmfsdirtab asks for."""
    from nearfs.publish import dirtab as rules

    options = Letters("dirtab", words, "d:u:s:b:w:t:x", "du")
    content = Path(options.value("d")).read_bytes()
    root = os.fsencode(options.value("u").rstrip("/"))
    for directory in rules.matches(rules.parse(content), root):
        marker = root + directory + b"/" + rules.MARKER
        try:
            os.close(os.open(marker, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        except FileExistsError:
            continue
        if options.has("x"):
            output.line(f"creating nested catalog at {os.fsdecode(directory)}")
    return 0
