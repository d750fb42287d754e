"""One repository that this machine publishes: its configuration, its directories, its present manifest.

Owns: reading `server.conf` and what follows from it. Does not own: changing anything.
Threading: a `Repository` is immutable; files may change behind it, so facts are read when they are asked for.
"""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nearfs import files, hashes, signing, whitelist
from nearfs.config import layers, names, syntax, values
from nearfs.errors import Corrupt, InvalidInput, NotFound, PermissionDenied, Unsupported
from nearfs.publish import site
from nearfs.publish.places import Places

if TYPE_CHECKING:
    from collections.abc import Mapping

LAYOUT_REVISION = "143"
MANIFEST = ".cvmfspublished"
WHITELIST = ".cvmfswhitelist"
REFLOG = ".cvmfsreflog"
REPLICABLE = ".cvmfs_master_replica"
_UPSTREAM_FIELDS = 3
_ON = frozenset({"yes", "on", "1", "true"})


def _is_user(uid: int, name: str) -> bool:
    try:
        return pwd.getpwnam(name).pw_uid == uid
    except KeyError:
        return False


def _layout_sentence(fqrn: str, layout: str) -> str:
    if layout.isascii() and layout.isdigit() and int(layout) > int(LAYOUT_REVISION):
        return (
            f"{fqrn} was created with INCOMPATIBLE layout revision {layout}: newer than {LAYOUT_REVISION}, use the "
            "release that made it"
        )
    return (
        f"{fqrn} has layout revision {layout or 'unknown'}, only {LAYOUT_REVISION} can be used: it has to be migrated "
        f"(cvmfs_server migrate {fqrn}) with the reference tools, which this version does not do"
    )


MASTERS = frozenset({"stratum0"})
REPLICAS = frozenset({"stratum1"})
ANY_ROLE = MASTERS | REPLICAS


@dataclass(frozen=True)
class Repository:
    """A repository of which this machine is stratum 0, or a replica of one: stratum 1."""

    fqrn: str
    places: Places
    settings: Mapping[str, str]
    alias: str = ""
    """What this machine calls it, where that is not its name: only replicas have one."""

    @classmethod
    def load(cls, name: str, places: Places | None = None, *, roles: frozenset[str] = MASTERS) -> Repository:
        """Returns the repository; a short name gets the default domain. Replicas are known by their alias.

        Raises `NotFound` (exit code 1) if this machine does not have it, `InvalidInput` if it has another role.
        """
        places = places or Places.here()
        names.check_name(name)
        if "." not in name and not (places.repositories / name).is_dir():
            name = layers.complete_name(name, root=str(places.configuration))
        configuration = places.repositories / name / "server.conf"
        local = site.settings(places)
        environment = {**os.environ, **local}
        parsed = syntax.parse_shell(str(configuration), environment) if configuration.is_file() else None
        if parsed is None:
            message = f"The repository {name} does not exist."
            raise NotFound(message, operation="load repository", subject=name, exit_code=1)
        if parsed.warnings:
            message = f"{parsed.warnings[0]}; mend {configuration} first"
            raise InvalidInput(message, operation="load repository", subject=name, exit_code=1)
        values = {**local, **parsed.values}
        if values.get("CVMFS_REPOSITORY_TYPE") == "stratum1":
            # The other half of a replica's settings.
            replica = syntax.parse_shell(str(configuration.with_name("replica.conf")), environment)
            values |= replica.values if replica else {}
        fqrn = values.get("CVMFS_REPOSITORY_NAME") or name if "stratum1" in roles else name
        repository = cls(fqrn, places, values, name if fqrn != name else "")
        repository.check_layout(roles)
        return repository

    @classmethod
    def all_names(cls, places: Places) -> list[str]:
        """Returns the names of the repositories that are configured here, sorted."""
        if not places.repositories.is_dir():
            return []
        return sorted(entry.name for entry in places.repositories.iterdir() if (entry / "server.conf").is_file())

    @classmethod
    def master_names(cls, places: Places) -> list[str]:
        """Returns the names of those that are published here: a replica is known by its `replica.conf`."""
        return [name for name in cls.all_names(places) if not (places.repositories / name / "replica.conf").exists()]

    def check_layout(self, roles: frozenset[str] = MASTERS) -> None:
        """Refuses what is of another role, or of a layout that this version cannot use."""
        if self.settings.get("CVMFS_REPOSITORY_TYPE") not in roles:
            message = f"Repository {self.fqrn} is not a stratum {1 if roles == REPLICAS else 0} repository"
            raise InvalidInput(message, operation="load repository", subject=self.fqrn, exit_code=1)
        layout = self.settings.get("CVMFS_CREATOR_VERSION", "")
        if layout != LAYOUT_REVISION:
            message = _layout_sentence(self.fqrn, layout)
            raise Unsupported(message, operation="load repository", subject=self.fqrn, exit_code=1)

    @property
    def is_replica(self) -> bool:
        """Tells whether this machine has a copy, and another one publishes."""
        return self.settings.get("CVMFS_REPOSITORY_TYPE") == "stratum1"

    @property
    def name(self) -> str:
        """Returns what this machine calls it."""
        return self.alias or self.fqrn

    @property
    def is_owned_by_caller(self) -> bool:
        """Tells whether the calling user is the owner; root is not, unless the repository is root's."""
        return _is_user(os.geteuid(), self.text("CVMFS_USER", "root"))

    def check_owner(self) -> None:
        """Refuses a caller who is neither the owner nor root."""
        if os.geteuid() != 0 and not self.is_owned_by_caller:
            user = self.text("CVMFS_USER", "root")
            message = f"Permission denied: Repository {self.fqrn} is owned by {user}"
            raise PermissionDenied(message, operation="open repository", subject=self.fqrn, exit_code=1)

    def text(self, key: str, default: str = "") -> str:
        """Returns a setting, or the default where it is unset or empty."""
        return self.settings.get(key) or default

    def is_on(self, key: str, *, default: bool = False) -> bool:
        """Tells whether a switch is on."""
        value = self.settings.get(key)
        return default if not value else value.lower() in _ON

    def number(self, key: str, default: int) -> int:
        """Returns a number; raises `InvalidInput` naming the file if it is none."""
        value = self.text(key, str(default))
        if not (value.isascii() and value.isdigit()):
            message = f"{key}={value} in {self.configuration / 'server.conf'} is not a number"
            raise InvalidInput(message, operation="read configuration", subject=key, exit_code=1)
        return int(value)

    @property
    def configuration(self) -> Path:
        """Returns the repository's configuration directory."""
        return self.places.repositories / self.name

    @property
    def spool(self) -> Path:
        """Returns the spool directory."""
        return Path(self.text("CVMFS_SPOOL_DIR", str(self.places.spool(self.name))))

    @property
    def union(self) -> Path:
        """Returns where the tree is seen and changed."""
        return Path(self.text("CVMFS_UNION_DIR", str(self.places.union(self.fqrn))))

    @property
    def read_only(self) -> Path:
        """Returns the mount point of the revision below the union."""
        return self.spool / "rdonly"

    @property
    def scratch(self) -> Path:
        """Returns the writable layer."""
        return self.spool / "scratch" / "current"

    @property
    def wastebin(self) -> Path:
        """Returns where discarded writable layers wait for their removal."""
        return self.spool / "scratch" / "wastebin"

    @property
    def work(self) -> Path:
        """Returns overlayfs's own directory."""
        return self.spool / "ofs_workdir"

    @property
    def storage(self) -> Path:
        """Returns the storage directory; raises `Unsupported` for storage that is not local."""
        upstream = self.text("CVMFS_UPSTREAM_STORAGE")
        parts = upstream.split(",")
        if len(parts) != _UPSTREAM_FIELDS or parts[0] != "local" or not os.path.isabs(parts[2]):
            message = f"{self.fqrn}: upstream storage '{upstream}' is not available in this version, only local storage"
            raise Unsupported(message, operation="open storage", subject=self.fqrn, exit_code=1)
        return Path(parts[2])

    @property
    def hash_algorithm(self) -> hashes.HashAlgorithm:
        """Returns the algorithm for new objects."""
        name = self.text("CVMFS_HASH_ALGORITHM", "sha1")
        try:
            return hashes.HashAlgorithm(name)
        except ValueError:
            message = f"CVMFS_HASH_ALGORITHM={name} of {self.fqrn} is not one of sha1, rmd160, shake128"
            raise InvalidInput(message, operation="read configuration", subject=self.fqrn, exit_code=1) from None

    @property
    def is_fast_deflate(self) -> bool:
        """Tells whether new objects are deflated fast (`NEARFS_DEFLATE=fast`), which gives them names of their own."""
        value = self.text("NEARFS_DEFLATE", "stock")
        if value not in ("stock", "fast"):
            message = f"NEARFS_DEFLATE={value} in {self.configuration / 'server.conf'} is not one of stock, fast"
            raise InvalidInput(message, operation="read configuration", subject=self.fqrn, exit_code=1)
        return value == "fast"

    def id_map(self, name: str) -> tuple[dict[int, int], int | None]:
        """Returns what users (`CVMFS_UID_MAP`) or groups (`CVMFS_GID_MAP`) on disk become, and what all others do."""
        settings = layers.Settings(fqrn=self.fqrn)
        settings.set(name, self.text(name), str(self.configuration / "server.conf"))
        found = values.read_id_map(settings, name)
        return ({}, None) if found is None else (found.exact, found.otherwise)

    @property
    def chunk_sizes(self) -> tuple[int, int, int] | None:
        """Returns minimum, average and maximum chunk size in bytes, None where files are not chunked."""
        if not self.is_on("CVMFS_USE_FILE_CHUNKING", default=True):
            return None
        return (
            self.number("CVMFS_MIN_CHUNK_SIZE", 4 << 20),
            self.number("CVMFS_AVG_CHUNK_SIZE", 8 << 20),
            self.number("CVMFS_MAX_CHUNK_SIZE", 16 << 20),
        )

    @property
    def limits(self) -> tuple[int, int, int]:
        """Returns the largest file in MiB, nested and root catalog in thousand entries that raise no warning."""
        return (
            self.number("CVMFS_FILE_MBYTE_LIMIT", 1024),
            self.number("CVMFS_NESTED_KCATALOG_LIMIT", 500),
            self.number("CVMFS_ROOT_KCATALOG_LIMIT", 200),
        )

    @property
    def autocatalogs(self) -> tuple[int, int] | None:
        """Returns the largest and smallest number of entries of automatic catalogs, None where there are none."""
        if not self.is_on("CVMFS_AUTOCATALOGS"):
            return None
        most = self.number("CVMFS_AUTOCATALOGS_MAX_WEIGHT", 100_000)
        return most, self.number("CVMFS_AUTOCATALOGS_MIN_WEIGHT", 1000)

    @property
    def partial_paths(self) -> bytes:
        """Returns the rules of a partial replica (`NEARFS_REPLICA_PATHS`, a file); those of a whole one are empty."""
        place = self.text("NEARFS_REPLICA_PATHS")
        if not place:
            return b""
        try:
            return Path(place).read_bytes()
        except OSError as error:
            message = f"cannot read {place}, which NEARFS_REPLICA_PATHS of {self.name} names: {error.strerror}"
            raise InvalidInput(message, operation="read configuration", subject=place, exit_code=1) from error

    @property
    def transaction_flag(self) -> Path:
        """Returns the file whose existence means that a transaction is open."""
        return self.spool / "in_transaction.lock"

    @property
    def updating_lock(self) -> Path:
        """Returns the lock file of whatever changes a replica."""
        return self.spool / "is_updating.lock"

    @property
    def collecting_lock(self) -> Path:
        """Returns the lock file of garbage collection."""
        return self.spool / "is_collecting.lock"

    @property
    def is_in_transaction(self) -> bool:
        """Tells whether a transaction is open."""
        return self.transaction_flag.exists()

    @property
    def mounted_root(self) -> str | None:
        """Returns the root hash of the revision below the union, as the last mount was told."""
        line = files.read_text(self.spool / "client.local") or ""
        _, _, root_hash = line.partition("CVMFS_ROOT_HASH=")
        return root_hash or None

    def manifest(self) -> signing.Manifest:
        """Returns the manifest in storage; raises `Corrupt` if there is none or it is not of this repository."""
        path = self.storage / MANIFEST
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            message = f"{path} is missing: {self.fqrn} has no revision; was mkfs interrupted? (cvmfs_server rmfs)"
            raise Corrupt(message, operation="read manifest", subject=self.fqrn, exit_code=5) from None
        try:
            manifest = signing.parse_manifest(content)
        except Corrupt as error:
            message = f"{path}: {error}"
            raise Corrupt(message, operation="read manifest", subject=self.fqrn, exit_code=5) from None
        if manifest.fields.name != self.fqrn:
            message = f"{path} belongs to repository {manifest.fields.name!r}, not to {self.fqrn}"
            raise Corrupt(message, operation="read manifest", subject=self.fqrn, exit_code=5)
        return manifest

    def whitelist(self) -> whitelist.Whitelist | None:
        """Returns the whitelist in storage, None where there is none."""
        try:
            return whitelist.parse_whitelist((self.storage / WHITELIST).read_bytes())
        except FileNotFoundError:
            return None
