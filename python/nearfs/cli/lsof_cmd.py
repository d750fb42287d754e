"""Lists what processes have open below a directory. Threading: a short-lived command, one thread."""

from __future__ import annotations

import os

from nearfs.cli import output
from nearfs.publish import users


def show(directory: str) -> int:
    """Prints a line an open file: process, `r` or `w`, path."""
    for opened in users.open_files(os.path.realpath(directory)):
        output.line(f"{opened.pid} {'w' if opened.is_writable else 'r'} {opened.path}")
    return 0
