"""Copies software of this machine for programs for which nothing was tuned: Perl's library, Docutils, C++ headers.

Owns what is copied, and the small inputs of the programs. Needs Debian's packages perl and g++. Single-threaded.
"""

import compileall
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.harness.processes import CommandFailed
from bench.trees.material import settle, write_file
from bench.trees.python_copy import copy_python

DOCUTILS = ("docutils==0.21.2", "pygments==2.18.0")
_LIMIT_S = 600

_PERL_PROGRAM = b"""use strict;
use warnings;
use Archive::Tar;
use CPAN::Meta;
use Data::Dumper;
use Digest::SHA qw(sha1_hex);
use Encode qw(encode);
use File::Find;
use File::Spec::Functions;
use Getopt::Long;
use HTTP::Tiny;
use IO::Compress::Gzip qw(gzip);
use JSON::PP;
use List::Util qw(sum);
use Math::BigFloat;
use Pod::Usage;
use Storable qw(dclone);
use Text::Balanced;
use Text::ParseWords;
use Text::Wrap;
use Time::Local;
use Unicode::UCD qw(charinfo);
my $data = dclone({ name => charinfo(0x41)->{name}, root => Math::BigFloat->new(2)->bsqrt(30)->bstr });
gzip(\\(my $plain = encode_json([sort keys %$data])), \\my $packed);
print wrap('', '  ', "$data->{name} $data->{root} ", sha1_hex(encode('UTF-8', $plain))), "\\n";
"""

_DOCUMENT = """=======
A study
=======

:Author: Somebody
:Abstract: What a document has that exercises a reader of documents.

.. contents::
.. sectnum::

First part
==========

A paragraph with *emphasis*, ``literals``, a footnote [#first]_, a citation [Book]_ and |what|.

.. |what| replace:: a replacement
.. [#first] The footnote.
.. [Book] The book.

.. code:: python

   def answer() -> int:
       return 42

.. math:: e^{i \\pi} + 1 = 0

===== =====
left  right
===== =====
1     2
===== =====

.. csv-table:: Numbers
   :header: "one", "two"

   1, 2
   3, 4

.. note:: An admonition.

Second part
===========

* a list
* of two

Term
  and its definition

.. figure:: picture.png
   :width: 50%

   A caption.
"""

_CXX_PROGRAM = b"""#include <algorithm>
#include <chrono>
#include <filesystem>
#include <functional>
#include <future>
#include <iostream>
#include <map>
#include <memory>
#include <random>
#include <regex>
#include <string>
#include <thread>
#include <unordered_map>
#include <variant>
#include <vector>

#include <netinet/in.h>
#include <linux/fs.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv) {
    std::map<std::string, std::vector<int>> found;
    for (int at = 1; at < argc; ++at) found[argv[at]].push_back(at);
    std::cout << std::regex_replace(std::string("a b"), std::regex(" "), "-") << found.size() << std::endl;
    return std::filesystem::exists("/") && getpid() ? 0 : 1;
}
"""


def build_untuned(tree: Path) -> None:
    """Fills a directory that does not exist yet. Raises CommandFailed where something to copy is not installed."""
    write_file(tree / ".cvmfsdirtab", b"/perl\n/python\n/docutils\n/cxx\n")
    _copy_perl(tree / "perl")
    copy_python(tree / "python", pycache=True)
    _install_docutils(tree / "docutils")
    _copy_headers(tree / "cxx")


def perl_libraries(tree: Path) -> list[Path]:
    """Returns the directories of the copied library, in the order in which Perl is to look into them."""
    return [tree / "perl" / name for name in ("arch", "lib", "base")]


def search_list() -> list[Path]:
    """Returns where this machine's g++ looks for headers, in its order."""
    words = ["g++", "-E", "-x", "c++", "-v", os.devnull]
    told = _output(words, "Debian package g++").partition("#include <...> search starts here:\n")[2]
    listed = told.partition("End of search list.")[0].split()
    return [path for path in map(Path, listed) if path.is_dir() and path != Path("/usr/local/include")]


def _copy_perl(tree: Path) -> None:
    words = ["perl", "-MConfig", "-e", 'print "$Config{archlibexp}\\n$Config{privlibexp}\\n"']
    arch, library = map(Path, _output(words, "Debian package perl").split())
    for name, place in (("arch", arch), ("lib", library), ("base", arch.parent.parent / "perl-base")):
        shutil.copytree(place, tree / name, ignore=shutil.ignore_patterns("CORE"))
    write_file(tree / "bin" / "study.pl", _PERL_PROGRAM)


def _install_docutils(tree: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--target", str(tree)]
    # Without the project's own constraints, which know nothing of these.
    environment = {key: value for key, value in os.environ.items() if key != "PIP_CONSTRAINT"}
    subprocess.run([*command, *DOCUTILS], check=True, timeout=_LIMIT_S, env=environment)
    compileall.compile_dir(tree, quiet=2)
    write_file(tree / "study" / "study.rst", _DOCUMENT.encode())
    settle(tree / "study")


def _copy_headers(tree: Path) -> None:
    version = _output(["g++", "-dumpversion"], "Debian package g++").strip()
    packages = ("libc6-dev", "linux-libc-dev", "libcrypt-dev", f"libstdc++-{version}-dev", f"libgcc-{version}-dev")
    places = search_list()
    listed = _output(["dpkg", "-L", *packages], "Debian package g++").splitlines()
    for path in map(Path, listed):
        if path.is_file() and any(path.is_relative_to(place) for place in places):
            copied = tree / path.relative_to("/")
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copied)
    write_file(tree / "study.cc", _CXX_PROGRAM)


def _output(words: Sequence[str], needs: str) -> str:
    """Returns all that a command prints; names the package to install where it cannot be run."""
    try:
        done = subprocess.run(
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=_LIMIT_S, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise CommandFailed(f"{' '.join(words)}: {error} (it needs {needs})") from None
    return done.stdout
