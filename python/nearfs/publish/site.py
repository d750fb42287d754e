"""What an administrator says for all repositories of a machine: `server.local` and the hook script (server.md 1.2).

Owns: the variables of the two files, and calling the six functions around transaction, publish and abort. Does not own:
when they are called. Threading: a hook is a child process of the calling thread; it may take as long as it wants, and
an interrupt ends it.
"""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from nearfs.config import syntax
from nearfs.errors import InvalidInput, NearfsError

if TYPE_CHECKING:
    from pathlib import Path

    from nearfs.publish.places import Places
    from nearfs.publish.repository import Repository

# $1 is the hook's name, $2 the file, $3 the repository. A function that the file does not define is no failure.
_CALL = 'hook=$1 file=$2; shift 2; . "$file" || exit; command -v "$hook" >/dev/null || exit 0; "$hook" "$@"'
_SENTENCES = {
    "transaction_before_hook": "transaction hook failed, not opening a transaction",
    "publish_before_hook": "publish hook failed, not publishing",
    "abort_before_hook": "abort hook failed, not aborting",
}


def settings(places: Places) -> dict[str, str]:
    """Returns the variables of the site's files; a later file sees, and wins over, an earlier one.

    Raises `InvalidInput` for a file that the shell cannot run to its end.
    """
    found: dict[str, str] = {}
    for path in (places.server_local, places.hooks):
        found.update({key: value for key, value in _variables(path, found).items() if value})
    return found


def _variables(path: Path, environment: dict[str, str]) -> dict[str, str]:
    parsed = syntax.parse_shell(str(path), {**os.environ, **environment}) if path.is_file() else None
    if parsed is None:
        return {}
    if parsed.warnings:
        raise InvalidInput(f"{parsed.warnings[0]}; mend {path} first", operation="read site settings", exit_code=1)
    return dict(parsed.values)


def run_hook(repository: Repository, hook: str) -> None:
    """Calls one function of the hook script with the repository's name; the settings are in its environment.

    Raises `NearfsError` with the function's own return code if it fails.
    """
    path = repository.places.hooks
    if not path.is_file():
        return
    command = ["sh", "-c", _CALL, "sh", hook, str(path), repository.fqrn]
    try:
        # No time limit: a hook may copy or check gigabytes, and whoever waits can interrupt it.
        code = subprocess.run(command, env={**os.environ, **repository.settings}, check=False).returncode
    except OSError as error:
        message = f"cannot run sh for {hook} of {path}: {error.strerror}"
        raise NearfsError(message, operation=hook, subject=repository.fqrn, exit_code=1) from error
    if code:
        message = _SENTENCES.get(hook, f"{hook} of {path} failed (exit status {code}); the command itself was done")
        # A negative status is the number of a signal; the shell's habit is to add 128.
        raise NearfsError(message, operation=hook, subject=repository.fqrn, exit_code=code if code > 0 else 128 - code)
