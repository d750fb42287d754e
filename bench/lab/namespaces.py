"""Small pieces of work inside a network namespace, without a process for each.

Owns entering a namespace. Each piece runs in a thread of its own that ends with it: a thread that has changed its
namespace is not used for anything else.
"""

import ctypes
import os
import threading
from collections.abc import Callable
from typing import TypeVar

_CLONE_NEWNET = 0x40000000

T = TypeVar("T")


def inside(namespace: str, work: Callable[[], T]) -> T:
    """Returns what `work` returns when it is called in a namespace that `ip netns` knows; raises what it raises.

    Sockets and devices that it opens stay in that namespace. Raises OSError where there is no such namespace.
    """
    results: list[T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            descriptor = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
            try:
                if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), f"enter namespace {namespace}")
            finally:
                os.close(descriptor)
            results.append(work())
        except BaseException as failure:  # noqa: BLE001 -- raised again below, in the caller's thread
            failures.append(failure)

    worker = threading.Thread(target=run)
    worker.start()
    worker.join()
    if failures:
        raise failures[0]
    return results[0]
