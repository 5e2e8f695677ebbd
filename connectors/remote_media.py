"""Clips behind a URL, under prefixes that the configuration allows, spooled to a file when they are opened.

Nothing is fetched before the clip's turn has come, and what lies in the spool is bounded: a download waits until other
clips have let go of theirs. Redirects are not followed, because they would lead out of the allowed prefix.
"""

import os
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from connectors.contract import Media
from connectors.errors import Poison, Reason, Transient

_MAX_URL_CHARACTERS = 4096
_CHUNK_BYTES = 2**20
SPOOL_WAIT_S = 60.0  # for room in the spool; after that the clip is tried again like after any other fault


class SpoolBudget:
    """The bytes that all spooled clips may take together."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._taken_bytes = 0
        self._changed = threading.Condition()

    def take(self, size_bytes: int) -> None:
        """Wait for room; a single clip larger than the whole budget is let in alone."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._has_room(size_bytes), SPOOL_WAIT_S):
                raise Transient("the spool is full", reason=Reason.OVER_BUDGET, origin="source")
            self._taken_bytes += size_bytes

    def _has_room(self, size_bytes: int) -> bool:
        return self._taken_bytes == 0 or self._taken_bytes + size_bytes <= self.max_bytes

    def give(self, size_bytes: int) -> None:
        """Give room back."""
        with self._changed:
            self._taken_bytes -= size_bytes
            self._changed.notify_all()


class RemoteMedia:
    """An object behind a URL. :meth:`open` fetches it once; later opens use the copy."""

    def __init__(self, url: str, name: str, *, spool: Path, budget: SpoolBudget, max_clip_bytes: int) -> None:
        self.name, self.size_bytes = name, 0
        self._url, self._spool, self._budget, self._max_clip_bytes = url, spool, budget, max_clip_bytes
        self._lock = threading.Lock()
        self._descriptor = -1
        self._reserved_bytes = 0

    def __repr__(self) -> str:
        return f"RemoteMedia({self.name!r})"

    def open(self) -> int:
        """Return a new descriptor of the copy; blocks while it is fetched, so call it in a thread."""
        with self._lock:
            if self._descriptor < 0:
                self._descriptor = self._fetch()
            return os.open(f"/proc/self/fd/{self._descriptor}", os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Remove the copy once every opened descriptor is closed too. Idempotent."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1
            self._budget.give(self._reserved_bytes)
            self._reserved_bytes = 0

    def _fetch(self) -> int:
        """Copy the object into a file without a name, which the system removes with the last descriptor."""
        import fsspec

        scheme = urlsplit(self._url).scheme
        options: dict[str, Any] = {"allow_redirects": False} if scheme in ("http", "https") else {}
        try:
            files = fsspec.filesystem(scheme, **options)
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
        self._budget.take(size_bytes)
        self._reserved_bytes = size_bytes

    def _copy(self, remote: Any) -> int:
        self._spool.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self._spool) as copy:
            received_bytes = 0
            while chunk := remote.read(_CHUNK_BYTES):
                received_bytes += len(chunk)
                if received_bytes > self._reserved_bytes:
                    raise self._too_large(received_bytes)  # more than it declared
                copy.write(chunk)
            copy.flush()
            self.size_bytes = received_bytes
            return os.dup(copy.fileno())

    def _too_large(self, size_bytes: int) -> Poison:
        detail = f"{size_bytes} bytes are more than the object may have (limits.max_clip_bytes, or what it declared)"
        return Poison(Reason.TOO_LARGE, detail, origin="source")


def is_remote(uri: str, prefixes: Sequence[str]) -> bool:
    """Tell whether a reference begins like an allowed URL; whether it is one is seen when it is opened."""
    return any(uri.startswith(prefix) for prefix in prefixes)


def open_remote(
    uri: str, name: str, *, prefixes: Sequence[str], spool: Path, budget: SpoolBudget, max_clip_bytes: int
) -> Media:
    """Return the media behind an allowed URL; :class:`Poison` where it is written to lead out of its prefix."""
    steps = unquote(urlsplit(uri).path).replace("\\", "/").split("/")
    hostile = any(step in (".", "..") for step in steps) or "%2e" in uri.lower() or "#" in uri
    unprintable = any(character <= " " or character == "\x7f" for character in uri)
    if hostile or unprintable or len(uri) > _MAX_URL_CHARACTERS or not is_remote(uri, prefixes):
        raise Poison(Reason.FORBIDDEN_PATH, "the reference is refused: not a plain URL", origin="source")
    return RemoteMedia(uri, name, spool=spool, budget=budget, max_clip_bytes=max_clip_bytes)
