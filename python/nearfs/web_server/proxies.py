"""The text of configurations for caches between clients and a storage: before a mirror, and at a site (server.md 2.6).

Objects never change: they stay for days whatever a storage says. What is signed is asked for again after a minute, and
for longer only while its storage does not answer, since clients judge by signatures and revisions themselves.
Threading: pure functions.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from nearfs.errors import InvalidInput
from nearfs.web_server.pieces import CONTROL_S, OBJECTS_S

_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]")
_DOMAIN = re.compile(r"\.?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*")
_PLACE = re.compile(r"/[A-Za-z0-9._/-]{0,200}")
_SIGNED = r"/\.cvmfs[^/]*$|\.json$"


@dataclass(frozen=True)
class Backend:
    """A web server by host and port, plain HTTP: names hash what is stored, and manifests are signed."""

    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Backend:
        """Reads `http://HOST[:PORT]`; raises `InvalidInput` for anything else."""
        try:
            parts = urlsplit(url)
            port = parts.port or 80
        except ValueError:
            parts, port = urlsplit(""), 0
        host = parts.netloc.rpartition("@")[2]
        host = host.rpartition(":")[0] if parts.port else host
        if parts.scheme != "http" or not _HOST.fullmatch(host) or parts.path.strip("/") or parts.query:
            message = f"{url!r} is not http://HOST or http://HOST:PORT"
            raise InvalidInput(message, operation="write configuration", subject=url, exit_code=1)
        return cls(host, port)


def place(path: str) -> str:
    """Returns a directory that may be written into any of these languages; raises `InvalidInput` for others."""
    if not _PLACE.fullmatch(path):
        message = f"{path!r} is not an absolute path of letters, digits, dots and dashes"
        raise InvalidInput(message, operation="write configuration", subject=path, exit_code=1)
    return path


def apache_api(api: Backend) -> str:
    """Returns Apache's piece that has a `nearfs serve` answer the geo API of all repositories."""
    return f"""\
# The geo API is answered by `nearfs serve`. Needs: a2enmod proxy proxy_http
<LocationMatch "^/cvmfs/[^/]+/api/">
    ProxyPassMatch "http://{api.host}:{api.port}"
    Require all granted
</LocationMatch>
"""


def nginx_api(api: Backend) -> str:
    """Returns nginx's piece that has a `nearfs serve` answer the geo API: a location, for a `server` to include."""
    return f"""\
# The geo API is answered by `nearfs serve`.
location ~ "^/cvmfs/[^/]+/api/" {{
    proxy_pass http://{api.host}:{api.port};
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_read_timeout 10s;
}}
"""


def nginx_reverse(backend: Backend, cache: str, size_mb: int, port: int) -> str:
    """Returns a server of nginx that keeps what it fetched from a storage: a file of its own below `conf.d`."""
    return f"""\
# A cache before {backend.host}; written by nearfs web-config.
proxy_cache_path {place(cache)} levels=2:2 keys_zone=cvmfs:64m max_size={size_mb}m inactive=30d use_temp_path=off;
server {{
    listen {port};
    location /cvmfs/ {{
        proxy_pass http://{backend.host}:{backend.port};
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header X-Forwarded-For $remote_addr;
        proxy_connect_timeout 5s;
        proxy_read_timeout 30s;
        proxy_cache cvmfs;
        proxy_cache_key $uri$is_args$args;
        # One request for an object, however many clients ask at once.
        proxy_cache_lock on;
        # The rules below count, not what the storage says; mistakes are not kept.
        proxy_ignore_headers Cache-Control Expires Vary Set-Cookie;
        proxy_cache_valid 200 {OBJECTS_S}s;
        proxy_cache_use_stale error timeout updating http_500 http_502 http_503 http_504;
        location ~ "{_SIGNED}" {{
            proxy_pass http://{backend.host}:{backend.port};
            proxy_cache cvmfs;
            proxy_cache_key $uri;
            proxy_cache_valid 200 {CONTROL_S}s;
            proxy_cache_use_stale error timeout updating http_500 http_502 http_503 http_504;
        }}
        location ~ "/api/" {{
            proxy_pass http://{backend.host}:{backend.port};
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_cache off;
        }}
    }}
    location / {{ return 404; }}
}}
"""


def varnish(backend: Backend) -> str:
    """Returns a VCL for a Varnish before a storage."""
    host = backend.host.strip("[]")
    return f"""\
vcl 4.1;
# A cache before {backend.host}; written by nearfs web-config.
import std;

backend storage {{
    .host = "{host}";
    .port = "{backend.port}";
    .connect_timeout = 5s;
    .first_byte_timeout = 30s;
    .between_bytes_timeout = 30s;
}}

sub vcl_recv {{
    if (req.method != "GET" && req.method != "HEAD") {{
        return (synth(405));
    }}
    if (req.url !~ "^/cvmfs/") {{
        return (synth(404));
    }}
    unset req.http.Cookie;
    unset req.http.If-Modified-Since;
    # Clients ask past caches only for what came damaged.
    if (req.http.Cache-Control ~ "no-cache" || req.http.Pragma ~ "no-cache") {{
        set req.hash_always_miss = true;
    }}
    if (req.url ~ "/api/") {{
        return (pass);
    }}
    return (hash);
}}

sub vcl_backend_response {{
    unset beresp.http.Set-Cookie;
    if (beresp.status != 200 && beresp.status != 206) {{
        set beresp.ttl = 0s;
        set beresp.uncacheable = true;
        return (deliver);
    }}
    # What is signed may be old while its storage does not answer: clients judge by signature and revision.
    set beresp.grace = 1h;
    if (bereq.url ~ "{_SIGNED}") {{
        set beresp.ttl = {CONTROL_S}s;
    }} else {{
        set beresp.ttl = {OBJECTS_S}s;
    }}
    return (deliver);
}}
"""


def squid(allowed: list[str], sources: list[str], memory_mb: int, disk: str, disk_mb: int, port: int) -> str:
    """Returns a configuration of Squid for the clients of a site: whom it serves, and where it may go.

    Raises `InvalidInput` for what is no network or no domain. Without `sources` it goes anywhere, by port 80 and 8000.
    """
    networks = " ".join(_network(text) for text in allowed)
    for domain in sources:
        if not _DOMAIN.fullmatch(domain):
            message = f"{domain!r} is not a host or .domain"
            raise InvalidInput(message, operation="write configuration", subject=domain, exit_code=1)
    acl = f"acl sources dstdomain {' '.join(sources)}\n" if sources else "acl sources dst all\n"
    kept = f"cache_dir ufs {place(disk)} {disk_mb} 16 256\n" if disk else ""
    return f"""\
# The cache of a site for CernVM-FS; written by nearfs web-config.
http_port {port}
acl clients src {networks}
{acl}acl ports port 80 8000
acl methods method GET HEAD
http_access deny !clients
http_access deny !ports
http_access deny !methods
http_access allow sources
http_access deny all

# Objects are small or in chunks of some megabytes; whole files may be larger.
cache_mem {memory_mb} MB
maximum_object_size_in_memory 128 KB
maximum_object_size 1024 MB
{kept}
# One request for an object, however many clients ask at once; mistakes are not kept.
collapsed_forwarding on
negative_ttl 0
# An object never changes; what is signed is looked at again after a minute.
refresh_pattern -i /data/[0-9a-f][0-9a-f]/ 4320 100% 43200 ignore-reload override-expire
refresh_pattern {_SIGNED} 0 20% 1
refresh_pattern . 0 20% 60
connect_timeout 5 seconds
shutdown_lifetime 1 second
"""


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        message = f"{text!r} is not a network, such as 192.0.2.0/24"
        raise InvalidInput(message, operation="write configuration", subject=text, exit_code=1) from None
