"""Which configuration files are read, in which order, and which file each value came from (client.md 1.1 and 1.3).

Owns: the list of files, the protected parameter, the configuration repository, templates, and completing short names.
Does not own: the syntax of one file (`syntax`), nor the meaning of a value (`model`).
Threading: `load` has no shared state and never touches the process environment; whoever wants the parameters
exported takes `Settings.environment`.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING

from nearfs.config import names, syntax
from nearfs.errors import InitCode, InvalidInput, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

DEFAULT_ROOT = "/etc/cvmfs"
ON_VALUES = frozenset({"yes", "on", "1", "true"})
OFF_VALUES = frozenset({"no", "off", "0", "false"})
INTERNAL_ORIGIN = "@INTERNAL@"

# autofs may have to mount the configuration repository over a slow network before the file can be opened.
EXTERNAL_OPEN_TIMEOUT_S = 60.0
_PROTECTED = "CVMFS_CONFIG_REPOSITORY"
_UNQUOTED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/:._,-")


@dataclass(frozen=True)
class Setting:
    """One parameter: its value after templates, and the file that set it last."""

    name: str
    value: str
    origin: str

    def dump_line(self) -> str:
        """Returns `KEY=value    # from <origin>`, the value quoted where a shell would need it."""
        return f"{self.name}={quoted(self.value)}    # from {self.origin}"


def quoted(value: str) -> str:
    """Returns the value as the dump prints it: bare if only harmless characters, else in single quotes."""
    if _UNQUOTED.issuperset(value):
        return value
    return "'" + value.replace("'", "'\\''") + "'"


@dataclass
class Settings:
    """All parameters that the files defined, the environment that they make, and what the log should hear.

    `external_base` is the directory of the configuration repository, None where none applies.
    """

    fqrn: str
    root: str = DEFAULT_ROOT
    external_base: str | None = None
    values: dict[str, Setting] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def get(self, name: str) -> str | None:
        """Returns the value, or None if no file defined the parameter. A defined one may be the empty string."""
        setting = self.values.get(name)
        return None if setting is None else setting.value

    def origin(self, name: str) -> str:
        """Returns the file that set the parameter, for messages."""
        setting = self.values.get(name)
        return "no file" if setting is None else setting.origin

    def is_on(self, name: str) -> bool:
        """Tells whether the parameter is defined with one of the "on" words."""
        return (self.get(name) or "").lower() in ON_VALUES

    def is_off(self, name: str) -> bool:
        """Tells whether the parameter is defined with one of the "off" words; not the opposite of `is_on`."""
        return (self.get(name) or "").lower() in OFF_VALUES

    def set(self, name: str, value: str, origin: str) -> None:
        """Sets one parameter, templates replaced, and exports it to the environment that later files see."""
        replaced = expand_templates(value, self.fqrn)
        self.values[name] = Setting(name, replaced, origin)
        self.environment[name] = replaced

    def dump(self) -> Iterator[str]:
        """Yields the dump of client.md 1.2: sorted by key, one line each."""
        for name in sorted(self.values):
            yield self.values[name].dump_line()


def expand_templates(value: str, fqrn: str) -> str:
    """Replaces `@fqrn@` and `@org@`; unknown templates and a lone `@` stay as they are."""
    return value.replace("@fqrn@", fqrn).replace("@org@", names.organization_of(fqrn))


def load(
    fqrn: str,
    *,
    root: str = DEFAULT_ROOT,
    files: Sequence[str] | None = None,
    simple: bool = False,
    override: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Reads the configuration of a repository and returns every parameter with its origin.

    `fqrn` may be empty (only the files that concern no repository); otherwise it must have a domain. `files`
    (`-o config=A:B:C`) replaces the whole order. `simple` is `simple_options_parsing`. `override` is a file in the
    simple form that is read after all others and has to exist: what one mount wants to be different. `environ` is the
    environment that the files see, by default the process's own.

    Raises `InvalidInput` for a bad name or a file that cannot be run, `NotFound` (exit code 1) if a required
    configuration repository is missing.
    """
    if fqrn:
        names.check_fqrn(fqrn)
    settings = Settings(fqrn, root, environment=dict(os.environ if environ is None else environ))
    reader = _Reader(settings, simple=simple)
    if files is not None:
        for path in files:
            reader.read(path, expected=True)
    else:
        settings.environment["CVMFS_FQRN"] = fqrn
        reader.read_all()
    if override is not None:
        reader.read_override(override)
    return settings


def split_files(option: str) -> list[str]:
    """Returns the files of `-o config=A:B:C`."""
    return [path for path in option.split(":") if path]


def complete_name(name: str, *, root: str = DEFAULT_ROOT, environ: Mapping[str, str] | None = None) -> str:
    """Returns the fully qualified name: a name without a dot gets the domain of CVMFS_DEFAULT_DOMAIN."""
    names.check_name(name)
    if "." in name:
        return name
    domain = load("", root=root, environ=environ).get("CVMFS_DEFAULT_DOMAIN")
    if not domain:
        message = f"repository name {name} has no domain, and CVMFS_DEFAULT_DOMAIN is not set in {root}"
        raise InvalidInput(message, operation="complete repository name", subject=name)
    return names.check_fqrn(f"{name}.{domain}")


class _Reader:
    """Walks the order of client.md 1.1 once; lives for one `load`."""

    def __init__(self, settings: Settings, *, simple: bool) -> None:
        self._settings = settings
        self._simple = simple
        self._protected: str | None = None

    def read_all(self) -> None:
        root, fqrn = self._settings.root, self._settings.fqrn
        domain = names.domain_of(fqrn)
        self.read(f"{root}/default.conf")
        for path in _drop_ins(f"{root}/default.d"):
            self.read(path)
        self._protected = self._settings.get(_PROTECTED) or ""
        external = self._settings.external_base = self._external_base()
        self._read_external(external, "default.conf")
        self.read(f"{root}/default.local")
        if not fqrn:
            return
        self._read_external(external, f"domain.d/{domain}.conf")
        self.read(f"{root}/domain.d/{domain}.conf")
        self.read(f"{root}/domain.d/{domain}.local")
        self._read_external(external, f"config.d/{fqrn}.conf")
        self.read(f"{root}/config.d/{fqrn}.conf")
        self.read(f"{root}/config.d/{fqrn}.local")

    def read(self, path: str, *, expected: bool = False) -> None:
        settings = self._settings
        parsed = syntax.parse_simple(path) if self._simple else syntax.parse_shell(path, settings.environment)
        if parsed is None:
            if expected:
                settings.warnings.append(f"configuration file {path} does not exist")
            return
        self._take(parsed, path)

    def read_override(self, path: str) -> None:
        """Reads the file of one mount, without a shell: what is in it may come from somebody who may not run one."""
        parsed = syntax.parse_simple(path)
        if parsed is None:
            message = f"configuration file {path} does not exist"
            raise NotFound(message, operation="read configuration", subject=path, exit_code=InitCode.OPTIONS)
        self._take(parsed, path)

    def _take(self, parsed: syntax.ParsedFile, path: str) -> None:
        settings = self._settings
        settings.warnings.extend(parsed.warnings)
        for name, value in parsed.values.items():
            if self._may_set(name, value, path):
                settings.set(name, value, path)

    def _may_set(self, name: str, value: str, path: str) -> bool:
        if self._protected is None or name != _PROTECTED:
            return True
        if value != self._protected:
            text = f"attempt to change protected {name} from {self._protected!r} to {value!r} in {path} is ignored"
            self._settings.warnings.append(text)
        return False

    def _external_base(self) -> str | None:
        """Returns `<mount dir>/<configuration repository>/etc/cvmfs`, or None if no such repository applies."""
        repository, fqrn = self._protected, self._settings.fqrn
        if not fqrn or not repository or repository == fqrn:
            return None
        if not names.is_valid_name(repository):
            self._settings.warnings.append(f"CVMFS_CONFIG_REPOSITORY {repository!r} is no valid name and is ignored")
            return None
        mount_dir = self._settings.get("CVMFS_MOUNT_DIR")
        if not mount_dir:
            self._settings.warnings.append(f"CVMFS_MOUNT_DIR is not set: configuration repository {repository} unused")
            return None
        return f"{mount_dir}/{repository}/etc/cvmfs"

    def _read_external(self, base: str | None, name: str) -> None:
        if base is None:
            return
        path = f"{base}/{name}"
        _open_detached(path)
        parent = str(PurePath(path).parent)
        if os.path.isdir(parent):
            self.read(path)
            return
        if self._settings.is_on("CVMFS_CONFIG_REPO_REQUIRED"):
            message = f"required configuration repository directory does not exist: {parent}"
            raise NotFound(message, operation="read configuration repository", subject=parent, exit_code=1)
        self._settings.warnings.append(f"configuration repository directory does not exist: {parent}")


def _drop_ins(directory: str) -> list[str]:
    """Returns the `*.conf` files of a directory in bytewise order; none if the directory does not exist."""
    try:
        entries = os.listdir(os.fsencode(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [os.path.join(directory, os.fsdecode(entry)) for entry in sorted(entries) if entry.endswith(b".conf")]


def _open_detached(path: str) -> None:
    """Opens a file in a process of another session, so that autofs mounts the repository that holds it.

    autofs never mounts for its own process group, in which a mount helper runs. A failure shows when the file is read.
    """
    if os.path.exists(path):
        return
    try:
        subprocess.run(
            ["/bin/sh", "-c", ': < "$1"', "sh", path],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            timeout=EXTERNAL_OPEN_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return
