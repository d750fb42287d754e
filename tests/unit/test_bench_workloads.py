"""The measurement trees: as large as promised, the same every time, and of use to what reads them."""

import hashlib
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bench import lmod
from bench.harness import machine, site
from bench.harness.commands import Command
from bench.scenarios import sourced_shell, ten_programs
from bench.trees import build as workloads
from bench.trees import crowd, environments, modulefiles, python_copy
from bench.trees.material import measure
from tests.support.waiting import wait_until

PROJECT = Path(__file__).resolve().parents[2]
RUN_SECONDS = 60


def digest(tree: Path) -> str:
    """Returns a hash over names, times and contents below `tree`."""
    whole = hashlib.sha256()
    for path in sorted(tree.rglob("*")):
        whole.update(repr((str(path.relative_to(tree)), path.stat().st_mtime_ns, path.stat().st_mode)).encode())
        if path.is_file():
            whole.update(path.read_bytes())
    return whole.hexdigest()


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the full tree of modulefiles."""
    tree = tmp_path_factory.mktemp("modules")
    assert modulefiles.build_modulefiles(tree) == 1000
    return tree


def test_there_are_a_thousand_modulefiles_of_260_names(modules: Path) -> None:
    assert len(list(modules.glob("all/*/*.lua"))) == 1000
    assert len(list(modules.glob("all/*"))) == 260
    assert measure(modules).files == 1000
    assert 700_000 < measure(modules).size_bytes < 1_300_000


@pytest.mark.parametrize(
    "build",
    [
        lambda tree: modulefiles.build_modulefiles(tree, 60, 20),
        lambda tree: workloads.build_small_files(tree, 300, 1_200_000, 5),
        lambda tree: environments.build_environment(tree, 1),
    ],
)
def test_the_same_arguments_give_the_same_tree(build: Callable[[Path], int], tmp_path: Path) -> None:
    build(tmp_path / "a")
    build(tmp_path / "b")
    assert digest(tmp_path / "a") == digest(tmp_path / "b")


def test_small_files_are_of_the_size_asked_and_all_different(tmp_path: Path) -> None:
    assert workloads.build_small_files(tmp_path, 3_000, 12_000_000, 50) == 3_000
    size = measure(tmp_path)
    assert size.files == 3_000 + 50
    assert abs(size.size_bytes - 12_000_000) < 120_000
    assert len(list(tmp_path.glob("package-*/.cvmfscatalog"))) == 50
    contents = {path.read_bytes() for path in tmp_path.rglob("*.py")}
    assert len(contents) == 3_000


def test_a_shell_sources_200_of_the_files_of_an_environment(tmp_path: Path) -> None:
    for number, name in enumerate(("physics", "chemistry")):
        assert environments.build_environment(tmp_path / "env" / name, number) == environments.SOURCED
        words = sourced_shell.of_environment(f"env/{name}").at(str(tmp_path), "/nonexistent")
        done = subprocess.run(
            words.argv, env=words.environment, capture_output=True, text=True, timeout=RUN_SECONDS, check=True
        )
        assert (done.stdout, done.stderr) == ("200 files\n", "")
    files = {name: len(list((tmp_path / "env" / name).rglob("*.*sh"))) for name in ("physics", "chemistry")}
    assert set(files.values()) == {1 + 2 * environments.SOURCED - 20}, "as many again, but for what is for all"
    contents = [path.read_bytes() for path in (tmp_path / "env").rglob("*.*sh")]
    assert len(set(contents)) == len(contents)


def test_lone_files_are_alone_in_directory_and_kind(tmp_path: Path) -> None:
    crowd.build_lone(tmp_path)
    names = crowd.lone_files()
    assert len(names) == len(set(names)) == crowd.LONE_FILES
    assert sorted(names) == sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("only.*"))
    assert len({Path(name).suffix for name in names}) == len({Path(name).parent for name in names}) == len(names)
    assert names != sorted(names)


def test_the_paced_reader_keeps_its_pace_and_stops_when_told(tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / f"{number}").write_text("x")
    listed = "".join(f"{tmp_path}/{number}\n" for number in range(200))
    command = [sys.executable, "-m", "bench.paced_reader", str(tmp_path), "--every-ms", "30"]
    reader = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT)
    try:
        assert reader.stdin is not None
        reader.stdin.write(listed)
        reader.stdin.close()
        reader.stdin = None
        wait_until((tmp_path / "ready").exists, RUN_SECONDS, "the reader is ready")
        time.sleep(0.5)
        (tmp_path / "stop").touch()
        told = json.loads(reader.communicate(timeout=RUN_SECONDS)[0])
    finally:
        reader.kill()
        reader.wait()
    assert 3 <= len(told) <= 30
    assert all(after[0] - before[0] > 0.001 for before, after in itertools.pairwise(told))
    assert told[-1][0] - told[0][0] >= 0.03 * (len(told) - 1) - 0.02


def test_ten_programs_are_ten_and_read_different_files(tmp_path: Path) -> None:
    modulefiles.build_modulefiles(tmp_path / "modules", 60, 40)
    crowd.build_notes(tmp_path / "notes")
    found = ten_programs.programs(tmp_path)
    assert len(found) == 10
    named = [set(found[name].argv) for name in ("head", "grep", "digests")]
    assert all(len(words) > 8 for words in named)
    grepped = {f"section-{number:02d}" for number in range(8)}
    assert not [word for word in found["digests"].argv if set(Path(word).parts) & grepped]


def test_a_command_becomes_one_line_of_a_shell_with_its_input_and_its_environment_alone() -> None:
    command = Command(("sh", "-c", 'echo "$WORD $(cat)" $HOME'), {"WORD": "it's"}, "in put")
    done = subprocess.run(
        ["sh", "-c", site.shell_line(command)], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "it's in put\n"
    with pytest.raises(ValueError, match="several lines"):
        site.shell_line(Command(("echo", "a\nb")))


def test_the_copied_python_runs_from_any_path_with_its_own_library(tmp_path: Path) -> None:
    python_copy.copy_python(tmp_path / "first")
    tree = tmp_path / "moved elsewhere"
    (tmp_path / "first").rename(tree)
    argv, environment = python_copy.start_command(tree)
    done = subprocess.run(
        [*argv, "-m", "json.tool"], input='{"a": [1]}', env=environment, capture_output=True, text=True,
        timeout=RUN_SECONDS, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == {"a": [1]}
    script = "import json, ssl, sqlite3, ctypes, sys; print(json.__file__); print(open('/proc/self/maps').read())"
    done = subprocess.run(
        [*argv, "-c", script], env=environment, capture_output=True, text=True, timeout=RUN_SECONDS, check=True
    )
    assert done.stdout.startswith(str(tree))
    loaded = {line.split(maxsplit=5)[-1] for line in done.stdout.splitlines() if "python" in line and ".so" in line}
    assert loaded
    assert all(path.startswith(str(tree)) for path in loaded)
    names = {path.name for path in tree.rglob("*")}
    assert not names & {"site-packages", "__pycache__"}


def test_the_entries_tree_has_exactly_the_entries_asked(tmp_path: Path) -> None:
    size = workloads.build_entries(tmp_path, 6_000, 150_000_000)
    assert size.entries == 6_000
    assert abs(size.size_bytes - 150_000_000) < 3_000_000
    with pytest.raises(ValueError, match="entries"):
        workloads.build_entries(tmp_path / "small", 100)


def test_the_command_refuses_a_directory_in_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert workloads.main(["modulefiles", str(tmp_path / "new"), "--count", "10"]) == 0
    assert "10 files" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        workloads.main(["modulefiles", str(tmp_path / "new")])


@pytest.mark.skipif(lmod.find_lmod() is None, reason="Lmod is not installed (Debian package lmod)")
def test_lmod_lists_every_module(modules: Path, tmp_path: Path) -> None:
    argv, environment = lmod.avail_command(modules / "all", tmp_path)
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=RUN_SECONDS, check=True)
    listed = lmod.listed_modules(done.stderr)
    assert listed == {str(path.relative_to(modules / "all").with_suffix("")) for path in modules.glob("all/*/*.lua")}


def test_no_lmod_is_told_with_the_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(lmod, "_PLACES", (tmp_path / "absent",))
    monkeypatch.delenv("LMOD_CMD", raising=False)
    assert lmod.find_lmod() is None
    with pytest.raises(FileNotFoundError, match="apt-get install lmod"):
        lmod.avail_command(tmp_path, tmp_path)


def test_the_machine_block_says_what_a_figure_depends_on() -> None:
    block = machine.machine_block()
    assert block["cores"] >= 1
    assert block["ram_bytes"] > 100_000_000
    assert {"cpu_model", "kernel", "python", "rustc", "git_commit", "git_dirty", "date"} < set(block)
    json.dumps(block)


def test_a_result_is_whole_named_by_date_and_never_replaced(tmp_path: Path) -> None:
    path = machine.write_result("publish-small-files", {"seconds": [1.5]}, tmp_path)
    assert path.name.startswith("publish-small-files-20")
    document = json.loads(path.read_text())
    assert document["seconds"] == [1.5]
    assert document["machine"]["cores"] >= 1

    now = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
    first = machine.write_result("same", {"n": 1}, tmp_path, now)
    with pytest.raises(FileExistsError):
        machine.write_result("same", {"n": 2}, tmp_path, now)
    assert json.loads(first.read_text())["n"] == 1
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted([path.name, "same-20240506T070809Z.json"])
    for name in ("", "../x", "A", "a/b", ".hidden"):
        with pytest.raises(ValueError, match="cannot name"):
            machine.write_result(name, {}, tmp_path)
    with pytest.raises(ValueError, match="machine"):
        machine.write_result("x", {"machine": {}}, tmp_path)
