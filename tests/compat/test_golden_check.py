"""`cvmfs_server check` accepts what the reference implementation wrote."""

import shutil
from pathlib import Path

import pytest

from tests.support import processes
from tests.support.golden import NAMES, TAGS, Golden
from tests.support.publishing import command

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("name", NAMES)
def test_check_accepts_a_golden_repository(golden: Golden, name: str, tmp_path: Path) -> None:
    repository = golden.repositories[name]
    configuration = tmp_path / "etc" / "cvmfs" / "repositories.d" / name
    configuration.mkdir(parents=True)
    shutil.copy(repository.folder / "client.conf", configuration)
    server = (repository.folder / "server.conf").read_text()
    spool = tmp_path / "spool"
    spool.mkdir()
    storage = repository.storage
    (configuration / "server.conf").write_text(
        f"{server}\nCVMFS_UPSTREAM_STORAGE=local,{storage}/data/txn,{storage}\nCVMFS_SPOOL_DIR={spool}\n"
    )

    def check(*options: str) -> str:
        words = command("check", *options, name)
        return processes.run(words, env={"NEARFS_PREFIX": str(tmp_path)}).stdout

    assert check("-c").endswith("no problems found\n")
    assert check("-i").endswith("no problems found\n")
    for tag in TAGS:
        assert check("-t", tag).endswith("no problems found\n")
