"""Builds the environment of a site as shells set it up: many small files, sourced one by one. Single-threaded.

The order is that of needs, not of listings: what a site sets for all in the order of names, then for each application
what it consists of, from several directories, and once more for those that have completions and hooks.
"""

import random
from pathlib import Path

from bench.trees.material import Text, settle, write_file

#: How many files `setup.sh` sources; as many again lie beside them.
SOURCED = 200
SETUP = "setup.sh"

_PROFILES, _FUNCTIONS = 20, 20
_APPLICATIONS, _LATER = 32, ("completion.bash", "hooks.sh")
_UNUSED_APPLICATIONS, _UNUSED_FUNCTIONS = 32, 20


def build_environment(tree: Path, seed: int) -> int:
    """Writes an environment below `tree`, whose `setup.sh` says how many files it sourced; returns that number.

    `seed` tells two of them apart: they have other applications, in another order.
    """
    chance, text = random.Random(seed), Text(seed)

    def script(path: str, *commands: str) -> None:
        name = path.rpartition("/")[2].partition(".")[0]
        words = text.cut(f"{path} {seed}", chance.randint(200, 1_200)).decode().splitlines()
        remarks = [f"# {words[0].removeprefix('# ')}", *(f"# {line}" for line in words[1:])]
        lines = ["loaded=$((loaded + 1))", f"export SITE{seed}_{name.upper().replace('-', '_')}=1", *commands]
        write_file(tree / path, "\n".join([*remarks, *lines, ""]).encode())

    applications = [f"app-{number:03d}" for number in chance.sample(range(500), _APPLICATIONS + _UNUSED_APPLICATIONS)]
    functions = [f"functions-{number:02d}.sh" for number in range(_FUNCTIONS + _UNUSED_FUNCTIONS)]
    profiles = [f"{number:02d}-{word}.sh" for number, word in enumerate(_words(chance, _PROFILES))]
    for name in profiles:
        script(f"profile.d/{name}")
    for name in functions:
        script(f"common/{name}")
    for name in applications:
        place = f"apps/{name}"
        script(f"{place}/activate.sh", f". $site/{place}/version.sh", f". $site/{place}/paths.sh")
        script(f"{place}/version.sh", f"export {name.upper().replace('-', '_')}_VERSION=1.{chance.randrange(20)}")
        script(f"{place}/paths.sh", f"PATH=$PATH:/opt/{name}/bin")
        for part in _LATER:
            script(f"{place}/{part}")

    used, helpers = applications[:_APPLICATIONS], chance.sample(functions, _FUNCTIONS)
    lines = ["site=${BASH_SOURCE[0]%/*}", "loaded=0", 'for file in "$site"/profile.d/*.sh; do . "$file"; done']
    for number, name in enumerate(used):
        if number < len(helpers):
            lines.append(f". $site/common/{helpers[number]}")
        lines.append(f". $site/apps/{name}/activate.sh")
    for name in chance.sample(used, len(used)):
        lines += [f". $site/apps/{name}/{part}" for part in _LATER]
    write_file(tree / SETUP, "\n".join([*lines, 'echo "$loaded files"', ""]).encode())
    settle(tree)
    return _PROFILES + _FUNCTIONS + _APPLICATIONS * (3 + len(_LATER))


def _words(chance: random.Random, count: int) -> list[str]:
    return ["".join(chance.choices("abcdefghiklmnoprstu", k=chance.randint(4, 9))) for _ in range(count)]
