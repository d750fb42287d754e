"""The syntax of client configuration files (client.md 1.2): shell files, and the simple `KEY=value` form.

Owns: reading one file and finding out which parameters it defines with which values. Does not own: the order of the
files, protected parameters or templates (`layers`), nor what a value means (`model`).
Threading: no shared state. A shell file runs in a child process of its own session, for `SHELL_TIMEOUT_S` at most.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nearfs.errors import InvalidInput, PermissionDenied

if TYPE_CHECKING:
    from collections.abc import Mapping

# A configuration file may probe the machine (host names, mounts), hence seconds; a mount must not hang on it forever.
SHELL_TIMEOUT_S = 20.0
# Real files have a few kilobytes; the bounds only keep a mistake (a device, a log file, `yes`) from eating the machine.
MAX_FILE_BYTES = 1 << 20
MAX_OUTPUT_BYTES = 4 << 20

_SHELL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PREFIXES = ("readonly ", "export ", "eval ")
# Within this length, a pair of quotes would leave nothing: `""` stays as it is (client.md 1.2, point 6).
_SHORTEST_QUOTED = 3


@dataclass(frozen=True)
class ParsedFile:
    """What one file defines, in the order of first appearance, and what is worth a line in the log."""

    values: dict[str, str]
    warnings: list[str] = field(default_factory=list)


def assignment(line: str) -> tuple[str, str] | None:
    """Returns key and raw text after the first `=` of a line, or None if the line defines nothing.

    Keys that no shell variable can have are dropped as well: the shell could not say what their value is.
    """
    text = line.partition("#")[0].strip()
    key, equals, value = text.partition("=")
    if not equals:
        return None
    key = key.strip()
    for prefix in _PREFIXES:
        if key.startswith(prefix):
            key = key.removeprefix(prefix).strip()
            break
    if _SHELL_NAME.fullmatch(key) is None:
        return None
    return key, value.strip()


def read_lines(path: str) -> list[str] | None:
    """Returns the lines of a configuration file, or None if there is no such file. Bytes survive the round trip."""
    try:
        with open(path, "rb") as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        message = f"cannot read configuration file {path}: {error.strerror}"
        kind = PermissionDenied if isinstance(error, PermissionError) else InvalidInput
        raise kind(message, operation="read configuration", subject=path) from error
    if len(content) > MAX_FILE_BYTES:
        message = f"configuration file {path} is larger than {MAX_FILE_BYTES} bytes; refusing to read it"
        raise InvalidInput(message, operation="read configuration", subject=path)
    return content.decode("utf-8", "surrogateescape").split("\n")


def parse_simple(path: str) -> ParsedFile | None:
    """Parses a `KEY=value` file without a shell; None if the file does not exist."""
    lines = read_lines(path)
    if lines is None:
        return None
    values: dict[str, str] = {}
    for line in lines:
        found = assignment(line)
        if found is not None:
            values[found[0]] = _unquoted(found[1])
    return ParsedFile(values)


def _unquoted(value: str) -> str:
    if len(value) >= _SHORTEST_QUOTED and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1]
    return value


def parse_shell(path: str, environment: Mapping[str, str], timeout_s: float = SHELL_TIMEOUT_S) -> ParsedFile | None:
    """Runs the file through `/bin/sh` and asks for the value of every key found in it; None if there is no file.

    The value is the first line of what `echo $KEY` prints after the whole file ran. Where the shell ends before it is
    asked (an `exit`, a syntax error), the remaining keys are defined and empty, and a warning says why.
    Raises `InvalidInput` when the time or the output bound is hit.
    """
    lines = read_lines(path)
    if lines is None:
        return None
    keys = list(dict.fromkeys(found[0] for line in lines if (found := assignment(line)) is not None))
    if not keys:
        return ParsedFile({})
    # Answers are found by a mark that the file cannot know, so that whatever it prints itself does no harm.
    mark = f"nearfs-{os.urandom(12).hex()}"
    questions = "".join(f"echo {mark}\necho ${key}\n" for key in keys)
    script = "\n".join(lines) + f"\n{questions}echo {mark}-end\n"
    run = _Shell(path, environment, timeout_s).run(script, f"{mark}-end\n")
    answers = run.output.partition(f"{mark}-end\n")[0].split(f"{mark}\n")[1:]
    values = dict.fromkeys(keys, "")
    values.update({key: answer.partition("\n")[0] for key, answer in zip(keys, answers, strict=False)})
    if len(answers) == len(keys) and run.finished:
        return ParsedFile(values)
    reason = run.complaint or "no complaint on standard error"
    lost = ", ".join(keys[len(answers) :]) or keys[-1]
    return ParsedFile(values, [f"configuration file {path}: the shell ended early ({reason}); left empty: {lost}"])


@dataclass(frozen=True)
class _ShellRun:
    """What the shell said: standard output, whether it reached the end, first line of standard error."""

    output: str
    finished: bool
    complaint: str


@dataclass(frozen=True)
class _Shell:
    """One bounded run of `/bin/sh` in the directory of the file."""

    path: str
    environment: Mapping[str, str]
    timeout_s: float

    def run(self, script: str, end: str) -> _ShellRun:
        """Feeds the script and collects the answers until the end mark, the end of output, or a bound."""
        with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as complaints:
            source.write(script.encode("utf-8", "surrogateescape"))
            source.seek(0)
            # Its own session: the group can be ended as a whole, and autofs serves it like any other process.
            with subprocess.Popen(
                ["/bin/sh"],
                stdin=source,
                stdout=subprocess.PIPE,
                stderr=complaints,
                cwd=os.path.dirname(self.path) or ".",
                env=dict(self.environment),
                start_new_session=True,
            ) as child:
                try:
                    output = self._collect(child, end.encode())
                finally:
                    _end_group(child)
            complaints.seek(0)
            complaint = complaints.read(400).decode("utf-8", "replace").strip().partition("\n")[0]
        text = output.decode("utf-8", "surrogateescape")
        return _ShellRun(text, end in text, complaint)

    def _collect(self, child: subprocess.Popen[bytes], end: bytes) -> bytes:
        pipe = child.stdout
        if pipe is None:  # cannot be: asked for above
            return b""
        deadline = time.monotonic() + self.timeout_s
        output = bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while end not in output:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise self._refusal(f"did not finish within {self.timeout_s:g} seconds")
                block = os.read(pipe.fileno(), 1 << 16)
                if not block:
                    break
                output += block
                if len(output) > MAX_OUTPUT_BYTES:
                    raise self._refusal(f"printed more than {MAX_OUTPUT_BYTES} bytes")
        return bytes(output)

    def _refusal(self, what: str) -> InvalidInput:
        message = f"configuration file {self.path} {what} in /bin/sh; look for a command in it that waits or loops"
        return InvalidInput(message, operation="run configuration", subject=self.path)


def _end_group(child: subprocess.Popen[bytes]) -> None:
    """Ends the shell and whatever it left behind; the group is ours alone because of the session of its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
