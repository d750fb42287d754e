"""Mounts that are wrong while CVMFS_AUTO_REPAIR_MOUNTPOINT is off: refused, said, repaired by `mount` only."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.support.publishing import publishing

if TYPE_CHECKING:
    from pathlib import Path


def test_repair_is_left_to_the_administrator(tmp_path: Path) -> None:
    with publishing(tmp_path, "repair.example.org") as publisher:
        publisher.create()
        publisher.configure({"CVMFS_AUTO_REPAIR_MOUNTPOINT": "false"})
        (publisher.spool / "checkout").write_text("v1 0123 fix trunk")
        assert "[checked out tag 'v1' on branch 'fix'])" in publisher.server("list").stdout
        (publisher.spool / "checkout").unlink()
        subprocess.run(["umount", str(publisher.union)], check=True)
        refused = publisher.server("transaction", check=False)
        assert refused.returncode == 1
        assert "/cvmfs/repair.example.org is not mounted properly." in refused.stderr
        refused = publisher.server("tag", "-a", "here", publisher.fqrn, check=False)
        assert refused.returncode == 1
        assert "repair it with cvmfs_server mount repair.example.org" in refused.stderr
        publisher.server("mount", "repair.example.org")
        publisher.server("transaction")
