"""What `cvmfs_server` can do: every command, its usage text, and the function that runs it.

Owns: the table and the usage text that follows from it. Does not own: options (the functions it names).
Functions are named rather than imported: a command imports only what it needs, and starts fast.
Threading: constants, and a loader for a short-lived command.
"""

from __future__ import annotations

import importlib
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True)
class Command:
    """One command: `function` as `module:name` below this package, its options, and what it does, in a line."""

    function: str
    options: str
    purpose: str

    def load(self) -> Callable[[Sequence[str]], int]:
        """Imports and returns the function that runs the command with the words behind its name."""
        module, _, name = self.function.partition(":")
        loaded: Callable[[Sequence[str]], int] = getattr(importlib.import_module(f"{__package__}.{module}"), name)
        return loaded


COMMANDS = {
    "mkfs": Command(
        "repositories:mkfs",
        "[-w stratum0 url] [-o owner] [-a sha1|rmd160|shake128] [-Z default|none] [-k key directory] [-m replicable] "
        "[-g no automatic tags] [-G time span of automatic tags] [-z garbage collectable] [-v volatile] "
        "[-u local,temporary directory,directory] [-V membership] [-X external data] [-x proxy] [-p no web server] "
        "<fully qualified repository name>",
        "creates a new repository",
    ),
    "import": Command(
        "repositories:import_repository",
        "-k key directory [-w stratum0 url] [-o owner] [-u local storage] [-r new whitelist] [-t new signing key] "
        "[-p no Apache] <fully qualified repository name>",
        "takes over a repository whose storage and keys are here already",
    ),
    "transaction": Command(
        "transactions:transaction",
        "[-t retry seconds, 0 for ever] <repository name>[/path]...",
        "opens the repository for changes",
    ),
    "publish": Command(
        "transactions:publish",
        "[-a tag] [-m message] [-n revision] [-Z default|none] [-X external data | -N native data] [-d direct I/O] "
        "[-p stop for tweaks by hand] [-v verbose] [-f ignore open readers] <repository name>",
        "makes the changes a new revision",
    ),
    "abort": Command("transactions:abort", "[-f no questions] <repository name>", "discards the changes"),
    "diff": Command(
        "revisions:diff",
        "[-s tag|@hash] [-d tag|@hash] [-w open transaction] [-i ignore times] [-m for scripts] [-h header] "
        "<repository name>",
        "shows what is different between two revisions, by default of the last publish",
    ),
    "list-catalogs": Command(
        "revisions:list_catalogs",
        "[-s sizes] [-e entries] [-h hashes] [-x for scripts] <repository name>",
        "lists the catalogs of the newest revision",
    ),
    "rollback": Command(
        "tags:rollback",
        "[-t tag] [-f no questions] <repository name>",
        "makes an old revision the newest one",
    ),
    "checkout": Command(
        "tags:checkout",
        "[-b branch] [-t tag] <repository name>",
        "puts an old revision below the union, to publish on a branch; without options, the newest one again",
    ),
    "ingest": Command(
        "ingesting:ingest",
        "[-t tar file, - for standard input] [-b base directory] [-d path to delete]... [-c nested catalog] "
        "[-u user [-g group] | -k keep the archive's owners] <repository name>",
        "publishes a tar archive without unpacking it",
    ),
    "tag": Command(
        "tags:tag",
        "[-a name [-m message] [-h root hash]] [-r name]... [-f] [-i name [-x]] [-b [-x]] [-l [-x]] <repository name>",
        "adds, removes, shows or lists names of revisions",
    ),
    "check": Command(
        "checking:check",
        "[-c do not check for objects] [-i verify contents] [-t tag] [-s subtree] [-r repair the log of references] "
        "[-a all repositories that are due] <repository name>",
        "verifies catalogs, tags and the log of references",
    ),
    "gc": Command(
        "collecting:gc",
        "[-r revisions to keep] [-t time, newer revisions are kept] [-l list objects] [-L deletion log] "
        "[-f no questions] [-d dry run] [-a all garbage-collectable repositories] <repository name>...",
        "deletes what no kept revision and no tag needs",
    ),
    "list": Command("repositories:list_all", "", "lists the repositories of this machine"),
    "info": Command(
        "repositories:info",
        "[-k directory of keys] [-s revision and size] [-m the description alone] <repository name>",
        "prints what clients need to know",
    ),
    "mount": Command("repositories:mount", "[-a] <repository name>...", "restores the mounts after a reboot"),
    "catalog-chown": Command(
        "maintenance:catalog_chown",
        "-u <uid map file> -g <gid map file> <repository name>",
        "gives all entries other owners",
    ),
    "eliminate-hardlinks": Command(
        "maintenance:eliminate_hardlinks",
        "[-f no questions] <repository name>",
        "makes every name of a hardlink group a file of its own",
    ),
    "eliminate-bulk-hashes": Command(
        "maintenance:eliminate_bulk_hashes",
        "[-f no questions] <repository name>",
        "removes the hashes of whole files where there are chunks",
    ),
    "fix-stats": Command(
        "maintenance:fix_stats", "[-f no questions] <repository name>", "counts the statistics of all catalogs again"
    ),
    "print-stats": Command(
        "statistics:print_stats",
        "[-o output file] [-t publish_statistics|gc_statistics|properties] [-s separator] <repository name>",
        "prints the statistics of publishing",
    ),
    "merge-stats": Command(
        "statistics:merge_stats",
        "[-o output file] <database> <database>",
        "merges statistics databases of one repository",
    ),
    "update-repoinfo": Command(
        "descriptions:update_repoinfo",
        "[-f JSON file] <repository name>",
        "replaces the repository's metainfo, or opens it in $EDITOR",
    ),
    "update-info": Command(
        "descriptions:update_info",
        "[-p no Apache] [-e do not edit]",
        "makes and edits the description of this server",
    ),
    "skeleton": Command(
        "descriptions:skeleton", "[-o owner] <directory>", "makes the directories of a repository's storage"
    ),
    "fix-permissions": Command("maintenance:fix_permissions", "", "says why no program here needs file capabilities"),
    "resign": Command(
        "renewal:resign",
        "[-w whitelist file] [-d days] [-f no questions] [-p sign the manifest instead] <repository name>...",
        "signs whitelists for another 30 days",
    ),
    "add-replica": Command(
        "replicas:add_replica",
        "[-o owner] [-n alias] [-w url of the replica] [-u local storage] [-g group] [-z collect garbage] [-x proxy] "
        "[-p no web server] [-P pass through] [-a no advice] <stratum 0 url> <public key(s)|key directory>",
        "makes this machine a replica (stratum 1) of a repository",
    ),
    "snapshot": Command(
        "replicas:snapshot",
        "[-t do not wait] <repository name>... | -a [-s separate logs] [-n no log rotation] [-i initialized only] "
        "[-g group]",
        "brings replicas up to date",
    ),
    "alterfs": Command("repositories:alterfs", "[-m on|off] <repository name>", "allows or forbids replicas"),
    "migrate": Command("repositories:migrate", "<repository name>...", "brings a repository to the present layout"),
    "rmfs": Command(
        "repositories:rmfs",
        "[-p keep content and keys] [-f no questions] <repository name>...",
        "removes a repository",
    ),
}

OTHER_NAMES = {
    "lstags": Command("tags:lstags", "", ""),
    "list-tags": Command("tags:lstags", "", ""),
}

_REFERENCE = """
abort add-replica alterfs catalog-chown check checkout diff eliminate-bulk-hashes eliminate-hardlinks enter
fix-permissions fix-stats gc import info ingest list list-catalogs masterkeycard merge-stats migrate mkfs mount
print-stats publish resign rmfs rollback skeleton snapshot tag transaction update-geodb update-info update-repoinfo
"""

# What the reference can do and this version cannot: what to do instead.
INSTEAD = {
    "enter": "open a transaction and work below /cvmfs as root, or as the owner of the repository",
    "masterkeycard": "master keys lie in files: keep the .masterkey file offline, and copy it back for: resign",
    "update-geodb": "keep the database up to date with its maker's tool, and name the file to: nearfs serve",
}

NOT_YET = {
    name: f"the command '{name}' is not available in this version of nearfs"
    + (f"; {INSTEAD[name]}" if name in INSTEAD else "")
    for name in _REFERENCE.split()
    if name not in COMMANDS
}


def headline() -> str:
    """Returns the line that says which version's command this is."""
    return "CernVM-FS Server Tool 2.12.0"


def usage() -> str:
    """Returns the usage text."""
    parts = [headline(), "", "Usage: cvmfs_server COMMAND [options] <parameters>", ""]
    parts += ["Supported Commands (options before the repository name):", ""]
    indent = " " * 18
    for name, command in COMMANDS.items():
        # Options with their explanations stay on a line: a break inside of brackets reads badly.
        options = command.options.replace("] ", "]\0").replace(" ", "\u00a0").replace("\0", " ")
        wrapped = textwrap.wrap(options, 118 - len(indent)) or [""]
        first = f"  {name:<{len(indent) - 3}} "
        lines = [first + wrapped[0], *(indent + line for line in wrapped[1:])]
        parts += [*(line.replace("\u00a0", " ").rstrip() for line in lines), indent + command.purpose]
    if NOT_YET:
        parts += ["", *textwrap.wrap("Not in this version: " + ", ".join(sorted(NOT_YET)), 118, break_on_hyphens=False)]
    parts += [
        "",
        "NEARFS_PREFIX=DIR puts every directory that the commands use below DIR (for tests and demonstrations).",
    ]
    return "\n".join(parts)
