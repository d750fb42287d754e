"""Owns the access log: one JSON line a request. Does not rotate it. Called from the event loop's thread only."""

import json
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from nearfs.errors import PermissionDenied


class AccessLog:
    """An open access log, appended to with one write a line, so that lines of several servers never mix."""

    def __init__(self, path: Path) -> None:
        """Opens `path` for appending, creating it. Raises PermissionDenied."""
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as problem:
            raise PermissionDenied(
                f"cannot open the access log {path}: {problem.strerror}; name a writable file with --access-log",
                exit_code=1,
            ) from None

    def record(self, method: str, path: str, status: int, body_bytes: int) -> None:
        """Writes one line: `time` (Unix seconds), `method`, `path` (decoded), `status`, `bytes` (body sent)."""
        line = json.dumps(
            {"time": round(time.time(), 6), "method": method, "path": path, "status": status, "bytes": body_bytes},
            separators=(",", ":"),
        )
        try:
            os.write(self._descriptor, line.encode("ascii") + b"\n")
        except OSError:
            # A full disk under the log must not take the repositories off the air.
            return

    def close(self) -> None:
        """Closes the file. Call it once."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the file."""
        self.close()
