"""The HTTP server, in the event loop of the main loop: where that hangs, it gives no answer that says all is well."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import uvicorn
from starlette.types import ASGIApp

from connectors.errors import ConfigurationError
from daemon.web.connections import BACKLOG, KEEP_ALIVE_S, BoundedConnection
from daemon.web.hosts import AllowedHosts

log = logging.getLogger(__name__)

_CLOSE_S = 1  # how long an answer under way may take when the daemon ends; uvicorn takes whole seconds


class Beside(Protocol):
    """What runs as long as the server does."""

    async def start(self) -> None:
        """Begin, before anything is served."""
        ...

    async def close(self) -> None:
        """End, and let the answers end that depend on it."""
        ...


class StatusServer:
    """Serves an application on ``host:port``, to requests for this machine's names and ``hosts``.

    ``beside`` runs as long, and ``serves`` is told the page's address.
    """

    def __init__(
        self,
        app: ASGIApp,
        listen: str,
        hosts: Sequence[str] = (),
        *,
        beside: Beside | None = None,
        serves: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._app, self._listen = AllowedHosts(app, listen, hosts), listen
        self._beside, self._serves = beside, serves
        self._server: _QuietServer | None = None
        self._serving: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port that is served: the system's choice where the configuration says 0."""
        return self._port

    async def start(self) -> None:
        """Listen, then serve beside everything else; :class:`ConfigurationError` where the address can't be had."""
        opened = _listener(self._listen)
        self._port: int = opened.getsockname()[1]
        if self._beside is not None:
            await self._beside.start()
        config = uvicorn.Config(
            self._app,
            http=BoundedConnection,
            ws="none",  # an upgraded connection would be bounded by nothing
            proxy_headers=False,
            log_config=None,
            log_level="error",  # below that it says of each bad request that it was bad
            access_log=False,
            lifespan="off",
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=_CLOSE_S,
        )
        self._server = _QuietServer(config)
        self._serving = asyncio.create_task(self._server.serve([opened]), name="status server")
        self._serving.add_done_callback(_ended)
        address = f"http://{self._listen.rpartition(':')[0]}:{self._port}"
        log.info("Status: %s", address)
        self._serves(address)

    async def close(self) -> None:
        """Stop listening and end what is under way."""
        if self._server is not None and self._serving is not None:
            if self._beside is not None:
                await self._beside.close()
            self._server.should_exit = True
            await asyncio.gather(self._serving, return_exceptions=True)
            for connection in list(self._server.server_state.connections):
                if isinstance(connection, BoundedConnection):
                    connection.transport.abort()  # its peer does not read what was answered


class _QuietServer(uvicorn.Server):
    """Leaves the signals to the supervisor."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _ended(serving: "asyncio.Task[None]") -> None:
    if not serving.cancelled() and serving.exception() is not None:
        log.error("The status server ended: %s. Clips are captioned without it.", serving.exception())


def _listener(listen: str) -> socket.socket:
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((host, int(port)))
        opened.listen()  # from here on the address is taken
    except (OSError, OverflowError) as error:
        opened.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigurationError(f"{listen} can't be listened on: {reason}", path="http.listen") from error
    return opened
