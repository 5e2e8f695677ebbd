"""Who may see clips and have them done again: whoever has the token, from the page itself.

The token is in a file. It comes to the page behind the ``#`` of its address, which no browser sends, and the page
exchanges it for a cookie that no script reads and no other site can have sent along. Programs send the token itself.
A cookie alone changes nothing unless the browser says that the page's own origin asks.
"""

import hmac
import json
import os
import secrets
import stat
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from connectors.errors import ConfigurationError

SHORTEST_TOKEN = 16  # characters: 64 bits where they are hexadecimal digits
TOKEN, ADDRESS = "page-token", "page-address"  # the names of files in state_dir
_LONGEST_TOKEN = 1024
_MOST_SESSIONS = 256


def read_token(file: Path | None, state_dir: Path) -> str:
    """Return the token in ``file``, or the one in ``state_dir``, which is made where it is not there yet."""
    if file is None:
        return _own_token(state_dir)
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigurationError(f"{file} can't be read: {reason}", path="web.token_file") from error
    if not SHORTEST_TOKEN <= len(token) <= _LONGEST_TOKEN or not token.isprintable() or not token.isascii():
        message = f"{file} holds no token: {SHORTEST_TOKEN} or more printable characters on one line"
        raise ConfigurationError(message, path="web.token_file")
    return token


def _own_token(state_dir: Path) -> str:
    path = state_dir / TOKEN
    with suppress(OSError, UnicodeDecodeError):
        status = path.lstat()
        is_ours = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077
        if is_ours and len(token := path.read_text(encoding="ascii").strip()) >= SHORTEST_TOKEN:
            return token
    token = secrets.token_urlsafe(32)
    with suppress(OSError):  # where nothing can be kept the token lives as long as the program
        write_private(path, token)
    return token


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner reads, in place of whatever is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(f"{text}\n")
    beside.rename(path)


class Access:
    """Answers whether a request may see media or change something. Sessions end with the daemon."""

    def __init__(self, token: str) -> None:
        self._token = token
        self._sessions: OrderedDict[str, None] = OrderedDict()

    def is_open(self, request: Request) -> bool:
        """Whether a request comes with a session or the token."""
        return self._has_token(request) or self._has_session(request)

    def refuse_look(self, request: Request) -> Response | None:
        """Return what is answered to a request that may not see media; None where it may."""
        if not self.is_open(request):
            return _not_allowed(request)
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return PlainTextResponse("Another site asked for this.\n", 403)
        return None

    def refuse_change(self, request: Request) -> Response | None:
        """Return what is answered to a request that may not change anything; None where it may."""
        if not is_own_origin(request, needed=not self._has_token(request)):
            return PlainTextResponse("Another site asked for this.\n", 403)
        return None if self.is_open(request) else _not_allowed(request)

    async def begin_session(self, request: Request) -> Response:
        """Exchange the token for a cookie."""
        if not is_own_origin(request, needed=True):
            return PlainTextResponse("Another site asked for this.\n", 403)
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return PlainTextResponse("The token comes as JSON.\n", 415)
        given = await _token_in(request)
        if given is None:
            return PlainTextResponse('This takes {"token": "..."}.\n', 400)
        if not self._is_token(given):
            return PlainTextResponse("This is not the token.\n", 403)
        session = secrets.token_urlsafe(32)
        self._sessions[session] = None
        while len(self._sessions) > _MOST_SESSIONS:
            self._sessions.popitem(last=False)
        answer = Response(status_code=204)
        answer.set_cookie(_cookie_name(request), session, httponly=True, samesite="strict", path="/")
        return answer

    def _has_session(self, request: Request) -> bool:
        return request.cookies.get(_cookie_name(request), "") in self._sessions

    def _has_token(self, request: Request) -> bool:
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        return kind.lower() == "bearer" and self._is_token(given.strip())

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self._token.encode())


def is_own_origin(request: Request, *, needed: bool) -> bool:
    """Whether the page's own origin asks, as the browser says; what says nothing of it passes unless that is needed.

    The scheme is not compared: in front of a server that speaks HTTP alone another may speak TLS.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None and site != "same-origin":
        return False
    if origin is None:
        return site is not None or not needed
    return urlsplit(origin).netloc.lower() == request.headers.get("host", "").lower() != ""


async def _token_in(request: Request) -> str | None:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > 2 * _LONGEST_TOKEN:
            return None
    with suppress(ValueError, RecursionError):
        found = json.loads(body)
        token = found.get("token") if isinstance(found, dict) else None
        return token if isinstance(token, str) else None
    return None


def _cookie_name(request: Request) -> str:
    """Name the cookie by the port: browsers send a machine's cookies to all of its ports."""
    server = request.scope.get("server")
    return f"captiond-{server[1] if server else 0}"


def _not_allowed(request: Request) -> Response:
    has_one = "authorization" in request.headers
    sentence = "This is not the token.\n" if has_one else "This needs the token of web.token_file.\n"
    return PlainTextResponse(
        sentence, 403 if has_one else 401, headers={} if has_one else {"WWW-Authenticate": "Bearer"}
    )
