"""`cvmfs_config showconfig`, as a function and as a command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import nearfs
from nearfs.cli import showconfig_cmd
from nearfs.compat import cvmfs_config
from nearfs.config import layers
from nearfs.config.parameters import PARAMETERS

FQRN = "lab.example.org"
NOTE = " (accepted, without effect in this version)"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "default.conf").write_text(
        "CVMFS_QUOTA_LIMIT=4000\nCVMFS_SHARED_CACHE=yes\nCVMFS_HTTP_PROXY='http://p:3128;DIRECT'\nSITE=x\n"
    )
    (tmp_path / "default.local").write_text("CVMFS_DEFAULT_DOMAIN=example.org\nCVMFS_REPOSITORIES=lab,b.example.com\n")
    return tmp_path


def run(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(nearfs.__file__).parent.parent)}
    command = [sys.executable, "-m", "nearfs.compat.cvmfs_config", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


def expected_set_lines(root: Path, fqrn: str = FQRN) -> list[str]:
    conf, local = f"    # from {root}/default.conf", f"    # from {root}/default.local"
    return [
        f"CVMFS_REPOSITORY_NAME={fqrn}",
        "CVMFS_CACHE_DIR=/var/lib/cvmfs/shared    # from @INTERNAL@",
        f"CVMFS_DEFAULT_DOMAIN=example.org{local}",
        f"CVMFS_HTTP_PROXY='http://p:3128;DIRECT'{conf}",
        f"CVMFS_QUOTA_LIMIT=4000{conf}",
        f"CVMFS_REPOSITORIES=lab,b.example.com{local}",
        f"CVMFS_SHARED_CACHE=yes{conf}",
        f"SITE=x{conf}",
    ]


def test_lines_of_one_repository(root: Path) -> None:
    settings = layers.load(FQRN, root=str(root), environ={"PATH": "/usr/bin:/bin"})
    assert list(showconfig_cmd.config_lines(settings, skip_unset=True)) == expected_set_lines(root)
    lines = list(showconfig_cmd.config_lines(settings, skip_unset=False))
    assert [line for line in lines if not line.endswith("=")] == expected_set_lines(root)
    assert "CVMFS_ALIEN_CACHE=" in lines
    keys = [line.partition("=")[0] for line in lines[1:]]
    assert keys == sorted({*PARAMETERS, "SITE"})


@pytest.mark.parametrize("name", [FQRN, "lab"])
def test_command_prints_the_same(root: Path, name: str) -> None:
    ended = run("showconfig", "-s", "--root", str(root), name)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == expected_set_lines(root)


def test_command_without_repository_shows_all(root: Path) -> None:
    ended = run("showconfig", "-s", "--root", str(root))
    program = cvmfs_config.__file__
    first = ["", f"Running {program} -s lab:", *expected_set_lines(root)]
    second = ["", f"Running {program} -s b.example.com:", *expected_set_lines(root, "b.example.com")]
    assert ended.stdout.splitlines() == first + second
    assert ended.returncode == 0


def test_bad_name_is_one_sentence(root: Path) -> None:
    ended = run("showconfig", "--root", str(root), "a/b")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("cvmfs_config: invalid repository name: 'a/b'")
    assert "Traceback" not in ended.stderr


def test_warnings_of_files_go_to_standard_error(root: Path) -> None:
    (root / "default.local").write_text("CVMFS_CONFIG_REPOSITORY=a.b\nexit 1\n")
    ended = run("showconfig", "-s", "--root", str(root), FQRN)
    assert ended.returncode == 0
    assert "Warning: " in ended.stderr
    assert "Warning" not in ended.stdout


def test_bytes_come_out_as_they_went_in(root: Path) -> None:
    (root / "default.local").write_bytes(b"SITE=caf\xe9\n")
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(nearfs.__file__).parent.parent), "LC_ALL": "C"}
    command = [sys.executable, "-m", "nearfs.compat.cvmfs_config", "showconfig", "-s", "--root", str(root), FQRN]
    ended = subprocess.run(command, env=environment, capture_output=True, check=True, timeout=60)
    assert b"SITE='caf\xe9'    # from" in ended.stdout


@pytest.mark.parametrize("words", [[], ["no-such-command"], ["--help"]])
def test_unknown_or_no_subcommand_prints_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cvmfs_config.main(words) == 0
    assert "Usage: cvmfs_config" in capsys.readouterr().out


@pytest.mark.parametrize("command", sorted(cvmfs_config.NOT_YET))
def test_commands_to_come_say_why(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert cvmfs_config.main([command]) == 1
    said = capsys.readouterr().err
    assert f"'{command}' is not available in this version of nearfs: {cvmfs_config.NOT_YET[command]}" in said


@pytest.mark.parametrize("command", sorted(cvmfs_config.NEEDS_ROOT))
def test_root_is_asked_for_first(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert cvmfs_config.main([command]) == 1
    assert capsys.readouterr().out == "root privileges required\n"
