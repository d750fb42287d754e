"""What a mount is told: defaults, precedence, and errors that name parameter, value and file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from nearfs.client import identity
from nearfs.config import layers, model
from nearfs.config.parameters import PARAMETERS, Kind, lacks_effect
from nearfs.config.values import IdMap
from nearfs.errors import InitCode, InvalidInput

if TYPE_CHECKING:
    from pathlib import Path

FQRN = "lab.example.org"
NEEDED = {"CVMFS_SERVER_URL": "http://h/cvmfs/@fqrn@", "CVMFS_HTTP_PROXY": "DIRECT", "CVMFS_PUBLIC_KEY": "/k/a.pub"}


def settings_of(**parameters: str) -> layers.Settings:
    settings = layers.Settings(FQRN, root="/nonexistent", environment={"HOME": "/h"})
    for name, value in {**NEEDED, **{f"CVMFS_{name}": value for name, value in parameters.items()}}.items():
        settings.set(name, value, "/etc/x.conf")
    return settings


def config_of(**parameters: str) -> model.ClientConfig:
    return model.client_config(settings_of(**parameters))


def test_defaults() -> None:
    config = config_of()
    assert config.server_urls == (f"http://h/cvmfs/{FQRN}",)
    assert config.cache_dir == config.workspace == f"/var/lib/cvmfs/{FQRN}"
    assert config.talk_socket == f"/var/lib/cvmfs/{FQRN}/cvmfs_io.{FQRN}"
    assert config.kcache_timeout_s == 60
    assert (config.auto_update, config.max_ttl_s, config.nfiles) == (True, None, None)
    off = (config.claim_ownership, config.check_permissions, config.world_readable, config.mount_rw, config.suid)
    assert not any(off)
    assert config.magic_xattrs_visibility == "rootonly"
    assert config.privileged_gids == (0,)
    assert config.syslog == model.SyslogSettings(level=3, facility=None, prefix=FQRN, file=None)
    assert (config.root_hash, config.repository_tag, config.repository_date) == (None, None, None)
    assert config.warnings == ()


@pytest.mark.parametrize(
    ("parameters", "field", "expected"),
    [
        ({"SERVER_URL": "http://a/x/; http://b/x ;;"}, "server_urls", ("http://a/x", "http://b/x")),
        ({"SERVER_URL": "file:///srv/@org@"}, "server_urls", ("file:///srv/lab",)),
        ({"CACHE_BASE": "/c"}, "cache_dir", f"/c/{FQRN}"),
        ({"CACHE_BASE": "/c", "SHARED_CACHE": "YES"}, "cache_dir", "/c/shared"),
        ({"SHARED_CACHE": "on"}, "cache_dir", "/var/lib/cvmfs/shared"),
        ({"CACHE_DIR": "/exact", "SHARED_CACHE": "on"}, "cache_dir", "/exact"),
        ({}, "quota_limit_bytes", 1024 << 20),
        ({"QUOTA_LIMIT": "4000"}, "quota_limit_bytes", 4000 << 20),
        ({"QUOTA_LIMIT": "-1"}, "quota_limit_bytes", None),
        ({"QUOTA_LIMIT": "0"}, "quota_limit_bytes", None),
        ({"ALIEN_CACHE": "/a", "QUOTA_LIMIT": "-1"}, "alien_cache", "/a"),
        ({"WORKSPACE": "/w"}, "talk_socket", f"/w/cvmfs_io.{FQRN}"),
        ({"TALK_SOCKET": "/run/s"}, "talk_socket", "/run/s"),
        ({"KCACHE_TIMEOUT": "-1"}, "kcache_timeout_s", 0),
        ({"AUTO_UPDATE": "no"}, "auto_update", False),
        ({"AUTO_UPDATE": "maybe"}, "auto_update", False),
        ({"AUTO_UPDATE": "True"}, "auto_update", True),
        ({"CLAIM_OWNERSHIP": "1"}, "claim_ownership", True),
        ({"CLAIM_OWNERSHIP": "enabled"}, "claim_ownership", False),
        ({"MAX_TTL": "10"}, "max_ttl_s", 600),
        ({"NFILES": "131072"}, "nfiles", 131072),
        ({"ROOT_HASH": "a" * 40 + "-shake128"}, "root_hash", "a" * 40 + "-shake128"),
        ({"REPOSITORY_DATE": "2001-09-09T01:46:40Z"}, "repository_date", 1_000_000_000),
        ({"HIDE_MAGIC_XATTRS": "yes"}, "magic_xattrs_visibility", "never"),
        ({"HIDE_MAGIC_XATTRS": "no"}, "magic_xattrs_visibility", "always"),
        ({"HIDE_MAGIC_XATTRS": "?"}, "magic_xattrs_visibility", "rootonly"),
        ({"HIDE_MAGIC_XATTRS": "yes", "MAGIC_XATTRS_VISIBILITY": "RootOnly"}, "magic_xattrs_visibility", "rootonly"),
        ({"XATTR_PROTECTED_XATTRS": "user.a, user.b"}, "protected_xattrs", ("user.a", "user.b")),
        ({"XATTR_PRIVILEGED_GIDS": "7,5"}, "privileged_gids", (0, 5, 7)),
        ({"PUBLIC_KEY": "/a.pub:/b.pub"}, "public_keys", ("/a.pub", "/b.pub")),
        ({"USER": "cvmfs"}, "user", "cvmfs"),
    ],
)
def test_field(parameters: dict[str, str], field: str, expected: object) -> None:
    assert getattr(config_of(**parameters), field) == expected


@pytest.mark.parametrize(
    ("parameters", "code", "words"),
    [
        (
            {"CACHE_BASE": "/c", "CACHE_DIR": "/d"},
            2,
            ["'CVMFS_CACHE_BASE' and 'CVMFS_CACHE_DIR' are mutually exclusive"],
        ),
        ({"QUOTA_LIMIT": "much"}, 2, ["CVMFS_QUOTA_LIMIT", "much", "/etc/x.conf"]),
        ({"ALIEN_CACHE": "/a"}, 2, ["CVMFS_ALIEN_CACHE", "CVMFS_QUOTA_LIMIT=-1"]),
        ({"ALIEN_CACHE": "/a", "QUOTA_LIMIT": "-1", "SHARED_CACHE": "yes"}, 2, ["excludes CVMFS_SHARED_CACHE"]),
        ({"ALIEN_CACHE": "a", "QUOTA_LIMIT": "-1"}, 2, ["absolute path"]),
        ({"NFILES": "many"}, 2, ["CVMFS_NFILES", "many", "/etc/x.conf"]),
        ({"NFILES": "0"}, 2, ["CVMFS_NFILES", "from 1 to"]),
        ({"KCACHE_TIMEOUT": "9" * 30}, 2, ["CVMFS_KCACHE_TIMEOUT"]),
        ({"SYSLOG_FACILITY": "8"}, 2, ["CVMFS_SYSLOG_FACILITY"]),
        ({"ROOT_HASH": "abc"}, 2, ["CVMFS_ROOT_HASH", "abc", "/etc/x.conf"]),
        ({"REPOSITORY_DATE": "x"}, 22, ["invalid timestamp in CVMFS_REPOSITORY_DATE: x. Use YYYY-MM-DDTHH:MM:SSZ"]),
        ({"SERVER_URL": ""}, 2, ["CVMFS_SERVER_URL required"]),
        ({"SERVER_URL": "ftp://h"}, 2, ["ftp://h", "/etc/x.conf"]),
        ({"HTTP_PROXY": ""}, 2, ["CVMFS_HTTP_PROXY required"]),
        ({"DNS_SERVER": "ns.org"}, 2, ["CVMFS_DNS_SERVER", "ns.org", "expected an address"]),
        ({"MAGIC_XATTRS_VISIBILITY": "x"}, 2, ["CVMFS_MAGIC_XATTRS_VISIBILITY", "rootonly"]),
        ({"XATTR_PRIVILEGED_GIDS": "wheel"}, 2, ["CVMFS_XATTR_PRIVILEGED_GIDS", "wheel"]),
        ({"UID_MAP": "/nonexistent/map"}, 2, ["CVMFS_UID_MAP", "no such map file"]),
        ({"PUBLIC_KEY": "", "KEYS_DIR": "/nonexistent"}, 15, ["/nonexistent", "CVMFS_KEYS_DIR"]),
        ({"PUBLIC_KEY": ""}, 15, ["/nonexistent/keys"]),
    ],
)
def test_bad_value_is_named(parameters: dict[str, str], code: int, words: list[str]) -> None:
    with pytest.raises(InvalidInput) as caught:
        config_of(**parameters)
    assert caught.value.exit_code == InitCode(code)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_keys_dir_gives_sorted_public_keys_and_public_key_wins(tmp_path: Path) -> None:
    for name in ("b.pub", "a.pub", "c.txt"):
        (tmp_path / name).touch()
    config = config_of(PUBLIC_KEY="", KEYS_DIR=str(tmp_path))
    assert config.public_keys == (f"{tmp_path}/a.pub", f"{tmp_path}/b.pub")
    assert config_of(KEYS_DIR=str(tmp_path)).public_keys == ("/k/a.pub",)
    with pytest.raises(InvalidInput, match="no public key"):
        config_of(PUBLIC_KEY="", KEYS_DIR=os.fspath(_empty(tmp_path)))


def _empty(base: Path) -> Path:
    (base / "empty").mkdir()
    return base / "empty"


def test_id_maps(tmp_path: Path) -> None:
    path = tmp_path / "map"
    path.write_text("# comment\n1000 2000 # one\n\n* 65534\n0 4294967295\n")
    assert config_of(UID_MAP=str(path)).uid_map == IdMap({1000: 2000, 0: 4294967295}, 65534)
    assert config_of().gid_map is None


@pytest.mark.parametrize("line", ["1000", "a 1", "1 *", "1 2 3", "-1 2", "1 4294967296"])
def test_bad_id_map_line_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "map").write_text(f"1 2\n{line}\n")
    with pytest.raises(InvalidInput, match="line 2 of the map file"):
        config_of(GID_MAP=str(tmp_path / "map"))


@pytest.mark.parametrize(
    ("proxy", "expected"),
    [
        ("DIRECT", "DIRECT"),
        (" http://p:3128 | q ; DIRECT ", "http://p:3128|q;DIRECT"),
        ("auto;DIRECT", "http://e:1;DIRECT"),
        ("p | auto", "p|http://e:1"),
    ],
)
def test_proxies_are_passed_on_and_left_to_be_discovered_where_the_environment_names_none(
    proxy: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://e:1")
    assert config_of(HTTP_PROXY=proxy).network["proxies"] == expected
    monkeypatch.delenv("http_proxy")
    unresolved = expected.replace("http://e:1", "auto")
    assert config_of(HTTP_PROXY=proxy).network["proxies"] == unresolved
    assert config_of(EXTERNAL_HTTP_PROXY=proxy).network["external"]["proxies"] == unresolved


def test_pac_files_are_named_by_the_configuration_or_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVMFS_PAC_URLS", "http://a/x.dat; auto")
    assert config_of().pac_urls == ("http://a/x.dat", "auto")
    assert config_of(PAC_URLS="auto").pac_urls == ("auto",)
    monkeypatch.delenv("CVMFS_PAC_URLS")
    assert config_of().pac_urls == ()


def test_the_network_is_read_with_the_references_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CVMFS_IPV4_ONLY", "CERNVM_UUID", "X509_CERT_DIR", "X509_CERT_BUNDLE", "HOST_ALIASES", "HOSTALIASES"):
        monkeypatch.delenv(name, raising=False)
    network = dict(config_of(HTTP_PROXY="p").network)
    assert network == {
        "proxies": "p",
        "fallback_proxies": "",
        "timeout_s": 5,
        "timeout_direct_s": 5,
        "max_retries": 1,
        "backoff_init_s": 2,
        "backoff_max_s": 10,
        "proxy_reset_after_s": 0,
        "host_reset_after_s": 0,
        "low_speed_limit": 1024,
        "follow_redirects": False,
        "is_sharded": False,
        "is_indefinite": False,
        "max_hosts": 0,
        "uuid": None,
        "place": None,
        "dns_server": None,
        "host_aliases": None,
        "dns_timeout_s": 3,
        "dns_retries": 1,
        "dns_min_ttl_s": 60,
        "dns_max_ttl_s": 86_400,
        "ip_family": None,
        "ipv4_only": False,
        "max_addresses_per_proxy": None,
        "headers": [],
        "agent_suffix": "",
        "system_authorities": False,
        "authorities_dir": None,
        "authorities_file": None,
        "tells_subject": False,
        "parallel_parts": True,
        "external": {
            "server_urls": [],
            "proxies": "DIRECT",
            "fallback_proxies": "",
            "timeout_s": 5,
            "timeout_direct_s": 5,
            "max_hosts": 0,
        },
    }


def test_external_data_has_its_own_way() -> None:
    own = {"URL": "http://a/x/; file:///b ", "HTTP_PROXY": "p|q;DIRECT", "FALLBACK_PROXY": "r", "MAX_SERVERS": "1"}
    own |= {"TIMEOUT": "3", "TIMEOUT_DIRECT": "4"}
    assert config_of(**{f"EXTERNAL_{name}": value for name, value in own.items()}).network["external"] == {
        "server_urls": ["http://a/x", "file:///b"],
        "proxies": "p|q;DIRECT",
        "fallback_proxies": "r",
        "timeout_s": 3,
        "timeout_direct_s": 4,
        "max_hosts": 1,
    }
    inherited = config_of(TIMEOUT="8", TIMEOUT_DIRECT="9").network["external"]
    assert (inherited["timeout_s"], inherited["timeout_direct_s"]) == (8, 9)
    with pytest.raises(InvalidInput, match="ftp://c does not begin with"):
        config_of(EXTERNAL_URL="ftp://c")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a:b", [("X-CVMFS-a", "b")]),
        (" site : CERN Meyrin |n1:x:y", [("X-CVMFS-site", "CERN Meyrin"), ("X-CVMFS-n1", "x:y")]),
        ("no-good:x|ok:1|nothing|:x|e:", [("X-CVMFS-ok", "1")]),
        ("a:" + "x" * 1000, []),
        ("a:b\r\nX: y", []),
    ],
)
def test_tracing_headers_are_read_and_wrong_ones_left_out(text: str, expected: list[tuple[str, str]]) -> None:
    assert config_of(HTTP_TRACING="yes", HTTP_TRACING_HEADERS=text).network["headers"] == expected
    assert config_of(HTTP_TRACING_HEADERS=text).network["headers"] == []


@pytest.mark.parametrize(
    ("parameters", "field", "expected"),
    [
        ({"PROXY_SHARD": "yes"}, "is_sharded", True),
        ({"FAILOVER_INDEFINITELY": "on"}, "is_indefinite", True),
        ({"MAX_SERVERS": "2"}, "max_hosts", 2),
        ({"USE_GEOAPI": "yes"}, "uuid", ""),
        ({"PROXY_TEMPLATE": "p"}, "place", "p"),
        ({"DNS_SERVER": "10.0.0.1"}, "dns_server", ("10.0.0.1", 53)),
        ({"DNS_SERVER": "10.0.0.1:5353"}, "dns_server", ("10.0.0.1", 5353)),
        ({"DNS_SERVER": "fd00::1"}, "dns_server", ("fd00::1", 53)),
        ({"DNS_SERVER": "[fd00::1]:54"}, "dns_server", ("fd00::1", 54)),
        ({"DNS_TIMEOUT": "2"}, "dns_timeout_s", 2),
        ({"DNS_RETRIES": "0"}, "dns_retries", 0),
        ({"DNS_MIN_TTL": "5"}, "dns_min_ttl_s", 5),
        ({"DNS_MAX_TTL": "30"}, "dns_max_ttl_s", 30),
        ({"IPFAMILY_PREFER": "6"}, "ip_family", 6),
        ({"MAX_IPADDR_PER_PROXY": "1"}, "max_addresses_per_proxy", 1),
        ({"USE_SSL_SYSTEM_CA": "yes"}, "system_authorities", True),
    ],
)
def test_each_parameter_of_the_network_has_its_field(parameters: dict[str, str], field: str, expected: object) -> None:
    assert dict(config_of(**parameters).network)[field] == expected


def test_the_clients_own_number_is_kept(tmp_path: Path) -> None:
    first = identity.of(str(tmp_path / "work"))
    assert identity.of(str(tmp_path / "work")) == first == (tmp_path / "work" / "uuid").read_text().strip()
    (tmp_path / "work" / "uuid").write_text("nonsense")
    second = identity.of(str(tmp_path / "work"))
    assert second != "nonsense"
    assert identity.of(str(tmp_path / "work")) == second
    assert os.listdir(tmp_path / "work") == ["uuid"]
    assert identity.of("/proc/nowhere") != identity.of("/proc/nowhere")


def test_symlinks_see_parameters_environment_and_architecture() -> None:
    environment = config_of(SITE="here").environment
    assert (environment["CVMFS_SITE"], environment["HOME"]) == ("here", "/h")
    assert environment["CVMFS_ARCH"] == os.uname().machine


def test_table_knows_which_parameters_have_an_effect() -> None:
    assert not lacks_effect("CVMFS_SERVER_URL")
    assert not lacks_effect("CVMFS_HTTP_PROXY")
    assert lacks_effect("CVMFS_STREAMING_CACHE")
    assert lacks_effect("CVMFS_CACHE_hot_TYPE")
    assert lacks_effect("CVMFS_AUTHZ_ANYTHING")
    assert not lacks_effect("SITE_VARIABLE")
    assert PARAMETERS["CVMFS_NFILES"].kind is Kind.INTEGER
    assert all(row.name == name for name, row in PARAMETERS.items())


def test_the_configuration_repository_adds_its_blacklist() -> None:
    settings = settings_of(BLACKLIST="/b")
    assert model.client_config(settings).blacklists == ("/b",)
    settings.external_base = "/cvmfs/config.example.org/etc/cvmfs"
    assert model.client_config(settings).blacklists == ("/b", "/cvmfs/config.example.org/etc/cvmfs/blacklist")


def test_what_the_process_is_told() -> None:
    process = config_of(CPU_AFFINITY="0, 2", OOM_SCORE_ADJ="-5", SYSTEMD_NOKILL="yes", FUSE3_MAX_THREADS="4").process
    assert (process.cpu_affinity, process.oom_score_adj, process.worker_threads) == ((0, 2), -5, 4)
    assert process.is_kept_by_systemd
    assert "CVMFS_OOM_SCORE_ADJ=-5    # from /etc/x.conf" in process.parameters
    plain = config_of().process
    assert (plain.cpu_affinity, plain.oom_score_adj, plain.worker_threads, plain.talk_owner) == ((), None, None, None)


@pytest.mark.parametrize(
    ("name", "value"),
    [("CPU_AFFINITY", "0-3"), ("CPU_AFFINITY", "-1"), ("OOM_SCORE_ADJ", "1001"), ("FUSE3_MAX_THREADS", "0")],
)
def test_what_the_process_cannot_be_is_refused(name: str, value: str) -> None:
    with pytest.raises(InvalidInput, match=f"CVMFS_{name}={value} in /etc/x.conf") as caught:
        config_of(**{name: value})
    assert caught.value.exit_code == InitCode.OPTIONS
