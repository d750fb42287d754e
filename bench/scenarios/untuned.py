"""Programs for which nothing was tuned, whatever comes out: Perl, a document's formatter, a C++ compiler.

The programs themselves are this machine's but for Python; their libraries and headers are read from the tree.
"""

from pathlib import Path

from bench.harness.commands import TREE, Command
from bench.harness.scenario import of_command, said
from bench.trees import python_copy, untuned


def perl(_source: Path) -> Command:
    """Returns the command of a Perl script that uses a score of its standard modules."""
    libraries = ":".join(map(str, untuned.perl_libraries(Path(TREE))))
    return Command(("perl", f"{TREE}/perl/bin/study.pl"), {"PERL5LIB": libraries, "PATH": "/usr/bin:/bin"})


def docutils(_source: Path) -> Command:
    """Returns the command that makes HTML of a document with code, formulas and tables."""
    argv, environment = python_copy.start_command(Path(TREE) / "python")
    words = (*argv, "-m", "docutils", f"{TREE}/docutils/study/study.rst")
    return Command(words, {**environment, "PYTHONPATH": f"{TREE}/docutils"})


def cxx(_source: Path) -> Command:
    """Returns the command that compiles a C++ program with a score of standard headers."""
    places = [word for place in untuned.search_list() for word in ("-isystem", f"{TREE}/cxx{place}")]
    words = ("g++", "-std=c++17", "-nostdinc", "-nostdinc++", *places, "-S", "-o", "-", f"{TREE}/cxx/study.cc")
    return Command(words, {"LC_ALL": "C", "PATH": "/usr/bin:/bin"})


SCENARIOS = (
    of_command("untuned-1", "untuned", perl, said("LATIN CAPITAL LETTER A 1.4142135")),
    of_command("untuned-2", "untuned", docutils, said("</html>")),
    of_command("untuned-3", "untuned", cxx, said("main")),
)
