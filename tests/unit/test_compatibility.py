"""docs/compatibility.md says what is true: every parameter is there, and what it promises is in the code."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from nearfs.client import answers, following, routing, tracing
from nearfs.compat import cvmfs_config
from nearfs.config.parameters import PARAMETERS, lacks_effect

PROJECT = Path(__file__).resolve().parents[2]
PAGE = PROJECT / "docs" / "compatibility.md"
SOURCES = PROJECT / "python" / "nearfs"
STATES = {"yes", "differs", "later", "no"}
WORKING = {"yes", "differs"}

# The parameters of the CernVM-FS 2.12 client that no table of the code names: families, and the environment.
FAMILIES = {
    "CVMFS_AUTHZ_*",
    *(
        f"CVMFS_CACHE_<n>_{part}"
        for part in (
            *("TYPE", "BASE", "DIR", "SHARED", "ALIEN", "QUOTA_LIMIT", "SERVER_MODE", "REFCOUNT", "WORKSPACE"),
            *("SIZE", "MALLOC", "UPPER", "LOWER", "LOWER_READONLY", "LOCATOR", "CMDLINE"),
        )
    ),
}
ENVIRONMENT = {
    *("CVMFS_PAC_URLS", "CVMFS_IPV4_ONLY", "http_proxy", "X509_CERT_DIR", "X509_CERT_BUNDLE", "CERNVM_UUID"),
    "HOST_ALIASES",
}
# The parameters of the client, as the reference documents and reads them.
KNOWN = """
REPOSITORIES DEFAULT_DOMAIN STRICT_MOUNT MOUNT_DIR USER BASE_ENV RELOAD_SOCKETS CONFIG_REPOSITORY CONFIG_REPO_REQUIRED
CLIENT_PROFILE USE_CDN MOUNT_RW SUID CHECK_PERMISSIONS CLAIM_OWNERSHIP WORLD_READABLE UID_MAP GID_MAP ENFORCE_ACLS
CPU_AFFINITY OOM_SCORE_ADJ SYSTEMD_NOKILL NFILES FUSE3_MAX_THREADS FUSE3_IDLE_THREADS FUSE_NOTIFY_INVALIDATION
INSTRUMENT_FUSE INITIAL_GENERATION SERVER_CACHE_MODE PUBLIC_KEY KEYS_DIR BLACKLIST ROOT_HASH REPOSITORY_TAG
REPOSITORY_DATE ALT_ROOT_PATH AUTO_UPDATE MAX_TTL IGNORE_SIGNATURE NOTIFICATION_SERVER AUTHZ_HELPER AUTHZ_SEARCH_PATH
SERVER_URL HTTP_PROXY FALLBACK_PROXY PROXY_TEMPLATE PROXY_SHARD PROXY_SHARDING_POLICY FAILOVER_INDEFINITELY TIMEOUT
TIMEOUT_DIRECT LOW_SPEED_LIMIT MAX_RETRIES BACKOFF_INIT BACKOFF_MAX PROXY_RESET_AFTER HOST_RESET_AFTER MAX_SERVERS
USE_GEOAPI DNS_TIMEOUT DNS_RETRIES DNS_MIN_TTL DNS_MAX_TTL DNS_SERVER DNS_ROAMING IPFAMILY_PREFER MAX_IPADDR_PER_PROXY
FOLLOW_REDIRECTS SEND_INFO_HEADER HTTP_TRACING HTTP_TRACING_HEADERS USE_SSL_SYSTEM_CA EXTERNAL_URL EXTERNAL_HTTP_PROXY
EXTERNAL_FALLBACK_PROXY EXTERNAL_TIMEOUT EXTERNAL_TIMEOUT_DIRECT EXTERNAL_MAX_SERVERS CACHE_BASE CACHE_DIR SHARED_CACHE
QUOTA_LIMIT ALIEN_CACHE WORKSPACE CACHE_REFCOUNT STREAMING_CACHE CACHE_PRIMARY MEMCACHE_SIZE CATALOG_WATERMARK
KCACHE_TIMEOUT STATFS_CACHE_TIMEOUT CACHE_SYMLINKS NFS_SOURCE NFS_SHARED NFS_INTERLEAVED_INODES SYSLOG_LEVEL
SYSLOG_FACILITY SYSLOG_PREFIX USYSLOG DEBUGLOG TRACEFILE TRACEBUFFER TRACEBUFFER_THRESHOLD TALK_SOCKET TALK_OWNER
HIDE_MAGIC_XATTRS MAGIC_XATTRS_VISIBILITY XATTR_PROTECTED_XATTRS XATTR_PRIVILEGED_GIDS TELEMETRY_SEND TELEMETRY_RATE
INFLUX_HOST INFLUX_PORT INFLUX_METRIC_NAME INFLUX_EXTRA_TAGS INFLUX_EXTRA_FIELDS
"""
DEVELOPMENT = {"_CVMFS_DEVEL_IGNORE_SIGNATURE_FAILURES"}
# Read by the configuration files of a site, not by the client; the reference's does not read them either.
EVALUATED_IN_FILES = {"CVMFS_BASE_ENV", "CVMFS_CLIENT_PROFILE", "CVMFS_USE_CDN"}


def rows(beginning: str, end: str) -> dict[str, tuple[str, str]]:
    """Returns name -> (state, note) of the tables between two headings; no name may stand twice."""
    text = PAGE.read_text("utf-8").partition(beginning)[2].partition(end)[0]
    found: dict[str, tuple[str, str]] = {}
    for name, state, note in re.findall(r"^\| `([^`]+)` \| (\w+) \| ?(.*?) ?\|$", text, re.MULTILINE):
        assert name not in found, name
        found[name] = (state, note)
    return found


PARAMETER_ROWS = rows("## Parameters\n", "## Commands\n")
COMMAND_ROWS = rows("## Commands\n", "### Options of `cvmfs2`")
OPTION_ROWS = rows("### Options of `cvmfs2`", "### Commands of `cvmfs_talk`")
TALK_ROWS = rows("### Commands of `cvmfs_talk`", "# Compatibility with the CernVM-FS 2.12 server")


def test_every_parameter_has_a_row_and_no_other_has() -> None:
    expected = {f"CVMFS_{name}" for name in KNOWN.split()} | DEVELOPMENT
    assert expected == PARAMETERS.keys()
    assert expected | FAMILIES | ENVIRONMENT == PARAMETER_ROWS.keys()


@pytest.mark.parametrize("table", [PARAMETER_ROWS, COMMAND_ROWS, OPTION_ROWS, TALK_ROWS])
def test_every_row_has_a_state_and_a_reason(table: dict[str, tuple[str, str]]) -> None:
    assert table
    assert {state for state, _ in table.values()} <= STATES
    assert [name for name, (state, note) in table.items() if state != "yes" and not note] == []


def test_states_of_parameters_are_those_of_the_code() -> None:
    stated = {name: state in WORKING for name, (state, _) in PARAMETER_ROWS.items() if name not in ENVIRONMENT}
    examples = {name: name.replace("<n>", "hot").replace("*", "ANY") for name in stated}
    assert stated == {name: not lacks_effect(example) for name, example in examples.items()}


def test_what_works_is_read_by_the_code() -> None:
    table = SOURCES / "config" / "parameters.py"
    text = "".join(path.read_text("utf-8") for path in SOURCES.rglob("*.py") if path != table)
    promised = {name for name, (state, _) in PARAMETER_ROWS.items() if state in WORKING} - EVALUATED_IN_FILES
    assert {name for name in promised if f'"{name}"' not in text} == set()


def _module_of(program: str) -> str:
    scripts: dict[str, str] = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]
    return scripts[program].partition(":")[0]


@pytest.mark.parametrize("command", [name for name, (state, _) in COMMAND_ROWS.items() if state in WORKING])
def test_every_command_that_works_answers_help(command: str) -> None:
    program, *words = command.split()
    asked = [sys.executable, "-m", _module_of(program), *words, "--help"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(rf"usage: {re.escape(program)}\b", done.stdout, re.IGNORECASE)
    assert all(word in done.stdout for word in words)


def test_the_commands_of_cvmfs_config_are_those_of_the_page() -> None:
    stated = {name.split()[1]: state for name, (state, _) in COMMAND_ROWS.items() if name.startswith("cvmfs_config ")}
    assert {name for name, state in stated.items() if state in WORKING} == cvmfs_config.COMMANDS.keys()
    assert {name for name, state in stated.items() if state not in WORKING} == cvmfs_config.NOT_YET.keys()


def test_the_commands_of_cvmfs_talk_are_those_of_the_page() -> None:
    known = (
        answers.COMMANDS.keys()
        | answers.WITH_NUMBER.keys()
        | answers.WITH_PATH.keys()
        | routing.COMMANDS
        | following.NAMES
        | tracing.NAMES
    )
    assert known | answers.NOT_YET.keys() == TALK_ROWS.keys()
    assert not known & answers.NOT_YET.keys()
    assert {name for name, (state, _) in TALK_ROWS.items() if state in WORKING} <= known
