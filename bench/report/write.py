"""Writes a report: the plots, and the generated parts of docs/benchmarks.md and README.md.

`python -m bench.report RESULT.json [RESULT2.json ...]`. Owns the files and their order; what is outside the marks of a
page stays byte for byte. Nothing is written before everything was made. Main thread only.
"""

import argparse
import os
import sys
from pathlib import Path

from bench.harness.figures import Board
from bench.harness.grid import escape
from bench.harness.results_file import Result, UnreadableResult, read_result
from bench.report import pages
from bench.report.joining import join
from nearfs import files

PROJECT = Path(__file__).resolve().parent.parent.parent
IMAGES = PROJECT / "docs" / "images"
MAX_PAGE_BYTES = 8 << 20


def main(arguments: list[str] | None = None) -> int:
    """Writes the report and returns the exit code: 1 with a sentence for what cannot be read or has no marks."""
    parser = argparse.ArgumentParser(prog="python -m bench.report", description="Writes a result into the pages.")
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULT.json", help="several are joined")
    parser.add_argument("--docs", type=Path, default=PROJECT / "docs" / "benchmarks.md", help="the page of all figures")
    parser.add_argument("--readme", type=Path, default=PROJECT / "README.md", help="the page of the headline")
    parser.add_argument("--no-readme", action="store_true", help="leave the page of the headline alone")
    parser.add_argument("--images", type=Path, default=IMAGES, help="the directory of the plots")
    options = parser.parse_args(arguments)
    try:
        written = write_report(
            options.results, options.docs, None if options.no_readme else options.readme, options.images
        )
    except (UnreadableResult, pages.NoPlace) as reason:
        print(f"report: {reason}", file=sys.stderr)
        return 1
    for path in written:
        print(f"wrote {path}")
    return 0


def write_report(results: list[Path], docs: Path, readme: Path | None, images: Path) -> list[Path]:
    """Writes plots and pages from the results at these paths and returns what it wrote.

    Raises `UnreadableResult` for a result, `pages.NoPlace` for a page, that cannot be used; nothing is written then.
    """
    result = join([read_result(path) for path in results])
    board = Board(result.cells)
    # Here, not above: a run that prints tables needs no plots and should not wait for matplotlib.
    from bench.report import plots

    drawn = plots.draw(board)
    made = {docs: _docs_page(docs, result, board, _sources(results, docs), _places(drawn, images, docs))}
    if readme is not None:
        lines = pages.headline_part(board, result, _places(drawn, images, readme), _relative(docs, readme))
        made[readme] = _rewritten(readme, {"headline": lines})
    images.mkdir(parents=True, exist_ok=True)
    written = []
    for name in plots.NAMES:
        for form in ("svg", "png"):
            path = images / f"{name}.{form}"
            if name in drawn:
                files.replace(path, drawn[name][form])
                written.append(path)
            else:
                # A plot of an earlier result beside the tables of this one would be a lie.
                path.unlink(missing_ok=True)
    for path, text in made.items():
        files.replace(path, text.encode("utf-8"))
    return [*written, *made]


def _docs_page(docs: Path, result: Result, board: Board, sources: list[str], images: dict[str, str]) -> str:
    parts = {
        "machine": pages.machine_part(result, sources),
        "talk": pages.talk_part(board, images),
        "cold starts": pages.cold_part(board),
        "scenarios": pages.scenarios_part(board),
    }
    return _rewritten(docs, parts)


def _rewritten(page: Path, parts: dict[str, list[str]]) -> str:
    try:
        if page.stat().st_size > MAX_PAGE_BYTES:
            raise pages.NoPlace(f"{page} is larger than {MAX_PAGE_BYTES >> 20} MiB: it is no page of this project")
        # Bytes, not text: what stands outside the marks keeps its line ends.
        text = page.read_bytes().decode("utf-8")
    except OSError as error:
        raise pages.NoPlace(f"{page} cannot be read ({error.strerror}): write it first, with its marks") from None
    except UnicodeDecodeError:
        raise pages.NoPlace(f"{page} is no UTF-8 text") from None
    try:
        return pages.rewritten(text, parts)
    except pages.NoPlace as reason:
        raise pages.NoPlace(f"{page} has no place for what was measured: {reason}") from None


def _places(drawn: dict[str, dict[str, bytes]], images: Path, page: Path) -> dict[str, str]:
    """Returns how a page refers to each plot."""
    return {name: _relative(images / f"{name}.svg", page) for name in drawn}


def _sources(results: list[Path], page: Path) -> list[str]:
    """Returns how a page names the results: linked where they are kept in the project, by name alone elsewhere."""
    named = []
    for path in results:
        name = escape(path.name)
        inside = path.resolve().is_relative_to(page.resolve().parent.parent)
        named.append(f"[{name}]({_relative(path, page)})" if inside else name)
    return named


def _relative(path: Path, page: Path) -> str:
    return Path(os.path.relpath(path.resolve(), page.resolve().parent)).as_posix()
