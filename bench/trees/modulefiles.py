"""Builds the tree of Lua modulefiles that `module avail` lists. Run it by `bench.trees.build`. Single-threaded."""

import random
from collections.abc import Iterator
from pathlib import Path

from bench.trees.material import settle, write_file

MODULE_COUNT = 1_000
MODULE_NAME_COUNT = 260


def build_modulefiles(tree: Path, count: int = MODULE_COUNT, names: int = MODULE_NAME_COUNT) -> int:
    """Writes `count` Lua modulefiles as EasyBuild lays them out: TREE/all/NAME/VERSION-TOOLCHAIN.lua.

    MODULEPATH is TREE/all. Returns the number of files; every name has at least one.
    """
    chance = random.Random(2012)
    for number, (name, version) in enumerate(_modules(chance, count, names)):
        path = tree / "all" / name / f"{version}.lua"
        write_file(path, _modulefile(name, version, number).encode())
    settle(tree)
    return count


def _modules(chance: random.Random, count: int, names: int) -> Iterator[tuple[str, str]]:
    """Yields `count` different (name, version with toolchain) pairs over `names` names."""
    if not 0 < names <= count:
        raise ValueError(f"cannot spread {count} modulefiles over {names} names")
    # Rows of words; joined pairwise they look enough like software.
    beginnings = "Al Bri Cor Den Ex Flu Gra Hy Io Ju Kal Lum Mer Nex Or Pyr".split()  # noqa: SIM905
    endings = "ba chem dyn fold grid lib mesh netics opt plot query rt seq tools viz wave xtal".split()  # noqa: SIM905
    candidates = [first + last for first in beginnings for last in endings]
    candidates += [f"{name}-{number}" for number in range(2, 2 + names // len(candidates)) for name in candidates]
    chosen = sorted(candidates[:names])
    toolchains = [f"{kind}-{year}{half}" for kind in ("foss", "intel", "GCC") for year in (2022, 2023) for half in "ab"]
    # One for each name, then the rest by chance: some software has many versions, most has few.
    owners = chosen + chance.choices(chosen, k=count - names)
    versions: dict[str, int] = {}
    for name in sorted(owners):
        step = versions[name] = versions.get(name, 0) + 1
        yield name, f"{1 + step // 4}.{step % 4}.{chance.randrange(10)}-{chance.choice(toolchains)}"


def _modulefile(name: str, version: str, number: int) -> str:
    """Returns the text of one modulefile, about 900 bytes."""
    variable = "".join(letter if letter.isalnum() else "_" for letter in name.upper())
    home = f"/cvmfs/software.example.org/easybuild/software/{name}/{version}"
    folders = {
        "CMAKE_PREFIX_PATH": "",
        "CPATH": "include",
        "LD_LIBRARY_PATH": "lib",
        "LIBRARY_PATH": "lib",
        "MANPATH": "share/man",
        "PATH": "bin",
        "PKG_CONFIG_PATH": "lib/pkgconfig",
        "XDG_DATA_DIRS": "share",
    }
    lines = [
        f"help([[{name} {version}: generated software number {number}.",
        f"Home page: https://{name.lower()}.example.org/",
        "]])",
        f'whatis("Name: {name}")',
        f'whatis("Version: {version}")',
        f'whatis("Description: {name} stands for a scientific application in measurements.")',
        f'local root = "{home}"',
        f'conflict("{name}")',
        *(f'prepend_path("{key}", pathJoin(root, "{folder}"))' for key, folder in folders.items()),
        f'setenv("EBROOT{variable}", root)',
        f'setenv("EBVERSION{variable}", "{version}")',
        f'setenv("EBDEVEL{variable}", pathJoin(root, "easybuild/{name}-{version}-easybuild-devel"))',
    ]
    return "\n".join(lines) + "\n"
