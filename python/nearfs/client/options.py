"""The options of `cvmfs2 -o`: which are ours, which go to the kernel, which are ignored (client.md 2.1).

Owns: reading the comma list. Threading: pure functions.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nearfs.errors import InitCode, InvalidInput

_IGNORED = frozenset({"_netdev", "user", "nouser", "users", "auto", "noauto", "defaults", "rw", "ro", "nodev", "dev"})
# Understood by the reference, without effect here: the watchdog only unmounts, and there is no module to load.
_WITHOUT_EFFECT = frozenset({"disable_watchdog", "libfuse", "loop", "nosuid", "exec", "subtype"})

# Loop -> whether it is the one in Python. A bare `loop` is a word of mount(8), and ignored.
_LOOPS = {"native": False, "python": True}


@dataclass
class MountOptions:
    """What the command line asked for; None where it said nothing."""

    config_files: list[str] | None = None
    override: str | None = None
    foreground: bool = False
    parse_only: bool = False
    debug: bool = False
    single_threaded: bool = False
    simple_parsing: bool = False
    system_mount: bool = False
    grab_mountpoint: bool = False
    allow_suid: bool = False
    allow_other: bool = False
    remount: bool = False
    fsname: str = "cvmfs2"
    python_loop: bool = False
    uid: int | None = None
    gid: int | None = None
    ignored: list[str] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)

    def take(self, option_list: str) -> None:
        """Reads one `-o` list; raises `InvalidInput` (exit code 2) for an option that nobody knows."""
        for option in filter(None, option_list.split(",")):
            self._take_one(option)
            self.taken.append(option)

    def _take_one(self, option: str) -> None:
        key, _, value = option.partition("=")
        switches = {
            "foreground": "foreground",
            "parse": "parse_only",
            "debug": "debug",
            "fuse_debug": "debug",
            "simple_options_parsing": "simple_parsing",
            "system_mount": "system_mount",
            "grab_mountpoint": "grab_mountpoint",
            "cvmfs_suid": "allow_suid",
            "suid": "allow_suid",
            "allow_other": "allow_other",
            "remount": "remount",
        }
        if key in switches and not value:
            setattr(self, switches[key], True)
        elif key == "config":
            self.config_files = [path for path in value.split(":") if path]
        elif key == "override" and value:
            self.override = value
        elif key in ("uid", "gid"):
            setattr(self, key, _identity(key, value))
        elif key == "fsname" and value:
            self.fsname = value
        elif key == "loop" and value:
            self.python_loop = _LOOPS[_known_loop(value)]
        elif key in _IGNORED or key in _WITHOUT_EFFECT:
            self.ignored.append(option)
        else:
            message = f"unknown mount option '{option}' (cvmfs2 --help lists them)"
            raise InvalidInput(message, operation="read options", subject=option, exit_code=InitCode.OPTIONS)


def _known_loop(value: str) -> str:
    if value not in _LOOPS:
        message = f"loop={value}: known loops are {', '.join(_LOOPS)}"
        raise InvalidInput(message, operation="read options", subject="loop", exit_code=InitCode.OPTIONS)
    return value


def _identity(key: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and int(value) < 1 << 32):
        message = f"{key}={value}: a number is needed"
        raise InvalidInput(message, operation="read options", subject=key, exit_code=InitCode.OPTIONS)
    return int(value)
