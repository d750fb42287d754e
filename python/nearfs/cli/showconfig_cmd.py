"""The `showconfig` command: every parameter of a repository, with its origin (client.md 2.6).

Owns: which lines are shown. Does not own: option parsing (`nearfs.compat.cvmfs_config`).
Threading: none; runs in the command's main thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearfs.cli import output
from nearfs.config import layers, model
from nearfs.config.parameters import PARAMETERS, lacks_effect

if TYPE_CHECKING:
    from collections.abc import Iterator

NO_EFFECT = "accepted, without effect in this version"


def config_lines(settings: layers.Settings, *, skip_unset: bool) -> Iterator[str]:
    """Yields the lines for one repository: its name, then all known and all found parameters, sorted.

    Raises `InvalidInput` if the cache directory, which is computed, cannot be told.
    """
    yield f"CVMFS_REPOSITORY_NAME={settings.fqrn}"
    shown = dict(settings.values)
    if not settings.get("CVMFS_CACHE_DIR"):
        cache_dir = model.cache_directory(settings)
        shown["CVMFS_CACHE_DIR"] = layers.Setting("CVMFS_CACHE_DIR", cache_dir, layers.INTERNAL_ORIGIN)
    for name in sorted(PARAMETERS.keys() | shown.keys()):
        setting = shown.get(name)
        if setting is not None:
            suffix = f" ({NO_EFFECT})" if lacks_effect(name) else ""
            yield setting.dump_line() + suffix
        elif not skip_unset:
            yield f"{name}="


def show_repository(name: str, *, root: str, skip_unset: bool) -> None:
    """Prints the configuration of one repository; warnings of the files go to standard error."""
    settings = layers.load(layers.complete_name(name, root=root), root=root)
    for warning in settings.warnings:
        output.complain(f"Warning: {warning}")
    for text in config_lines(settings, skip_unset=skip_unset):
        output.line(text)


def show_all(program: str, *, root: str, skip_unset: bool) -> None:
    """Prints the configuration of each repository in CVMFS_REPOSITORIES."""
    repositories = layers.load("", root=root).get("CVMFS_REPOSITORIES") or ""
    flag = "-s " if skip_unset else ""
    for name in (entry.strip() for entry in repositories.split(",")):
        if name:
            output.line()
            output.line(f"Running {program} {flag}{name}:")
            show_repository(name, root=root, skip_unset=skip_unset)
