"""All contenders by name, in the order in which they are shown."""

from collections.abc import Mapping

from bench.contenders import guest, near, nearfs, nfs
from bench.harness.contender import Contender

ALL: Mapping[str, Contender] = {
    contender.name: contender
    for contender in (
        *nearfs.ALL,
        nfs.Nfs3(),
        nfs.Nfs3Tuned(),
        nfs.Nfs4(),
        nfs.Nfs4Tuned(),
        guest.GuestNearfs(),
        guest.GuestLocal(),
        near.Local(),
        near.Squashfuse(),
    )
}
