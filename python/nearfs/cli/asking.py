"""Questions to a person, answered on standard input.

Owns: what counts as yes. Threading: a short-lived command, one thread.
"""

from __future__ import annotations

import sys

from nearfs.cli import output


def confirm(question: str) -> bool:
    """Asks a question that only `y` answers with yes; without an answer it is no."""
    output.prompt(question)
    answer = sys.stdin.readline()
    return answer.strip().lower() in ("y", "yes")
