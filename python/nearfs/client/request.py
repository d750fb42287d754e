"""What to mount where, and as whom.

Owns what follows from configuration and options together. Threading: immutable.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nearfs.client import privileges

if TYPE_CHECKING:
    from nearfs.client.options import MountOptions
    from nearfs.config.model import ClientConfig


@dataclass(frozen=True)
class Request:
    """What to mount where."""

    config: ClientConfig
    options: MountOptions
    mountpoint: str

    @property
    def fqrn(self) -> str:
        """Returns the repository name."""
        return self.config.fqrn

    @property
    def owner(self) -> privileges.Owner:
        """Returns the user and group to run as."""
        uid = os.geteuid() if self.options.uid is None else self.options.uid
        gid = os.getegid() if self.options.gid is None else self.options.gid
        return privileges.Owner(uid, gid)

    @property
    def changes_user(self) -> bool:
        """Tells whether the process that serves is to be another user than the one that mounts."""
        return not self.owner.is_current

    @property
    def allows_suid(self) -> bool:
        """Tells whether set-uid bits of the repository count."""
        return self.options.allow_suid or self.config.suid

    def talking_at(self, beside: str) -> Request:
        """Returns the request of a mount beside others: each has a control socket of its own, none takes another's."""
        return replace(self, config=replace(self.config, talk_socket=self.config.talk_socket + beside))

    def titles(self) -> tuple[tuple[str, ...], ...]:
        """Returns the command lines under which the process shows itself, the preferred one first."""
        name = "@vmfs2" if self.config.process.is_kept_by_systemd else "cvmfs2"
        end = (self.fqrn, self.mountpoint)
        return (name, "-o", ",".join(self.options.taken), *end), (name, *end)
