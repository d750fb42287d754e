"""Owns `nearfs web-config`: prints configurations of web servers and caches around a storage.

Does not own their text (`nearfs.web_server`). Writes nothing: what is printed is put in place by whoever reads it.
Main thread.
"""

from __future__ import annotations

from pathlib import Path

import click

from nearfs.cli import output


@click.group("web-config")
def command() -> None:
    """Print configurations of Apache, nginx, Varnish and Squid around a storage.

    `cvmfs_server` writes those of a storage by itself, unless it is told -p; these are for all other places.
    """


_ROOT = click.option("--root", type=click.Path(path_type=Path), default=Path("/srv/cvmfs"), show_default=True)
_API = click.option("--api", "api", metavar="URL", help="Address of a `nearfs serve` that answers the geo API.")
_BACKEND = click.option("--backend", "backend", metavar="URL", required=True, help="The storage: http://HOST[:PORT].")


def _names(root: Path) -> list[str]:
    from nearfs.errors import NotFound

    names = sorted(path.parent.name for path in root.glob("*/data") if path.is_dir())
    if not names:
        raise NotFound(f"{root}: no repository there (--root)", operation="write configuration", exit_code=1)
    return names


@command.command("apache")
@_ROOT
@_API
def apache(*, root: Path, api: str | None) -> None:
    """A mirror behind Apache: all storages of a directory. Needs: a2enmod headers expires."""
    from nearfs.web_server import pieces, proxies

    # What is proxied has to be named before what is a directory.
    parts = [proxies.apache_api(proxies.Backend.of(api))] if api else []
    parts += [pieces.apache_repository(name, root / name) for name in _names(root)]
    output.line("\n".join([*parts, pieces.apache_lists(root / "info")]).rstrip("\n"))


@command.command("nginx")
@_ROOT
@_API
def nginx(*, root: Path, api: str | None) -> None:
    """A mirror behind nginx: locations for a `server`, of all storages of a directory."""
    from nearfs.web_server import pieces, proxies

    parts = [proxies.nginx_api(proxies.Backend.of(api))] if api else []
    parts += [pieces.nginx_repository(name, root / name) for name in _names(root)]
    output.line("\n".join([*parts, pieces.nginx_lists(root / "info")]).rstrip("\n"))


@command.command("nginx-cache")
@_BACKEND
@click.option("--cache", default="/var/cache/nginx/cvmfs", show_default=True, help="Directory of what is kept.")
@click.option("--size-mb", type=click.IntRange(1), default=50_000, show_default=True)
@click.option("--port", type=click.IntRange(1, 65_535), default=8000, show_default=True)
def nginx_cache(*, backend: str, cache: str, size_mb: int, port: int) -> None:
    """A reverse proxy by nginx: a cache before a storage."""
    from nearfs.web_server import proxies

    output.line(proxies.nginx_reverse(proxies.Backend.of(backend), cache, size_mb, port).rstrip("\n"))


@command.command("varnish")
@_BACKEND
def varnish(*, backend: str) -> None:
    """A reverse proxy by Varnish (VCL): a cache before a storage."""
    from nearfs.web_server import proxies

    output.line(proxies.varnish(proxies.Backend.of(backend)).rstrip("\n"))


@command.command("squid")
@click.option("--allow", "allowed", metavar="NETWORK", multiple=True, required=True, help="Whose clients may ask.")
@click.option("--source", "sources", metavar="DOMAIN", multiple=True, help="Where it may go.  [default: anywhere]")
@click.option("--memory-mb", type=click.IntRange(1), default=4096, show_default=True)
@click.option("--disk", default="", help="Directory for what does not fit in memory.  [default: none]")
@click.option("--disk-mb", type=click.IntRange(1), default=50_000, show_default=True)
@click.option("--port", type=click.IntRange(1, 65_535), default=3128, show_default=True)
def squid(
    *, allowed: tuple[str, ...], sources: tuple[str, ...], memory_mb: int, disk: str, disk_mb: int, port: int
) -> None:
    """A forward proxy by Squid: the cache of a site (CVMFS_HTTP_PROXY)."""
    from nearfs.web_server import proxies

    output.line(proxies.squid(list(allowed), list(sources), memory_mb, disk, disk_mb, port).rstrip("\n"))
