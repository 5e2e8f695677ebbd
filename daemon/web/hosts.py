"""The names by which the status server may be asked: a page elsewhere whose name is bound to this machine gets nothing.

A browser puts the name that its page was loaded from into ``Host``. A stranger's page can have its own name resolved to
127.0.0.1 (DNS rebinding) and would read the status as if it were its own site; the name gives it away. A request
without the header comes from no browser and is answered.
"""

import ipaddress
import re
from collections.abc import Iterable

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_HOST = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[^\s:\[\]]+))(?::\d*)?")
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


class AllowedHosts:
    """Answers 421 to requests for names other than this machine's, the listen address and ``hosts``."""

    def __init__(self, app: ASGIApp, listen: str, hosts: Iterable[str] = ()) -> None:
        self._app = app
        self._names = {_plain(name) for name in (*_THIS_MACHINE, listen, *hosts)} - {""}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        if scope["type"] != "http" or self._is_ours(scope):
            await self._app(scope, receive, send)
        else:
            answer = PlainTextResponse("This name is not served: http.hosts lists those that are.\n", 421)
            await answer(scope, receive, send)

    def _is_ours(self, scope: Scope) -> bool:
        server = scope.get("server")
        came_in_at = _plain(str(server[0])) if server else ""
        asked = [_plain(value.decode("latin-1")) for name, value in scope["headers"] if name == b"host"]
        return all(name in self._names or (name and name == came_in_at) for name in asked)


def _plain(host: str) -> str:
    """Return a name without its port, or an address in its shortest form; an empty text where it is neither."""
    host = host.strip().lower()
    if (address := _address(host)) is not None:
        return address
    match = _HOST.fullmatch(host)
    if match is None:
        return ""
    name = match["six"] or match["name"].rstrip(".")
    return _address(name) or name


def _address(text: str) -> str | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
