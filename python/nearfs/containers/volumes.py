"""The rules of volumes: one mount a revision, counted by who uses it, gone with the last, found again after a restart.

Owns: what the plugin's requests do, and the state that they change. Does not own: their wire form (`protocol`), names
(`naming`), mounting (`mounting`).
Threading: every method may be called from any thread. A mount is changed under a lock of its own, so that one slow
repository delays no other; the state is changed under one lock, which is never held while a file system is touched.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import threading
import time
from typing import TYPE_CHECKING

from nearfs.containers.naming import Volume, check_volume_name, parse
from nearfs.containers.state import Record, State, User
from nearfs.errors import Busy, InvalidInput, NearfsError, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from nearfs.containers.mounting import Mounter
    from nearfs.mount_table import Entry

# Docker mounts first and starts the container then. Who is not seen in a container after so long, never will be.
STARTING_LIMIT_S = 600.0


def _seconds_since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Volumes:
    """All volumes of this machine."""

    def __init__(
        self, state: State, mounter: Mounter, limit_s: float, say: Callable[[str], None],
        now_s: Callable[[], float] = _seconds_since_boot,
    ) -> None:  # fmt: skip
        """Takes over what an earlier plugin left; a request answers or fails within `limit_s`.

        `say` gets a line a change, for the log. `now_s` are seconds since the machine was started.
        """
        self._state, self._mounter, self._limit_s, self._say, self._now_s = state, mounter, limit_s, say, now_s
        self._changing = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}

    def recover(self) -> None:
        """Unmounts what nobody uses any more. Mounts that are used stay as they are: their clients outlive us."""
        with self._changing:
            volumes = {record.volume.identity: record.volume for record in self._state.volumes.values()}
        for volume in volumes.values():
            try:
                with self._only_one(volume, time.monotonic() + self._limit_s):
                    self._end_if_unused(volume)
            except NearfsError as error:
                self._say(f"{volume.described()}: {error}")

    def create(self, name: str, options: Mapping[str, str]) -> None:
        """Notes a volume; raises `InvalidInput` for one that cannot be, `Busy` where the name means another one."""
        check_volume_name(name)
        with self._changing:
            present = self._state.volumes.get(name)
        if present is not None and not options:
            return
        volume = parse(name, options)
        if present is None:
            self._mounter.check(volume, time.monotonic() + self._limit_s)
        elif present.volume != volume:
            message = f"volume {name} is {present.volume.described()} already; `docker volume rm {name}` forgets it"
            raise Busy(message, operation="create volume", subject=name)
        created = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        with self._changing:
            self._state.volumes.setdefault(name, Record(volume, created))
            self._state.save()

    def remove(self, name: str) -> None:
        """Forgets a volume; raises `NotFound`, or `Busy` where a container uses it."""
        volume = self._known(name).volume
        with self._only_one(volume, time.monotonic() + self._limit_s):
            shared = self._shares(name, volume)
            if not shared:
                self._end_if_unused(volume)
                if self._users(volume):
                    message = f"volume {name} is in use by {len(self._users(volume))} container(s)"
                    raise Busy(message, operation="remove volume", subject=name)
            with self._changing:
                self._state.volumes.pop(name, None)
                self._state.save()
            if not shared:
                self._mounter.unmount(volume)
                self._mounter.forget(volume)

    def mount(self, name: str, who: str) -> str:
        """Returns where the volume is mounted, for one more request of `who`; raises a `NearfsError` with the reason.

        A mount that died is replaced, and those who use it keep what they have: errors, until they are started again.
        """
        deadline = time.monotonic() + self._limit_s
        volume = self._known(name).volume
        with self._only_one(volume, deadline):
            with self._changing:
                user = self._state.users.setdefault(volume.identity, {}).setdefault(who, User(0, 0, 0.0))
                user.pending, user.since_s = user.pending + 1, self._now_s()
                self._state.save()
            is_up = False
            try:
                self._mounter.mount(volume, deadline)
                is_up = True
            finally:
                with self._changing:
                    user.pending -= 1
                    user.count += is_up
                    self._drop_idle(volume)
                    self._state.save()
        self._say(f"mounted {volume.described()} for {who}")
        return self._mounter.point(volume)

    def unmount(self, name: str, who: str) -> None:
        """Ends one request of `who`; the mount goes with the last. One that is not known has ended already."""
        volume = self._known(name).volume
        with self._only_one(volume, time.monotonic() + self._limit_s):
            with self._changing:
                user = self._state.users.get(volume.identity, {}).get(who)
                if user is None:
                    self._say(f"{who} was no user of {volume.described()}")
                else:
                    user.count = max(0, user.count - 1)
                self._drop_idle(volume)
                # Before the mount goes: a plugin that dies in between finds a mount without users, and ends it.
                self._state.save()
            self._end_if_unused(volume)

    def path(self, name: str) -> str:
        """Returns where the volume is mounted, empty where it is not; raises `NotFound`."""
        return self._path(self._known(name).volume)

    def described(self, name: str) -> dict[str, object]:
        """Returns what Docker shows of a volume; raises `NotFound`."""
        record = self._known(name)
        volume = record.volume
        status: dict[str, object] = {"repository": volume.repository, "containers": len(self._users(volume))}
        status |= {volume.kind.value: volume.value} if volume.value else {"revision": volume.kind.value}
        status |= dict(volume.parameters)
        return {"Name": name, "Mountpoint": self._path(volume), "CreatedAt": record.created, "Status": status}

    def listed(self) -> list[dict[str, object]]:
        """Returns name and mount point of every volume."""
        with self._changing:
            volumes = {name: record.volume for name, record in self._state.volumes.items()}
        return [{"Name": name, "Mountpoint": self._path(volume)} for name, volume in sorted(volumes.items())]

    def _known(self, name: str) -> Record:
        with self._changing:
            record = self._state.volumes.get(name)
        if record is None:
            raise NotFound(f"no such volume: {name}", operation="find volume", subject=name)
        return record

    def _path(self, volume: Volume) -> str:
        entry = self._mounter.shown(volume)
        return entry.point if entry is not None else ""

    def _users(self, volume: Volume) -> dict[str, User]:
        with self._changing:
            return dict(self._state.users.get(volume.identity, {}))

    def _shares(self, name: str, volume: Volume) -> bool:
        with self._changing:
            others = (record.volume.identity for other, record in self._state.volumes.items() if other != name)
            return volume.identity in others

    def _drop_idle(self, volume: Volume) -> None:
        """Forgets who asked for nothing any more; called with the state locked."""
        users = self._state.users.get(volume.identity, {})
        for who in [who for who, user in users.items() if user.count == user.pending == 0]:
            del users[who]
        if not users:
            self._state.users.pop(volume.identity, None)

    def _end_if_unused(self, volume: Volume) -> None:
        """Unmounts a volume without users, and one whose users Docker has lost: called with the mount locked."""
        users = self._users(volume)
        entry = self._mounter.shown(volume)
        if users and self._are_lost(users, entry):
            self._say(f"{', '.join(users)} ended without a word: {volume.described()} is not used any more")
            with self._changing:
                self._state.users.pop(volume.identity, None)
                self._state.save()
            users = {}
        if entry is not None and not users:
            self._mounter.unmount(volume)
            self._say(f"unmounted {volume.described()}")

    def _are_lost(self, users: Mapping[str, User], entry: Entry | None) -> bool:
        """Tells whether nobody can be using the mount: Docker was killed, and did not say who ended meanwhile."""
        latest = max(user.since_s for user in users.values())
        if any(user.pending for user in users.values()) or self._now_s() - latest < STARTING_LIMIT_S:
            return False
        return entry is None or self._mounter.is_seen_elsewhere(entry) is False

    @contextlib.contextmanager
    def _only_one(self, volume: Volume, deadline: float) -> Iterator[None]:
        """Lets one request at a time change a mount; raises `Busy` where its turn does not come in time."""
        with self._changing:
            lock = self._locks.setdefault(volume.identity, threading.Lock())
        if not lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            message = f"{volume.described()} is being mounted or unmounted for somebody else, and that takes too long"
            raise Busy(message, operation="lock volume", subject=volume.repository)
        try:
            yield
        finally:
            lock.release()


def check_user(who: object) -> str:
    """Returns Docker's identifier of a user of a mount; raises `InvalidInput`."""
    if who is None:
        return ""  # of an engine that is older than identifiers
    if not isinstance(who, str) or len(who) > 255 or not (who == "" or who.isprintable()):
        raise InvalidInput("the ID of a request is no text of 255 printable characters", operation="read request")
    return who
