"""What the measurement trees are made of: files with fixed times, sizes, and text. Single-threaded."""

import os
import random
from dataclasses import dataclass
from pathlib import Path

MIB = 1024 * 1024

# One fixed time for everything generated, so that two builds of a tree are equal in mtime, too: 2024-01-01.
GENERATED_MTIME = 1_704_067_200


@dataclass(frozen=True)
class TreeSize:
    """What lies below a directory, itself not counted: entries of every kind, regular files, their bytes."""

    entries: int
    files: int
    size_bytes: int


def measure(tree: Path) -> TreeSize:
    """Returns the size of `tree`, symbolic links not followed."""
    entries = files = size_bytes = 0
    for path in tree.rglob("*"):
        entries += 1
        if path.is_file() and not path.is_symlink():
            files += 1
            size_bytes += path.stat().st_size
    return TreeSize(entries, files, size_bytes)


def write_file(path: Path, content: bytes) -> None:
    """Writes one file of a tree, with the directories above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o644)


def settle(tree: Path) -> None:
    """Gives all that lies in `tree` the one generated time: the deepest first, since a write touches its directory."""
    for path in sorted(tree.rglob("*"), reverse=True):
        os.utime(path, (GENERATED_MTIME, GENERATED_MTIME))


class Text:
    """A deterministic source of text that deflates about as well as source code does (to a half)."""

    _POOL_BYTES = 4 * MIB

    def __init__(self, seed: int) -> None:
        """Makes the pool of text once; files are cut out of it, which is far cheaper than to make each one."""
        self._random = random.Random(seed)
        letters = "etaoinshrdlucmfwypvbgk"
        words = ["".join(self._random.choices(letters, k=self._random.randint(2, 11))) for _ in range(3_000)]
        separators = [" "] * 10 + ["_", " = ", "(", ")\n", ":\n    ", ",\n"]
        pieces = [
            word + separator
            for word, separator in zip(
                self._random.choices(words, k=self._POOL_BYTES // 7),
                self._random.choices(separators, k=self._POOL_BYTES // 7),
                strict=True,
            )
        ]
        self._pool = "".join(pieces).encode("ascii")

    def cut(self, label: str, size: int) -> bytes:
        """Returns `size` bytes that begin with `label`, so that no two labels give the same content."""
        head = f"# {label}\n".encode()
        body = bytearray(head)
        while len(body) < size:
            begin = self._random.randrange(len(self._pool) - 1)
            body += self._pool[begin : begin + size - len(body)]
        return bytes(body[: max(size, len(head))])

    def sizes(self, count: int, total_bytes: int) -> list[int]:
        """Returns `count` sizes of about `total_bytes` together: many small ones and a long tail, as in software."""
        raw = [self._random.lognormvariate(0.0, 1.3) for _ in range(count)]
        scale = total_bytes / sum(raw)
        return [max(1, round(value * scale)) for value in raw]
