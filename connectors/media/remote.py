"""Clips behind a URL, under prefixes that the configuration allows, spooled to a file when their turn has come.

Nothing is fetched before that, and what lies in the spool is bounded: a download waits until other clips have let go of
theirs. Redirects are not followed, because they would lead out of the allowed prefix.
"""

import asyncio
import os
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from connectors.errors import ConfigurationError, Poison, Reason, Transient
from connectors.media.protocols import Media

_MAX_URL_CHARACTERS = 4096
_CHUNK_BYTES = 2**20
_CONNECT_S, _SILENCE_S = 30.0, 60.0  # a store that says nothing for so long is tried again; a slow one is waited for


class Spool:
    """The place of a source's objects while their clips are in flight: ``max_bytes`` of them together."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder, self.max_bytes = folder, max_bytes
        self.held_bytes = 0
        self.received_bytes = 0  # since the start
        self._changed = threading.Condition()
        self._line: deque[object] = deque()

    def take(self, size_bytes: int, is_wanted: Callable[[], bool]) -> bool:
        """Wait in line for room, as long as it is wanted; an object larger than the whole spool is let in alone."""
        ticket = object()
        with self._changed:
            self._line.append(ticket)
            self._changed.wait_for(lambda: not is_wanted() or (self._line[0] is ticket and self._has_room(size_bytes)))
            self._line.remove(ticket)
            self._changed.notify_all()
            if is_wanted():
                self.held_bytes += size_bytes
                return True
            return False

    def _has_room(self, size_bytes: int) -> bool:
        return self.held_bytes == 0 or self.held_bytes + size_bytes <= self.max_bytes

    def give(self, size_bytes: int) -> None:
        """Give room back."""
        with self._changed:
            self.held_bytes -= size_bytes
            self._changed.notify_all()

    def look_again(self) -> None:
        """Let those who wait ask whether they still want to."""
        with self._changed:
            self._changed.notify_all()


class RemoteMedia:
    """An object behind a URL. :meth:`fetch` brings it here once; opens use the copy."""

    def __init__(self, url: str, name: str, *, spool: Spool, max_clip_bytes: int) -> None:
        self.name, self.size_bytes = name, 0
        self._url, self._spool, self._max_clip_bytes = url, spool, max_clip_bytes
        self._lock = threading.Lock()  # held by whoever brings the object here or lets it go
        self._is_wanted = True
        self._descriptor = -1
        self._reserved_bytes = 0

    def __repr__(self) -> str:
        return f"RemoteMedia({self.name!r})"

    async def fetch(self) -> None:
        """Bring the object here; see :class:`.protocols.DistantMedia`. Cancelled, it goes on until `close`."""
        loop = asyncio.get_running_loop()
        fetched: asyncio.Future[None] = loop.create_future()

        def work() -> None:
            fault: BaseException | None = None
            try:
                self._bring()
            except BaseException as error:
                fault = error
            if not loop.is_closed():
                loop.call_soon_threadsafe(_settle, fetched, fault)

        threading.Thread(target=work, name="spool", daemon=True).start()  # a store that hangs must not keep a stop
        await fetched

    def open(self) -> int:
        """Return a new descriptor of the copy; where nobody has fetched it, it is fetched first."""
        if self._descriptor < 0:
            self._bring()
        return os.open(f"/proc/self/fd/{self._descriptor}", os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Remove the copy once every opened descriptor is closed too; a download under way gives up. Idempotent."""
        self._is_wanted = False
        self._spool.look_again()
        if self._lock.acquire(blocking=False):  # else whoever holds it lets go when it sees that it is not wanted
            try:
                self._let_go()
            finally:
                self._lock.release()

    def _let_go(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        reserved_bytes, self._reserved_bytes = self._reserved_bytes, 0
        self._spool.give(reserved_bytes)

    def _bring(self) -> None:
        with self._lock:
            try:
                if self._descriptor < 0 and self._is_wanted:
                    self._descriptor = self._copy_of_object()
            except BaseException:
                self._let_go()
                raise
        if not self._is_wanted:
            self.close()
            raise Transient(f"{self.name} is not wanted any more", reason=Reason.VANISHED, origin="source")

    def _copy_of_object(self) -> int:
        """Copy the object into a file without a name, which the system removes with the last descriptor."""
        import fsspec

        scheme = urlsplit(self._url).scheme
        try:
            files = fsspec.filesystem(scheme, **_options(scheme))
            self._reserve(files.info(self._url).get("size"))
            with files.open(self._url, "rb") as remote:
                return self._copy(remote)
        except (Poison, Transient):
            raise
        except FileNotFoundError as error:
            raise Poison(Reason.VANISHED, f"{self.name} refers to nothing", origin="source") from error
        except PermissionError as error:
            raise Poison(Reason.FORBIDDEN_PATH, f"{self.name}: the store refuses access", origin="source") from error
        except Exception as error:
            detail = f"{self.name} can't be fetched: {type(error).__name__}"
            raise Transient(detail, reason=Reason.VANISHED, origin="source") from error

    def _reserve(self, declared_bytes: int | None) -> None:
        """Make room for what the store declares; an object without a size may take as much as a clip may."""
        size_bytes = self._max_clip_bytes if declared_bytes is None else declared_bytes
        if size_bytes > self._max_clip_bytes:
            raise self._too_large(size_bytes)
        if size_bytes == 0:
            raise Poison(Reason.EMPTY, f"{self.name} refers to an object without bytes", origin="source")
        if self._spool.take(size_bytes, lambda: self._is_wanted):
            self._reserved_bytes = size_bytes

    def _copy(self, remote: BinaryIO) -> int:
        self._spool.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self._spool.folder) as copy:
            received_bytes = 0
            while self._is_wanted and (chunk := remote.read(_CHUNK_BYTES)):
                received_bytes += len(chunk)
                self._spool.received_bytes += len(chunk)
                if received_bytes > self._reserved_bytes:
                    raise self._too_large(received_bytes)  # more than it declared
                copy.write(chunk)
            copy.flush()
            self.size_bytes = received_bytes
            return os.dup(copy.fileno())

    def _too_large(self, size_bytes: int) -> Poison:
        detail = f"{size_bytes} bytes are more than the object may have (limits.max_clip_bytes, or what it declared)"
        return Poison(Reason.TOO_LARGE, detail, origin="source")


def _options(scheme: str) -> dict[str, Any]:
    if scheme not in ("http", "https"):
        return {}
    from aiohttp import ClientTimeout

    silence = ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_SILENCE_S)
    return {"allow_redirects": False, "client_kwargs": {"timeout": silence}}


def _settle(fetched: "asyncio.Future[None]", fault: BaseException | None) -> None:
    if fetched.done():
        return  # nobody waits any more
    if fault is None:
        fetched.set_result(None)
    else:
        fetched.set_exception(fault)


def check_prefixes(prefixes: Sequence[str], *, path: str) -> None:
    """Raise :class:`ConfigurationError` for a scheme that can't be fetched with what is installed."""
    for prefix in prefixes:
        import fsspec

        try:
            fsspec.get_filesystem_class(urlsplit(prefix).scheme)
        except (ImportError, ValueError) as error:
            raise ConfigurationError(f"{prefix!r} can't be fetched: {error}", path=path) from error


def is_remote(uri: str, prefixes: Sequence[str]) -> bool:
    """Tell whether a reference begins like an allowed URL; whether it is one is seen when it is opened."""
    return any(uri.startswith(prefix) for prefix in prefixes)


def open_remote(uri: str, name: str, *, prefixes: Sequence[str], spool: Spool, max_clip_bytes: int) -> Media:
    """Return the media behind an allowed URL; :class:`Poison` where it is written to lead out of its prefix."""
    steps = unquote(urlsplit(uri).path).replace("\\", "/").split("/")
    hostile = any(step in (".", "..") for step in steps) or "%2e" in uri.lower() or "#" in uri
    unprintable = any(character <= " " or character == "\x7f" for character in uri)
    if hostile or unprintable or len(uri) > _MAX_URL_CHARACTERS or not is_remote(uri, prefixes):
        raise Poison(Reason.FORBIDDEN_PATH, "the reference is refused: not a plain URL", origin="source")
    return RemoteMedia(uri, name, spool=spool, max_clip_bytes=max_clip_bytes)
