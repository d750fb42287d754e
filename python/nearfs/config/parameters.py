"""The table of every client parameter (client.md 1.4): its type, its default, and whether this version honours it.

Owns: what is known about a parameter before any file is read. Does not own: values (`layers`) and their use (`model`).
Threading: an immutable table.

"Honoured" means that setting the parameter changes what nearfs does. The others are accepted, so that an existing
configuration keeps working, and `cvmfs_config showconfig` says that they have no effect yet.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """How the text of a value is read."""

    TRUTH = "truth value"
    INTEGER = "integer"
    TEXT = "text"
    PATH = "path"
    COMMA_LIST = "comma separated list"
    COLON_LIST = "colon separated list"
    SEMICOLON_LIST = "semicolon separated list"
    HASH = "hash"
    DATE = "date"


@dataclass(frozen=True)
class Parameter:
    """One row: `default` is what the code assumes when no file sets it; None where there is no default."""

    name: str
    kind: Kind
    default: str | None
    honoured: bool


# Rows are `NAME kind default`; `-` stands for no default. The kinds are abbreviated as follows.
_KINDS = {
    "T": Kind.TRUTH,
    "n": Kind.INTEGER,
    "s": Kind.TEXT,
    "p": Kind.PATH,
    ",": Kind.COMMA_LIST,
    ":": Kind.COLON_LIST,
    ";": Kind.SEMICOLON_LIST,
    "h": Kind.HASH,
    "d": Kind.DATE,
}

_HONOURED = """
REPOSITORIES , -
DEFAULT_DOMAIN s -
STRICT_MOUNT T no
MOUNT_DIR p -
USER s -
BASE_ENV s -
CONFIG_REPOSITORY s -
CONFIG_REPO_REQUIRED T no
CLIENT_PROFILE s -
USE_CDN T -
MOUNT_RW T no
SUID T no
CHECK_PERMISSIONS T no
CLAIM_OWNERSHIP T no
WORLD_READABLE T no
UID_MAP p -
GID_MAP p -
NFILES n -
SERVER_CACHE_MODE T no
CPU_AFFINITY , -
OOM_SCORE_ADJ n -
SYSTEMD_NOKILL T no
FUSE3_MAX_THREADS n -
PUBLIC_KEY : -
KEYS_DIR p /etc/cvmfs/keys
BLACKLIST p /etc/cvmfs/blacklist
ROOT_HASH h -
REPOSITORY_TAG s -
REPOSITORY_DATE d -
AUTO_UPDATE T yes
MAX_TTL n 0
SERVER_URL ; -
HTTP_PROXY s -
FALLBACK_PROXY s -
TIMEOUT n 5
LOW_SPEED_LIMIT n 1024
MAX_RETRIES n 1
BACKOFF_INIT n 2
BACKOFF_MAX n 10
PROXY_RESET_AFTER n 0
HOST_RESET_AFTER n 0
FOLLOW_REDIRECTS T no
PROXY_TEMPLATE s -
PROXY_SHARD T no
FAILOVER_INDEFINITELY T no
MAX_SERVERS n -
USE_GEOAPI T no
DNS_TIMEOUT n 3
DNS_RETRIES n 1
DNS_MIN_TTL n 60
DNS_MAX_TTL n 86400
DNS_SERVER s -
IPFAMILY_PREFER n -
MAX_IPADDR_PER_PROXY n -
HTTP_TRACING T no
HTTP_TRACING_HEADERS s -
USE_SSL_SYSTEM_CA T no
TIMEOUT_DIRECT n 5
CACHE_BASE p /var/lib/cvmfs
CACHE_DIR p -
SHARED_CACHE T no
QUOTA_LIMIT n 1024
ALIEN_CACHE p -
WORKSPACE p -
KCACHE_TIMEOUT n 60
SYSLOG_LEVEL n 3
SYSLOG_FACILITY n -
SYSLOG_PREFIX s -
USYSLOG p -
DEBUGLOG p -
HIDE_MAGIC_XATTRS T -
MAGIC_XATTRS_VISIBILITY s rootonly
TALK_SOCKET p -
TALK_OWNER s -
XATTR_PROTECTED_XATTRS , -
XATTR_PRIVILEGED_GIDS , -
ALT_ROOT_PATH T no
SEND_INFO_HEADER T no
EXTERNAL_URL ; -
EXTERNAL_HTTP_PROXY s DIRECT
EXTERNAL_FALLBACK_PROXY s -
EXTERNAL_TIMEOUT n -
EXTERNAL_TIMEOUT_DIRECT n -
EXTERNAL_MAX_SERVERS n -
"""

_WITHOUT_EFFECT = """
RELOAD_SOCKETS p /var/run/cvmfs
ENFORCE_ACLS T no
FUSE3_IDLE_THREADS n -
FUSE_NOTIFY_INVALIDATION T yes
INSTRUMENT_FUSE T no
INITIAL_GENERATION n 0
IGNORE_SIGNATURE s -
NOTIFICATION_SERVER s -
AUTHZ_HELPER p -
AUTHZ_SEARCH_PATH p /usr/libexec/cvmfs/authz
PROXY_SHARDING_POLICY s -
DNS_ROAMING T no
CACHE_REFCOUNT T no
STREAMING_CACHE T no
CACHE_PRIMARY s default
MEMCACHE_SIZE n 16
CATALOG_WATERMARK n -
STATFS_CACHE_TIMEOUT n 0
CACHE_SYMLINKS T no
NFS_SOURCE T no
NFS_SHARED p -
NFS_INTERLEAVED_INODES s -
TRACEFILE p -
TRACEBUFFER n 8192
TRACEBUFFER_THRESHOLD n 7000
TELEMETRY_SEND T no
TELEMETRY_RATE n -
INFLUX_HOST s -
INFLUX_PORT n -
INFLUX_METRIC_NAME s -
INFLUX_EXTRA_TAGS s -
INFLUX_EXTRA_FIELDS s -
"""


def _rows(text: str, *, honoured: bool) -> dict[str, Parameter]:
    table: dict[str, Parameter] = {}
    for row in text.split("\n"):
        if row:
            name, kind, default = row.split(" ")
            full = f"CVMFS_{name}"
            table[full] = Parameter(full, _KINDS[kind], None if default == "-" else default, honoured)
    return table


PARAMETERS: dict[str, Parameter] = {
    **_rows(_HONOURED, honoured=True),
    **_rows(_WITHOUT_EFFECT, honoured=False),
    "_CVMFS_DEVEL_IGNORE_SIGNATURE_FAILURES": Parameter(
        "_CVMFS_DEVEL_IGNORE_SIGNATURE_FAILURES", Kind.TRUTH, "no", honoured=False
    ),
}

# Families whose names carry an instance or a helper's own word; none of them is honoured yet.
_FAMILIES = re.compile(
    r"CVMFS_AUTHZ_\w+|CVMFS_CACHE_\w+_(TYPE|BASE|DIR|SHARED|ALIEN|QUOTA_LIMIT|SERVER_MODE|REFCOUNT|WORKSPACE|SIZE"
    r"|MALLOC|UPPER|LOWER|LOWER_READONLY|LOCATOR|CMDLINE)"
)


def lacks_effect(name: str) -> bool:
    """Tells whether nearfs knows the parameter but does nothing with it in this version.

    A name that the client does not know at all is not in question: it may be a variable for symlinks, or one that the
    configuration files themselves use.
    """
    parameter = PARAMETERS.get(name)
    if parameter is not None:
        return not parameter.honoured
    return _FAMILIES.fullmatch(name) is not None
