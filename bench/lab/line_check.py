"""Measures a line from its ends: `serve ADDRESS`, `rtt COUNT ADDRESS` (ms each), `rate BYTES ADDRESS` (Mbit/s).

Owns the measurement alone; `line` decides what is good enough. A program of its own, since each end has its own
network namespace. Bounded by its sockets' time-outs.
"""

import socket
import struct
import sys
import time

PORT = 7999
_LIMIT_S = 20.0
_BLOCK = bytes(1 << 16)
# A packet of 1,500 bytes carries 1,448 of a stream: what the line is asked for counts packets.
_PACKET_OVER_PAYLOAD = 1500 / 1448


def serve(address: str) -> None:
    """Answers one request: as many bytes as eight bytes ask for, byte by byte echoed where they ask for none."""
    with socket.create_server((address, PORT)) as listening:
        print("ready", flush=True)
        while True:
            connection, _ = listening.accept()
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                (size,) = struct.unpack("!Q", connection.recv(8, socket.MSG_WAITALL))
                while size > 0:
                    size -= connection.send(_BLOCK[: min(size, len(_BLOCK))])
                while echo := connection.recv(1):
                    connection.sendall(echo)


def _connected(address: str, size: int) -> socket.socket:
    connection = socket.create_connection((address, PORT), _LIMIT_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(struct.pack("!Q", size))
    return connection


def rtt(count: int, address: str) -> None:
    """Prints the milliseconds of `count` exchanges of one byte."""
    with _connected(address, 0) as connection:
        for _ in range(count):
            started = time.perf_counter()
            connection.sendall(b"x")
            connection.recv(1)
            print((time.perf_counter() - started) * 1e3)


def rate(size: int, address: str) -> None:
    """Prints the Mbit/s of the second half of a transfer of `size` bytes, after slow start."""
    received, half_at, half = 0, 0.0, 0
    with _connected(address, size) as connection:
        buffer = bytearray(1 << 20)
        while received < size:
            got = connection.recv_into(buffer)
            if not got:
                sys.exit("the stream ended early")
            received += got
            if not half_at and received >= size // 2:
                half_at, half = time.perf_counter(), received
        print((received - half) * 8 / (time.perf_counter() - half_at) / 1e6 * _PACKET_OVER_PAYLOAD)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        {"rtt": rtt, "rate": rate}[sys.argv[1]](int(sys.argv[2]), sys.argv[3])
