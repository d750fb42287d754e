"""What is measured: the profiles of `make bench` and the like, and what the command line asks for.

Owns the choice alone. A plan is a value: `--dry-run` prints it, the runner executes it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bench.harness.contender import Contender
from bench.harness.result import LineKey
from bench.harness.scenario import Effort, Scenario

L50, L100 = LineKey(50, 100), LineKey(100, 100)
SHORT = LineKey(0.2, 1000)
# On a line of this length, a guest that waits uses a few per cent of a core.
LONG_MS = 50

TALK = ("mount", "json-tool", "module-avail")
FILES = ("find", "stat-storm", "tar", "small-opens")
OURS = ("nearfs", "nearfs-nginx", "nearfs-squid", "nearfs-nginx-squid", "reference")
NFS = ("nfs3", "nfs4")
TUNED = ("nfs3-tuned", "nfs4-tuned")
GUEST = ("guest-nearfs", "guest-local")
BOUNDS = ("local", "squashfuse")
AHEAD = ("nearfs", "nearfs-packs", "nearfs-bundles")
AHEAD_SQUID = ("nearfs-squid", "nearfs-packs-squid", "nearfs-bundles-squid")
PROGRAMS = ("sourced-shell", "package-import")
IN_VAIN = ("one-of-each", "random-access", "find", "tar", "stat-storm")
UNTUNED = ("untuned-1", "untuned-2", "untuned-3")

_OFTEN, _ONCE, _THRICE = Effort(5, 60), Effort(1, 0), Effort(3, 240)


@dataclass(frozen=True)
class Item:
    """Some scenarios over one tree, by one contender over one line."""

    scenarios: tuple[str, ...]
    tree: str
    contender: Contender
    line: LineKey
    effort: Effort

    @property
    def is_patient(self) -> bool:
        """Tells whether it mostly waits for a long line, so that several may be measured side by side."""
        return self.contender.waits and self.line.rtt_ms >= LONG_MS


def quick() -> list[tuple[tuple[str, ...], tuple[str, ...], LineKey, Effort]]:
    """Returns the blocks (scenarios, contenders, line, effort) of a quarter of an hour, half of which NFS takes."""
    return [
        (TALK, (*NFS, "guest-nearfs"), L50, _ONCE),
        (TALK, ("guest-local",), L50, _ONCE),
        (TALK, BOUNDS, L50, Effort(3, 20)),
        (TALK, ("nearfs", "reference"), L50, Effort(2, 100)),
        (("mount", "json-tool"), (*OURS, "portable"), L50, Effort(3, 20)),
        (("package-import", *FILES), ("nearfs", "local"), L50, Effort(3, 20)),
        (TALK, ("nearfs", "guest-nearfs", *NFS), SHORT, _ONCE),
        (("publish",), ("local",), L50, Effort(3, 20)),
    ]


def full() -> list[tuple[tuple[str, ...], tuple[str, ...], LineKey, Effort]]:
    """Returns the blocks of the whole suite."""
    blocks = [
        (TALK, (*NFS, *TUNED), L50, _THRICE),
        (TALK, (*NFS, *TUNED), L100, _ONCE),
        (TALK, GUEST, L50, _THRICE),
        (TALK, GUEST, L100, _ONCE),
        (TALK, (*OURS, *BOUNDS), L50, _OFTEN),
        (TALK, ("portable",), L50, _THRICE),
        (TALK, OURS, L100, _THRICE),
        (TALK, ("nearfs", "reference", *NFS, "guest-nearfs"), SHORT, _THRICE),
        (("package-import", *FILES), ("nearfs", "reference", "portable", *BOUNDS), L50, _THRICE),
        (("package-import", *FILES), NFS, L50, _ONCE),
        (("big-file-sequential", "big-file-random", "huge-directory"), ("nearfs", "reference", *BOUNDS), L50, _ONCE),
        (("ten-clients", "new-revision"), OURS, L50, _THRICE),
        (("publish",), ("local",), L50, _OFTEN),
        (TALK, ("nearfs",), LineKey(50, 100, 0.01), _THRICE),
    ]
    blocks += [(TALK, ("nearfs", "reference"), LineKey(rtt_ms, 100), _THRICE) for rtt_ms in (10, 150)]
    blocks += [(TALK, ("nearfs", "reference"), LineKey(50, rate), _THRICE) for rate in (20, 1000)]
    return blocks


def cold() -> list[tuple[tuple[str, ...], tuple[str, ...], LineKey, Effort]]:
    """Returns the blocks of what starts of programs cost from nothing: half an hour, then NFS.

    What decides comes first: the programs of the goals directly, what stands against them, through a proxy; then what
    fetching ahead costs others, and what it costs in vain; then the longer line.
    """
    slow = LineKey(50, 20)
    return [
        (TALK, AHEAD, L50, Effort(5, 45)),
        (TALK, ("nearfs-off", "reference"), L50, _ONCE),
        (TALK, AHEAD_SQUID, L50, Effort(3, 30)),
        (("ten-programs",), ("nearfs", "nearfs-packs", "nearfs-bundles", "nearfs-off"), slow, Effort(2, 60)),
        (PROGRAMS, AHEAD, L50, Effort(3, 30)),
        (IN_VAIN, ("nearfs", "nearfs-packs"), L50, Effort(2, 15)),
        (TALK, AHEAD, L100, Effort(3, 30)),
        (TALK, AHEAD_SQUID, L100, _ONCE),
        (("mount",), (*AHEAD, *AHEAD_SQUID, "nearfs-off", "reference"), SHORT, Effort(3, 10)),
        (UNTUNED, ("nearfs", "nearfs-packs", "nearfs-off"), L50, Effort(2, 20)),
        (PROGRAMS, ("nearfs-off",), L50, _ONCE),
        (TALK, ("nearfs-off", "reference"), L100, _ONCE),
        (("module-avail",), (*NFS, "guest-nearfs"), L50, _ONCE),
    ]


def items(
    blocks: Iterable[tuple[tuple[str, ...], tuple[str, ...], LineKey, Effort]],
    scenarios: Mapping[str, Scenario],
    contenders: Mapping[str, Contender],
) -> list[Item]:
    """Returns the items of blocks: scenarios of one tree together, those that make sense for a contender only.

    What does not cross a line is measured once, whatever number of lines asks for it.
    """
    found: dict[tuple[str, str, LineKey | None, Effort], Item] = {}
    planned: set[tuple[str, str, LineKey | None]] = set()
    for names, wanted, line, effort in blocks:
        for contender in (contenders[name] for name in wanted if name in contenders):
            where = line if contender.is_remote else None
            for scenario in (scenarios[name] for name in names if name in scenarios):
                if (scenario.name, contender.name, where) in planned or not _fits(scenario, contender):
                    continue
                planned.add((scenario.name, contender.name, where))
                key = (contender.name, scenario.tree, where, effort)
                earlier = found[key].scenarios if key in found else ()
                found[key] = Item((*earlier, scenario.name), scenario.tree, contender, line, effort)
    return list(found.values())


def _fits(scenario: Scenario, contender: Contender) -> bool:
    return scenario.only is None or contender.name in scenario.only
