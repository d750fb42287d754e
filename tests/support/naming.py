"""A name server for tests that knows what a test tells it.

Owns one thread, which ends with the context. Answers questions for A and AAAA; `is_silent` makes it answer nothing.
"""

import contextlib
import ipaddress
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

_SLICE_S = 0.05
_LIMIT_S = 10.0
_TYPES = {1: 4, 28: 6}


@dataclass
class NameServer:
    """A running name server; `addresses` and the rest hold for questions from now on."""

    address: str
    addresses: dict[str, list[str]] = field(default_factory=dict)
    ttl_s: int = 0
    is_silent: bool = False
    asked: list[str] = field(default_factory=list)


@contextlib.contextmanager
def naming() -> Iterator[NameServer]:
    """Runs a name server on a free port."""
    ended = threading.Event()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as port:
        port.bind(("127.0.0.1", 0))
        port.settimeout(_SLICE_S)
        server = NameServer("{}:{}".format(*port.getsockname()))

        def serve() -> None:
            while not ended.is_set():
                with contextlib.suppress(TimeoutError):
                    question, client = port.recvfrom(4096)
                    answer = _answer(server, question)
                    if not server.is_silent:
                        port.sendto(answer, client)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            ended.set()
            thread.join(_LIMIT_S)


def _answer(server: NameServer, question: bytes) -> bytes:
    labels, at = [], 12
    while length := question[at]:
        labels.append(question[at + 1 : at + 1 + length].decode("ascii"))
        at += 1 + length
    kind = struct.unpack_from("!H", question, at + 1)[0]
    name = ".".join(labels)
    server.asked.append(name)
    known = [ipaddress.ip_address(text) for text in server.addresses.get(name, [])]
    fitting = [address.packed for address in known if address.version == _TYPES.get(kind)]
    flags = 0x8180 if known else 0x8183
    records = b"".join(struct.pack("!HHHIH", 0xC00C, kind, 1, server.ttl_s, len(a)) + a for a in fitting)
    return question[:2] + struct.pack("!HHHHH", flags, 1, len(fitting), 0, 0) + question[12 : at + 5] + records
