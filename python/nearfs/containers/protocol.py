"""Docker's volume plugin protocol, version 1, as an ASGI application: POST with JSON, answered with JSON.

Owns: the paths, reading requests, the form of answers and errors. Does not own: what happens (`volumes`), the socket
(`server`).
Threading: called on the event loop; whatever may wait runs in threads, as many as there may be requests under way.
"""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from nearfs.containers.naming import check_volume_name
from nearfs.containers.volumes import check_user
from nearfs.errors import InvalidInput, NearfsError, NotFound

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from nearfs.containers.volumes import Volumes

    Message = MutableMapping[str, Any]

_BODY_LIMIT_BYTES = 1 << 20
# One that waits for a network keeps its thread; Docker starts some tens of containers at a time.
_THREADS = 64
_OK, _BAD_REQUEST, _NOT_FOUND, _FAILED = 200, 400, 404, 500
_CONTENT_TYPE = b"application/vnd.docker.plugins.v1.2+json"


class VolumePlugin:
    """The application."""

    def __init__(self, volumes: Volumes, say: Callable[[str], None]) -> None:
        """Answers for `volumes`; `say` gets a line for each request that failed."""
        self._volumes, self._say = volumes, say
        self._threads = ThreadPoolExecutor(_THREADS, "volume")
        self._actions: dict[str, Callable[[dict[str, Any]], dict[str, object]]] = {
            "/Plugin.Activate": lambda _: {"Implements": ["VolumeDriver"]},
            "/VolumeDriver.Capabilities": lambda _: {"Capabilities": {"Scope": "local"}},
            "/VolumeDriver.Create": self._create,
            "/VolumeDriver.Remove": self._remove,
            "/VolumeDriver.Mount": self._mount,
            "/VolumeDriver.Unmount": self._unmount,
            "/VolumeDriver.Path": lambda request: {"Mountpoint": volumes.path(_name(request))},
            "/VolumeDriver.Get": lambda request: {"Volume": volumes.described(_name(request))},
            "/VolumeDriver.List": lambda _: {"Volumes": volumes.listed()},
        }

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            return
        action = self._actions.get(scope["path"])
        if action is None or scope["method"] != "POST":
            # Docker takes this for "not implemented", and goes on without.
            await _answer(send, _NOT_FOUND, {"Err": f"{scope['method']} {scope['path']} is not of this protocol"})
            return
        try:
            request = await _read(receive)
            loop = asyncio.get_running_loop()
            document = await loop.run_in_executor(self._threads, action, request)
        except NearfsError as error:
            status = _BAD_REQUEST if isinstance(error, InvalidInput) else _FAILED
            # Docker asks whether there is a volume before it makes one.
            if not isinstance(error, NotFound):
                self._say(f"{scope['path']}: {error}")
            await _answer(send, status, {"Err": str(error)})
        except Exception as error:  # noqa: BLE001 - Docker shows what it gets, and the plugin goes on
            self._say(f"{scope['path']}: internal error: {error!r}")
            await _answer(send, _FAILED, {"Err": f"internal error of docker-volume-cvmfs: {error!r}"})
        else:
            await _answer(send, _OK, {**document, "Err": ""})

    def _create(self, request: dict[str, Any]) -> dict[str, object]:
        options = request.get("Opts") or {}
        if not isinstance(options, dict) or not all(isinstance(text, str) for pair in options.items() for text in pair):
            raise InvalidInput("the options of a volume are names with texts", operation="read request")
        self._volumes.create(_name(request), options)
        return {}

    def _remove(self, request: dict[str, Any]) -> dict[str, object]:
        self._volumes.remove(_name(request))
        return {}

    def _mount(self, request: dict[str, Any]) -> dict[str, object]:
        return {"Mountpoint": self._volumes.mount(_name(request), check_user(request.get("ID")))}

    def _unmount(self, request: dict[str, Any]) -> dict[str, object]:
        self._volumes.unmount(_name(request), check_user(request.get("ID")))
        return {}


def _name(request: dict[str, Any]) -> str:
    return check_volume_name(request.get("Name"))


async def _read(receive: Callable[[], Awaitable[Message]]) -> dict[str, Any]:
    """Returns the body of a request; raises `InvalidInput` for one that is too large or no JSON object."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise InvalidInput("the request broke off", operation="read request")
        body += message.get("body", b"")
        if len(body) > _BODY_LIMIT_BYTES:
            raise InvalidInput(f"a request is larger than {_BODY_LIMIT_BYTES} bytes", operation="read request")
        if not message.get("more_body"):
            break
    try:
        document = json.loads(body) if body.strip() else {}
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"a request is no JSON: {error}", operation="read request") from None
    if document is None:
        return {}  # what Docker sends where there is nothing to say
    if not isinstance(document, dict):
        raise InvalidInput("a request is no JSON object", operation="read request")
    return document


async def _answer(send: Callable[[Message], Awaitable[None]], status: int, document: dict[str, object]) -> None:
    body = json.dumps(document).encode() + b"\n"
    headers = [(b"content-type", _CONTENT_TYPE), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
