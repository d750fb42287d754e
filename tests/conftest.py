"""Fixtures for all tests, and the rule that a run leaves nothing behind.

Owns the mark of the run and the look at the machine before and after. Runs in pytest's main thread.
"""

import contextlib
import itertools
import os
import secrets
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import golden as golden_repositories
from tests.support import mounts, processes, publishing, serving
from tests.support import site as sites
from tests.support.leftovers import Watch

WATCH = pytest.StashKey[Watch]()
LEFT = pytest.StashKey[list[str]]()


# A shell starts background jobs with this signal ignored, and commands that tests interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def _is_worker(config: pytest.Config) -> bool:
    """Tells whether this process runs a part of the tests for another one, which looks after the whole run."""
    return hasattr(config, "workerinput")


@pytest.hookimpl(trylast=True)  # when the directory of the run is known
def pytest_configure(config: pytest.Config) -> None:
    """Marks this run, so that whatever it starts can be found again."""
    # A run inside a run (a test of these very rules) is another run; a worker is a part of its run.
    if _is_worker(config):
        return
    os.environ[processes.MARK] = secrets.token_hex(8)
    factory: pytest.TempPathFactory = config._tmp_path_factory  # type: ignore[attr-defined]
    config.stash[WATCH] = Watch([factory.getbasetemp().resolve()])


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fails the run when something of it is still mounted or running, and sweeps it up."""
    if _is_worker(session.config):
        return
    watch = session.config.stash[WATCH]
    left = watch.left()
    session.config.stash[LEFT] = left
    if left:
        watch.sweep()
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Names what was left behind, below the list of failures."""
    left = config.stash.get(LEFT, [])
    if left:
        terminalreporter.section("left behind by this run: it fails", red=True)
        for sentence in left:
            terminalreporter.line(sentence)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests of tests/mount, tests/fault and tests/stress by their folder."""
    for item in items:
        for name in ("mount", "fault", "stress"):
            if item.path.is_relative_to(golden_repositories.PROJECT / "tests" / name):
                item.add_marker(name)


@pytest.fixture(scope="session")
def golden(tmp_path_factory: pytest.TempPathFactory) -> golden_repositories.Golden:
    """The golden repositories, unpacked once; skips where they are absent."""
    if reason := golden_repositories.missing():
        pytest.skip(reason)
    return golden_repositories.unpack(tmp_path_factory.mktemp("golden"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Callable[[Path], serving.Server]]:
    """Starts `nearfs serve` for a directory of repositories; every server ends with the test."""
    numbers = itertools.count()
    with contextlib.ExitStack() as stack:
        yield lambda root: stack.enter_context(serving.serving(root, tmp_path / f"server-{next(numbers)}"))


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts a repository below the test's directory: `mount(fqrn, settings, options=())` returns the mount point."""
    numbers = itertools.count()
    with contextlib.ExitStack() as stack:

        def enter(fqrn: str, settings: dict[str, str], *, options: tuple[str, ...] = ()) -> Path:
            point = tmp_path / f"mount-{next(numbers)}" / fqrn
            return stack.enter_context(mounts.mounted(fqrn, point, settings, options=options))

        yield enter


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[publishing.Publisher]:
    """A publisher for `lab.example.org` below the test's directory, without a repository yet."""
    with publishing.publishing(tmp_path / "publisher", "lab.example.org") as made:
        yield made


@pytest.fixture
def site(golden: golden_repositories.Golden, server: Callable[[Path], serving.Server], tmp_path: Path) -> sites.Site:
    """A machine of a site that knows both golden repositories.

    Its files are as a site keeps them: defaults, site values, one domain, one file a repository, a key directory.
    """
    made = sites.make(tmp_path / "site")
    url = server(golden.repositories[golden_repositories.NAMES[0]].root).url
    made.write(
        "default.conf",
        {"CVMFS_MOUNT_DIR": sites.MOUNT_DIR, "CVMFS_CLAIM_OWNERSHIP": "yes", "CVMFS_CHECK_PERMISSIONS": "yes"},
    )
    made.write(
        "default.local",
        {
            "CVMFS_USER": sites.USER,
            "CVMFS_HTTP_PROXY": "DIRECT",
            "CVMFS_CACHE_BASE": sites.CACHE_BASE,
            "CVMFS_SHARED_CACHE": "yes",
            "CVMFS_DEFAULT_DOMAIN": "example.org",
            "CVMFS_REPOSITORIES": "golden,golden-shake.example.org",
        },
    )
    made.write("domain.d/example.org.conf", {"CVMFS_SERVER_URL": f"{url}/cvmfs/@fqrn@"})
    for name in golden_repositories.NAMES:
        keys = made.etc / "keys" / name
        keys.mkdir(parents=True)
        (keys / f"{name}.pub").write_bytes(golden.repositories[name].public_key.read_bytes())
        made.write(f"config.d/{name}.conf", {"CVMFS_KEYS_DIR": f"/etc/cvmfs/keys/{name}"})
    return made
