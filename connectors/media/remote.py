"""Clips behind a URL, under prefixes that the configuration allows, spooled to a file when their turn has come.

Redirects are not followed, because they would lead out of the allowed prefix.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any
from urllib.parse import unquote, urlsplit

from connectors.errors import ConfigurationError, Poison, Reason, Transient
from connectors.media.protocols import Media
from connectors.media.reference import climbs
from connectors.media.spool import Spool, SpooledMedia

_MAX_URL_CHARACTERS = 4096
_MAX_DECODINGS = 4  # a server decodes once, a proxy before it perhaps once more
_CHUNK_BYTES = 2**20
_SENT_AT_ONCE = ("http", "https")  # a server may send from the moment of opening: there has to be room before
_CONNECT_S, _SILENCE_S = 30.0, 60.0  # a store that says nothing for so long is tried again; a slow one is waited for


class RemoteMedia(SpooledMedia):
    """An object behind a URL."""

    def __init__(self, url: str, name: str, *, spool: Spool, max_clip_bytes: int) -> None:
        super().__init__(name, 0, spool=spool, max_clip_bytes=max_clip_bytes)
        self._url = url

    def _copy(self) -> int:
        import fsspec

        scheme = urlsplit(self._url).scheme
        try:
            files = fsspec.filesystem(scheme, **_options(scheme))
            if scheme in _SENT_AT_ONCE:
                self._reserve(self._accept(files.info(self._url).get("size")))
            with files.open(self._url, "rb") as remote:
                if scheme not in _SENT_AT_ONCE:  # one request less: who opens an object asks for its size
                    self._reserve(self._accept(getattr(remote, "size", None)))
                return self._write(iter(partial(remote.read, _CHUNK_BYTES), b""))
        except (Poison, Transient):
            raise
        except FileNotFoundError as error:
            raise Poison(Reason.VANISHED, f"{self.name} refers to nothing", origin="source") from error
        except PermissionError as error:
            raise Poison(Reason.FORBIDDEN_PATH, f"{self.name}: the store refuses access", origin="source") from error
        except Exception as error:
            detail = f"{self.name} can't be fetched: {type(error).__name__}"
            raise Transient(detail, reason=Reason.VANISHED, origin="source") from error

    def _accept(self, declared_bytes: int | None) -> int:
        """Return the room for what the store declares; an object without a size may take as much as a clip may."""
        size_bytes = self._max_clip_bytes if declared_bytes is None else declared_bytes
        if size_bytes > self._max_clip_bytes:
            detail = f"{size_bytes} bytes are more than limits.max_clip_bytes ({self._max_clip_bytes})"
            raise Poison(Reason.TOO_LARGE, detail, origin="source")
        if size_bytes == 0:
            raise Poison(Reason.EMPTY, f"{self.name} refers to an object without bytes", origin="source")
        return size_bytes


def _options(scheme: str) -> dict[str, Any]:
    if scheme not in _SENT_AT_ONCE:
        return {}
    from aiohttp import ClientTimeout

    silence = ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_SILENCE_S)
    return {"allow_redirects": False, "client_kwargs": {"timeout": silence}}


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


def _may_climb(path: str) -> bool:
    """Return whether a URL's path means another one to a server that decodes it, however often it does."""
    for _ in range(_MAX_DECODINGS):
        if "\\" in path or any(map(climbs, path.split("/"))) or not path.isprintable():
            return True
        before, path = path, unquote(path)
        if before == path:
            return False
    return True


def open_remote(uri: str, name: str, *, prefixes: Sequence[str], spool: Spool, max_clip_bytes: int) -> Media:
    """Return the media behind an allowed URL; :class:`Poison` where it is written to lead out of its prefix."""
    check_remote(uri, prefixes)
    return RemoteMedia(uri, name, spool=spool, max_clip_bytes=max_clip_bytes)


def check_remote(uri: str, prefixes: Sequence[str]) -> None:
    """Raise :class:`Poison` for a URL that is not allowed, or is written to lead out of its prefix."""
    hostile = _may_climb(urlsplit(uri).path) or "%2e" in uri.lower() or "#" in uri
    unprintable = any(character <= " " or character == "\x7f" for character in uri)
    if hostile or unprintable or len(uri) > _MAX_URL_CHARACTERS or not is_remote(uri, prefixes):
        raise Poison(Reason.FORBIDDEN_PATH, "the reference is refused: not a plain URL", origin="source")
