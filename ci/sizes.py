"""Names the source files that are longer than docs/architecture.md's second look; a warning, never a failure.

Owns the limits. Inline Rust tests are not counted. Single-threaded, standard library only.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMITS = {".rs": 400, ".py": 300}
BINDING_LIMIT = 250  # the binding decides nothing, so its files stay shorter


def counted_lines(name: str, text: str) -> int:
    """Returns the lines of `text` before its inline tests."""
    lines = text.splitlines()
    if name.endswith(".rs") and "#[cfg(test)]" in lines:
        return lines.index("#[cfg(test)]")
    return len(lines)


def limit(name: str) -> int | None:
    """Returns the size from which `name` deserves a second look, or None where no limit is set."""
    if name.startswith("native/binding/"):
        return BINDING_LIMIT
    return LIMITS.get(Path(name).suffix)


def main() -> int:
    """Prints the files that are too long, longest first."""
    listed = subprocess.run(
        ["git", "ls-files", "--", "*.rs", "*.py"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True, timeout=60
    ).stdout.split("\n")
    long: list[tuple[int, str]] = []
    for name in filter(None, listed):
        most = limit(name)
        path = ROOT / name
        if most is not None and path.is_file():
            lines = counted_lines(name, path.read_text("utf-8"))
            if lines > most:
                long.append((lines, f"{name}: {lines} lines, look again at {most}"))
    for _, sentence in sorted(long, reverse=True):
        print(f"sizes: {sentence}")
    print(f"sizes: {len(long)} files over their limit")
    return 0


if __name__ == "__main__":
    sys.exit(main())
