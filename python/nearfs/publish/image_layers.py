"""Reading one layer of an image: inflated, checked and handed on while it streams by, never on disk.

Owns: the pipe between a layer's file and the engine, the digest of its tar, and which directories the tar leaves
unsaid. Does not own: what the engine makes of it (`images`).
Threading: a thread of its own reads the layer and fills the pipe; the engine empties it.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import os
import tarfile
import threading
import zlib
from typing import TYPE_CHECKING, BinaryIO, cast

from nearfs.errors import Corrupt, NearfsError, Unsupported

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from nearfs.publish.image_source import Layer

_BLOCK_BYTES = 1 << 20
_MEMBERS_LIMIT = 20_000_000
_END_LIMIT_S = 60.0
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


class _GivenUpError(Exception):
    """Nobody wants the rest of a layer."""


class Streaming:
    """A layer that is being read: `path` is what the engine opens. A context manager."""

    def __init__(self, layer: Layer) -> None:
        """Opens the layer; it flows when the context is entered."""
        self._layer = layer
        self._hash = hashlib.sha256()
        self._failure: BaseException | None = None
        self._is_given_up = False
        self.unsaid: set[str] = set()
        """Directories that entries are in, and that the tar has no entry for."""
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="layer", daemon=True)

    @property
    def path(self) -> str:
        """Returns the name under which this process can open the tar, once and forward."""
        return f"/proc/self/fd/{self._reader}"

    def __enter__(self) -> Self:
        """Begins to read."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Waits for the end of the layer; raises `Corrupt` where it is not what its digest says, or cannot be read.

        What is wrong with the layer is raised in place of what the engine says about the half that it got.
        """
        self._is_given_up = error is not None
        os.close(self._reader)
        # With nobody to read, the rest is only hashed.
        self._thread.join(None if error is None else _END_LIMIT_S)
        if self._failure is not None and not isinstance(error, KeyboardInterrupt):
            raise self._failure from None
        if error is None and self._hash.hexdigest() != self._layer.diff_id:
            message = f"layer sha256:{self._layer.diff_id} has another content (sha256:{self._hash.hexdigest()})"
            raise Corrupt(message, operation="read layer", subject=self._layer.diff_id)

    def _run(self) -> None:
        try:
            with self._layer.open() as stored, _inflated(stored, self._layer.diff_id) as plain:
                flowing = _Flowing(self, plain)
                self._note_directories(flowing)
                while flowing.read(_BLOCK_BYTES):
                    pass
        except _GivenUpError:
            pass
        except NearfsError as error:
            self._failure = error
        except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
            message = f"layer sha256:{self._layer.diff_id} cannot be read: {error}"
            self._failure = Corrupt(message, operation="read layer", subject=self._layer.diff_id)
        finally:
            with contextlib.suppress(OSError):
                os.close(self._writer)

    def _note_directories(self, flowing: _Flowing) -> None:
        said: set[str] = set()
        used: set[str] = set()
        with tarfile.open(fileobj=flowing, mode="r|", bufsize=_BLOCK_BYTES) as archive:
            for number, member in enumerate(archive):
                if number >= _MEMBERS_LIMIT:
                    raise Unsupported(f"layer sha256:{self._layer.diff_id} has too many entries")
                name = "/".join(part for part in member.name.split("/") if part not in ("", "."))
                if member.isdir():
                    said.add(name)
                used.add(name.rpartition("/")[0])
                archive.members = []  # type: ignore[attr-defined] # or it keeps what nobody asks for
        for name in list(used):
            while name:
                used.add(name)
                name = name.rpartition("/")[0]  # noqa: PLW2901 - the way up
        self.unsaid = used - said - {""}

    def pass_on(self, block: bytes) -> None:
        """Hashes a block, and writes it into the pipe as long as somebody reads there."""
        self._hash.update(block)
        view = memoryview(block)
        while view:
            if self._is_given_up:
                raise _GivenUpError
            try:
                view = view[os.write(self._writer, view) :]
            except BrokenPipeError:
                return  # the engine has seen the end of the tar; what follows is hashed all the same


class _Flowing(io.RawIOBase):
    """The plain tar; whatever is read of it is passed on."""

    def __init__(self, streaming: Streaming, plain: BinaryIO) -> None:
        super().__init__()
        self._streaming, self._plain = streaming, plain

    def read(self, size: int = -1, /) -> bytes:
        """Returns the next bytes, at most `size`."""
        block = self._plain.read(size if size >= 0 else _BLOCK_BYTES)
        self._streaming.pass_on(block)
        return block


def _inflated(stored: BinaryIO, diff_id: str) -> BinaryIO:
    """Returns the tar of a layer; raises `Unsupported` for a compression that is not read here."""
    buffered = stored if isinstance(stored, io.BufferedReader) else io.BufferedReader(cast("io.RawIOBase", stored))
    start = buffered.peek(len(_ZSTD))
    if start.startswith(_GZIP):
        return gzip.GzipFile(fileobj=buffered)  # type: ignore[return-value] # several members, too
    if start.startswith(_ZSTD):
        way_out = "skopeo copy --dest-compress --dest-compress-format gzip makes a copy that is gzip"
        message = f"layer sha256:{diff_id} is compressed by zstd, which is not read here; {way_out}"
        raise Unsupported(message, operation="read layer", subject=diff_id)
    return buffered
