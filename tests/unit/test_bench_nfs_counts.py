"""What the kernel counts for an NFS mount is read for the right mount and by the right columns."""

from bench.contenders.nfs import operations

MOUNTSTATS = """\
device hostfs mounted on / with fstype hostfs
device 10.0.0.1:/other mounted on /mnt/tree-of-others with fstype nfs statvers=1.1
\tper-op statistics
\t     GETATTR: 9 9 0 900 9000 0 1 1 0
device 10.0.0.1:/export mounted on /mnt/tree with fstype nfs4 statvers=1.1
\topts:\tro,vers=4.2
\tage:\t3
\txprt:\ttcp 0 0 1 0 0 8 8 0 16 0 2 0 0
\tper-op statistics
\t        NULL: 0 0 0 0 0 0 0 0 0
\t        READ: 3 4 1 300 70000 0 150 151 0
\t     GETATTR: 2 2 0 200 224 0 100 100 0

device tmpfs mounted on /run with fstype tmpfs
"""


def test_calls_and_received_bytes_by_operation() -> None:
    assert operations(MOUNTSTATS, "/mnt/tree") == {"READ": (3, 70000), "GETATTR": (2, 224)}


def test_a_mount_that_is_not_there_has_no_counts() -> None:
    assert operations(MOUNTSTATS, "/mnt") == {}
