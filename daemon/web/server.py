"""The HTTP server, in the event loop of the main loop: where that hangs, it gives no answer that says all is well."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from connectors.errors import ConfigurationError

log = logging.getLogger(__name__)

_CLOSE_S = 1  # how long an answer under way may take when the daemon ends; uvicorn takes whole seconds
_CONNECTIONS = 64  # what reads metrics is few; a flood is answered 503 and costs no memory


class StatusServer:
    """Serves an application on ``host:port``."""

    def __init__(self, app: ASGIApp, listen: str) -> None:
        self._app, self._listen = app, listen
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
        config = uvicorn.Config(
            self._app,
            log_config=None,
            log_level="warning",
            access_log=False,
            lifespan="off",
            server_header=False,
            limit_concurrency=_CONNECTIONS,
            timeout_graceful_shutdown=_CLOSE_S,
        )
        self._server = _QuietServer(config)
        self._serving = asyncio.create_task(self._server.serve([opened]), name="status server")
        self._serving.add_done_callback(_ended)
        log.info("Status: http://%s:%d", self._listen.rpartition(":")[0], self._port)

    async def close(self) -> None:
        """Stop listening and end what is under way."""
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await asyncio.gather(self._serving, return_exceptions=True)


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
