"""The order of the files (client.md 1.1), the configuration repository (1.3), templates and the dump."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import nearfs
from nearfs.config import layers
from nearfs.errors import InvalidInput, NotFound

FQRN = "lab.example.org"
CONFIG_REPOSITORY = "cfg.example.org"
ENVIRON = {"PATH": "/usr/bin:/bin"}


class Etc:
    """A temporary /etc/cvmfs and a mount directory with a configuration repository."""

    def __init__(self, base: Path) -> None:
        self.root = base / "etc"
        self.mount_dir = base / "cvmfs"
        self.external = self.mount_dir / CONFIG_REPOSITORY / "etc" / "cvmfs"
        self.root.mkdir()

    def write(self, name: str, text: str) -> Path:
        return self._write(self.root / name, text)

    def write_external(self, name: str, text: str) -> Path:
        return self._write(self.external / name, text)

    @staticmethod
    def _write(path: Path, text: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def use_config_repository(self, extra: str = "") -> None:
        self.write("default.conf", f"CVMFS_MOUNT_DIR={self.mount_dir}\n{extra}")
        self.write("default.d/50-cfg.conf", f"CVMFS_CONFIG_REPOSITORY={CONFIG_REPOSITORY}\n")

    def load(self, fqrn: str = FQRN) -> layers.Settings:
        return layers.load(fqrn, root=str(self.root), environ=ENVIRON)


@pytest.fixture
def etc(tmp_path: Path) -> Etc:
    return Etc(tmp_path)


def test_files_are_read_in_order(etc: Etc) -> None:
    etc.use_config_repository()
    (etc.root / "default.conf").write_text(f"CVMFS_MOUNT_DIR={etc.mount_dir}\nTRAIL=1\n")
    files = [etc.root / "default.conf"]

    def add(number: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"TRAIL=$TRAIL,{number}\nONLY_{number}=yes\n")
        files.append(path)

    add("2a", etc.root / "default.d/10-a.conf")
    add("2b", etc.root / "default.d/9-b.conf")
    add("3", etc.external / "default.conf")
    add("4", etc.root / "default.local")
    add("5", etc.external / "domain.d/example.org.conf")
    add("6", etc.root / "domain.d/example.org.conf")
    add("7", etc.root / "domain.d/example.org.local")
    add("8", etc.external / f"config.d/{FQRN}.conf")
    add("9", etc.root / f"config.d/{FQRN}.conf")
    add("10", etc.root / f"config.d/{FQRN}.local")
    etc.write("default.d/99-ignored.local", "TRAIL=wrong\n")
    settings = etc.load()
    assert settings.get("TRAIL") == "1,2a,2b,3,4,5,6,7,8,9,10"
    assert settings.origin("TRAIL") == str(files[-1])
    assert settings.origin("ONLY_6") == str(etc.root / "domain.d/example.org.conf")
    assert settings.warnings == []


def test_without_repository_only_general_files_are_read(etc: Etc) -> None:
    etc.use_config_repository()
    etc.write_external("default.conf", "EXTERNAL=yes\n")
    etc.write("default.local", "LOCAL=yes\n")
    etc.write(f"config.d/{FQRN}.conf", "SPECIFIC=yes\n")
    settings = etc.load("")
    assert (settings.get("LOCAL"), settings.get("EXTERNAL"), settings.get("SPECIFIC")) == ("yes", None, None)


def test_files_see_fqrn_and_earlier_values_but_the_process_does_not(etc: Etc) -> None:
    etc.write("default.conf", "EARLIER=value\n")
    etc.write("default.local", "SEEN=$CVMFS_FQRN-$EARLIER\n")
    settings = etc.load()
    assert settings.get("SEEN") == f"{FQRN}-value"
    assert settings.environment["SEEN"] == f"{FQRN}-value"
    assert "SEEN" not in os.environ


def test_readonly_block_is_evaluated_once(etc: Etc) -> None:
    block = 'if [ "x$CVMFS_BASE_ENV" = x ]; then\n  readonly CVMFS_USER=cvmfs\n  readonly CVMFS_BASE_ENV=1\nfi\n'
    etc.write("default.conf", block)
    etc.write("default.local", block)
    settings = etc.load()
    assert (settings.get("CVMFS_USER"), settings.get("CVMFS_BASE_ENV")) == ("cvmfs", "1")
    assert settings.warnings == []


def test_config_repository_is_protected_after_default_d(etc: Etc) -> None:
    etc.use_config_repository()
    etc.write_external("default.conf", "")
    (etc.external / "domain.d").mkdir()
    (etc.external / "config.d").mkdir()
    etc.write("default.local", "CVMFS_CONFIG_REPOSITORY=evil.example.org\n")
    settings = etc.load()
    assert settings.get("CVMFS_CONFIG_REPOSITORY") == CONFIG_REPOSITORY
    assert len(settings.warnings) == 1
    assert "attempt to change protected CVMFS_CONFIG_REPOSITORY" in settings.warnings[0]


def test_unset_config_repository_is_frozen_as_empty(etc: Etc) -> None:
    etc.write("default.local", f"CVMFS_CONFIG_REPOSITORY={CONFIG_REPOSITORY}\nCVMFS_MOUNT_DIR={etc.mount_dir}\n")
    settings = etc.load()
    assert not settings.get("CVMFS_CONFIG_REPOSITORY")
    assert "protected" in settings.warnings[0]


def test_missing_config_repository_is_a_warning(etc: Etc) -> None:
    etc.use_config_repository()
    warnings = etc.load().warnings
    assert f"configuration repository directory does not exist: {etc.external}" in warnings


def test_missing_required_config_repository_is_an_error(etc: Etc) -> None:
    etc.use_config_repository("CVMFS_CONFIG_REPO_REQUIRED=Yes\n")
    text = f"^required configuration repository directory does not exist: {etc.external}$"
    with pytest.raises(NotFound, match=text) as caught:
        etc.load()
    assert caught.value.exit_code == 1


def test_config_repository_does_not_configure_itself(etc: Etc) -> None:
    etc.use_config_repository("CVMFS_CONFIG_REPO_REQUIRED=yes\n")
    assert etc.load(CONFIG_REPOSITORY).warnings == []


@pytest.mark.parametrize("name", ["../../tmp", "a/b", ".hidden"])
def test_invalid_config_repository_is_ignored(etc: Etc, name: str) -> None:
    etc.write("default.conf", f"CVMFS_MOUNT_DIR={etc.mount_dir}\nCVMFS_CONFIG_REPOSITORY={name}\n")
    assert "no valid name" in etc.load().warnings[0]


def test_config_repository_without_mount_dir_is_a_warning(etc: Etc) -> None:
    etc.write("default.conf", f"CVMFS_CONFIG_REPOSITORY={CONFIG_REPOSITORY}\n")
    assert "CVMFS_MOUNT_DIR is not set" in etc.load().warnings[0]


def test_option_config_replaces_everything(etc: Etc, tmp_path: Path) -> None:
    etc.write("default.conf", "A=wrong\nB=wrong\n")
    first, second = tmp_path / "one.conf", tmp_path / "two.conf"
    first.write_text("A=1\nSEEN=x$CVMFS_FQRN\n")
    second.write_text("A=${A}2\n")
    files = layers.split_files(f"{first}:{second}:{tmp_path}/none.conf")
    settings = layers.load(FQRN, root=str(etc.root), files=files, environ=ENVIRON)
    assert {name: setting.value for name, setting in settings.values.items()} == {"A": "12", "SEEN": "x"}
    assert settings.origin("A") == str(second)
    assert settings.warnings == [f"configuration file {tmp_path}/none.conf does not exist"]


def test_simple_mode_runs_no_shell(etc: Etc, tmp_path: Path) -> None:
    path = tmp_path / "one.conf"
    path.write_text('A="$(touch here)@fqrn@"\n')
    settings = layers.load(FQRN, root=str(etc.root), files=[str(path)], simple=True, environ=ENVIRON)
    assert settings.get("A") == f"$(touch here){FQRN}"
    assert not (tmp_path / "here").exists()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("http://h/@fqrn@", f"http://h/{FQRN}"),
        ("@org@.@fqrn@", f"lab.{FQRN}"),
        ("@proxy@", "@proxy@"),
        ("user@host", "user@host"),
        ("a@b@fqrn@", f"a@b{FQRN}"),
    ],
)
def test_templates(value: str, expected: str) -> None:
    assert layers.expand_templates(value, FQRN) == expected


@pytest.mark.parametrize("fqrn", ["nodot", "a/b.c", "", "x" * 60 + ".ch", ".a.b", "a."])
def test_bad_repository_name_is_refused(etc: Etc, fqrn: str) -> None:
    if not fqrn:
        assert etc.load(fqrn).values == {}
        return
    with pytest.raises(InvalidInput):
        etc.load(fqrn)


def test_short_name_gets_default_domain(etc: Etc) -> None:
    with pytest.raises(InvalidInput, match="CVMFS_DEFAULT_DOMAIN is not set"):
        layers.complete_name("lab", root=str(etc.root), environ=ENVIRON)
    etc.write("default.local", "CVMFS_DEFAULT_DOMAIN=example.org\n")
    assert layers.complete_name("lab", root=str(etc.root), environ=ENVIRON) == FQRN
    assert layers.complete_name("a.b", root=str(etc.root), environ=ENVIRON) == "a.b"


def test_dump_is_sorted_and_quoted(etc: Etc) -> None:
    path = etc.write("default.conf", "B='a;b'\nA=http://h:80/x_y-z,1\n_C='x'\\''y'\nEMPTY=\n")
    assert list(etc.load().dump()) == [
        f"A=http://h:80/x_y-z,1    # from {path}",
        f"B='a;b'    # from {path}",
        f"EMPTY=    # from {path}",
        f"_C='x'\\''y'    # from {path}",
    ]


def test_an_override_is_read_last_and_by_no_shell(etc: Etc, tmp_path: Path) -> None:
    etc.use_config_repository()
    etc.write(f"config.d/{FQRN}.local", "A=local\nB=local\n")
    override = tmp_path / "override"
    override.write_text(f'A="$(touch {tmp_path}/ran) @fqrn@"\nB=\nCVMFS_CONFIG_REPOSITORY=other.example.org\n')
    settings = layers.load(FQRN, root=str(etc.root), environ=ENVIRON, override=str(override))
    assert settings.get("A") == f"$(touch {tmp_path}/ran) {FQRN}"
    assert (settings.get("B"), settings.origin("B")) == ("", str(override))
    assert settings.get("CVMFS_CONFIG_REPOSITORY") == CONFIG_REPOSITORY
    assert not (tmp_path / "ran").exists()
    with pytest.raises(NotFound, match="does not exist"):
        layers.load(FQRN, root=str(etc.root), environ=ENVIRON, override=str(tmp_path / "none"))


def test_import_stays_light() -> None:
    heavy = "{'cryptography', 'rich', 'click', 'nearfs._native'} & set(sys.modules)"
    code = f"import sys, nearfs.config.layers, nearfs.config.model, nearfs.compat.cvmfs_config; sys.exit(str({heavy}))"
    environment = {**os.environ, "PYTHONPATH": str(Path(nearfs.__file__).parent.parent)}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert ended.stderr.strip() == "set()"
