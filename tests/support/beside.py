"""Work that goes on beside a test: a thread for each piece, and none of them outlives its context.

Called from the test's own thread.
"""

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator


@contextlib.contextmanager
def running(work: Iterable[Callable[[], None]], ended: threading.Event, limit_s: float) -> Iterator[None]:
    """Runs each piece of work until the context ends; then `ended` is set, at which every piece has to stop."""
    threads = [threading.Thread(target=one, daemon=True) for one in work]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join(limit_s)
