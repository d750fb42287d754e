"""All contenders by name, in the order in which they are shown."""

from collections.abc import Mapping

from bench.contenders import near, nearfs
from bench.harness.contender import Contender

ALL: Mapping[str, Contender] = {
    contender.name: contender
    for contender in (
        nearfs.Nearfs(),
        nearfs.NearfsNginx(),
        nearfs.NearfsSquid(),
        nearfs.Portable(),
        nearfs.Reference(),
        near.Local(),
        near.Squashfuse(),
    )
}
