"""Waiting with a deadline: the only way in which a test waits.

Called from the test's own thread.
"""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

FIRST_PAUSE_S = 0.005
LONGEST_PAUSE_S = 0.1


class DeadlineExceededError(AssertionError):
    """Something did not become true in time; the text says what and how long was waited."""


def wait_until(predicate: Callable[[], T], deadline: float, what: str) -> T:
    """Returns the first true answer of `predicate`, asked again and again for `deadline` seconds.

    Raises DeadlineExceededError with `what`, which reads as the rest of "waited 5 s, but not: ...".
    """
    end = time.monotonic() + deadline
    pause = FIRST_PAUSE_S
    while True:
        answer = predicate()
        if answer:
            return answer
        if time.monotonic() >= end:
            message = f"waited {deadline:g} s, but not: {what}"
            raise DeadlineExceededError(message)
        time.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE_S)
