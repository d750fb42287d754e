"""The text of web servers' configuration for a storage (server.md 2.6): what is served, and for how long it stays good.

Objects never change, so three days are short for them; what is signed, and lists, are asked for again after 61 seconds.
No time and no tag is told of a file: an unchanged name says it all, and mirrors with other times answer the same.
Threading: pure functions.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nearfs.errors import InvalidInput

if TYPE_CHECKING:
    from pathlib import Path

OBJECTS_S = 3 * 86_400
CONTROL_S = 61
# What would end a quoted word, or begin a variable, in one of the languages.
_UNQUOTABLE = re.compile(r'["\\${}%\x00-\x1f\x7f]')


def _quoted(path: Path) -> str:
    text = str(path)
    if _UNQUOTABLE.search(text):
        message = f"{text!r} cannot be written into a web server's configuration: choose another directory, or use -p"
        raise InvalidInput(message, operation="configure the web server", exit_code=1)
    return text


def apache_repository(name: str, storage: Path) -> str:
    """Returns Apache's piece for the storage of one repository."""
    place = _quoted(storage)
    return f"""\
# Serves repository {name}; written by cvmfs_server.
KeepAlive On
AddType application/json .json
Alias "/cvmfs/{name}" "{place}"
<Directory "{place}">
    Options -MultiViews
    AllowOverride Limit AuthConfig
    Require all granted
    EnableMMAP Off
    EnableSendFile Off
    <FilesMatch "^\\.cvmfs">
        ForceType application/x-cvmfs
    </FilesMatch>
    <FilesMatch "^[^.]*$">
        ForceType application/octet-stream
    </FilesMatch>
    Header unset Last-Modified
    RequestHeader unset If-Modified-Since
    FileETag None
    ExpiresActive On
    ExpiresDefault "access plus 3 days"
    ExpiresByType application/x-cvmfs "access plus {CONTROL_S} seconds"
    ExpiresByType application/json "access plus {CONTROL_S} seconds"
</Directory>
"""


def _source(url: str) -> str:
    """Returns the URL of a source that a web server can pass requests on to."""
    if not re.fullmatch(r"https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~/-]*)?", url):
        message = f"{url!r} cannot be written into a web server's configuration: it is no plain http or https URL"
        raise InvalidInput(message, operation="configure the web server", exit_code=1)
    return url.rstrip("/")


def apache_pass_through(name: str, url: str) -> str:
    """Returns Apache's piece that passes requests for one repository on to its source, but for the web API."""
    return f"""\
# Passes requests for repository {name} on; written by cvmfs_server.
ProxyPass "/cvmfs/{name}/api/" "!"
ProxyPass "/cvmfs/{name}/" "{_source(url)}/"
"""


def nginx_pass_through(name: str, url: str) -> str:
    """Returns nginx's piece that passes requests for one repository on to its source, but for the web API."""
    return f"""\
# Passes requests for repository {name} on; written by cvmfs_server.
location ^~ "/cvmfs/{name}/api/" {{
    return 404;
}}
location ^~ "/cvmfs/{name}/" {{
    proxy_pass {_source(url)}/;
    proxy_read_timeout 60s;
}}
"""


def apache_lists(info: Path) -> str:
    """Returns Apache's piece for the lists of this server's repositories."""
    place = _quoted(info)
    return f"""\
# Serves the list of this server's repositories; written by cvmfs_server.
Alias "/cvmfs/info" "{place}"
<Directory "{place}">
    Options -MultiViews
    Require all granted
    AddType application/json .json
    ExpiresActive On
    ExpiresByType application/json "access plus {CONTROL_S} seconds"
</Directory>
"""


def nginx_server(names: list[str], pieces: Path, *, has_ipv6: bool) -> str:
    """Returns the server that holds nginx's pieces; `names` are the host names that it answers to."""
    listen = "    listen 80;\n" + ("    listen [::]:80;\n" if has_ipv6 else "")
    return f"""\
# Serves the repositories of {pieces}; written by cvmfs_server.
# Another server of this nginx serves them as well once it has the line with `include`.
server {{
{listen}    server_name {" ".join(names)};
    include "{_quoted(pieces)}/*.conf";
}}
"""


def nginx_repository(name: str, storage: Path) -> str:
    """Returns nginx's piece for the storage of one repository: locations, for a `server` to include."""
    place, prefix = _quoted(storage), f"/cvmfs/{re.escape(name)}"
    return f"# Serves repository {name}; written by cvmfs_server.\n" + "".join(
        f"""\
location ~ "^{prefix}/({files})$" {{
    alias "{place}/$1";
    types {{}}
    default_type {kind};
    expires {seconds}s;
    gzip off;
    etag off;
    if_modified_since off;
    add_header Last-Modified "";
}}
"""
        for files, kind, seconds in (
            (r"(?:.+/)?\.cvmfs[^/]*", "application/x-cvmfs", CONTROL_S),
            (r".+\.json", "application/json", CONTROL_S),
            (r".+", "application/octet-stream", OBJECTS_S),
        )
    )


def nginx_lists(info: Path) -> str:
    """Returns nginx's piece for the lists of this server's repositories."""
    return f"""\
# Serves the list of this server's repositories; written by cvmfs_server.
location ^~ /cvmfs/info/ {{
    alias "{_quoted(info)}/";
    types {{ application/json json; }}
    expires {CONTROL_S}s;
}}
"""
