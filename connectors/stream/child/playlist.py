"""HLS over HTTP: what FFmpeg's demuxer opens is fetched here, so that nothing but HTTP is, and the dates are seen.

FFmpeg reads a playlist's segments one behind the other as one stream of bytes. Where each began in it, and the date
that the playlist gave it, turn a packet's place into the sender's time.
"""

import base64
import bisect
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

_MAX_PLAYLIST = 4 * 2**20
_KNOWN = 64  # segments and dates that are remembered
_DATE = re.compile(r"#EXT-X-PROGRAM-DATE-TIME:(.+)")
_LENGTH = re.compile(r"#EXTINF:([0-9.]+)")


class PlaylistFetcher:
    """Opens what FFmpeg asks for, by ``io_open``; its files are read to their end and closed by FFmpeg."""

    def __init__(self, url: str, timeout_s: float, authorities: str | None = "") -> None:
        self._timeout_s = timeout_s
        self._host, self._login = urlsplit(url).hostname, login_of(url)
        self._dates: dict[str, int] = {}
        self._begins: list[tuple[int, int | None]] = []  # where each segment began, and its date
        self._read_bytes = 0
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            _SameKind(),
            urllib.request.HTTPSHandler(context=_context(authorities)),
        )

    def open(self, url: str, _flags: int, _options: Mapping[str, str]) -> "FetchedFile":
        """Return a file of what lies behind a URL of HTTP; :class:`OSError` where it is another, or not to be had."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https"):
            raise PermissionError("only HTTP is fetched")
        request = urllib.request.Request(without_login(url), headers={"User-Agent": "captiond"})  # noqa: S310 - HTTP
        login = login_of(url) or (self._login if parts.hostname == self._host else None)
        if login is not None:
            request.add_header("Authorization", "Basic " + base64.b64encode(login.encode()).decode())
        try:
            answer = self._opener.open(request, timeout=self._timeout_s)
        except urllib.error.HTTPError as error:
            kind = {401: "unauthorized", 403: "unauthorized", 404: "not_found"}.get(error.code, "failed")
            raise HttpRefusal(kind) from None
        except urllib.error.URLError as error:
            raise (error.reason if isinstance(error.reason, OSError) else error) from None
        if parts.path.endswith((".m3u8", ".m3u")) or "mpegurl" in answer.headers.get_content_type():
            text = answer.read(_MAX_PLAYLIST)
            self._note_dates(without_login(answer.url), text.decode("utf-8", "replace"))
            return FetchedFile(answer, text, None)
        self._begins.append((self._read_bytes, self._dates.get(without_login(url))))
        del self._begins[:-_KNOWN]
        return FetchedFile(answer, b"", self)

    def _note_dates(self, url: str, text: str) -> None:
        """Take the dates of a playlist's segments: their own, or the last one's and the lengths since."""
        dates, at_ns, length_ns = dict[str, int](), None, 0
        for line in map(str.strip, text.splitlines()):
            if found := _DATE.match(line):
                at_ns = nanoseconds(found[1])
            elif found := _LENGTH.match(line):
                length_ns = round(float(found[1]) * 10**9)
            elif line.startswith("#EXT-X-DISCONTINUITY") and not line.startswith("#EXT-X-DISCONTINUITY-"):
                at_ns = None
            elif line and not line.startswith("#") and at_ns is not None:
                dates[urljoin(url, line)] = at_ns
                at_ns += length_ns
        if dates:
            self._dates = dates

    def count(self, size_bytes: int) -> None:
        """Take note of what FFmpeg read of a segment."""
        self._read_bytes += size_bytes

    def date_at(self, position: int | None) -> tuple[int, int] | None:
        """Return which segment a place in the stream lies in, by where it began, and its date; None without one."""
        if position is None or position < 0:
            return None
        at = bisect.bisect_right(self._begins, position, key=lambda one: one[0]) - 1
        begin, date = self._begins[at] if at >= 0 else (0, None)
        return None if date is None else (begin, date)


def _context(authorities: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authorities or None)
    if authorities is None:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


class HttpRefusal(OSError):
    """A server's refusal; ``reason`` is its code here."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _SameKind(urllib.request.HTTPRedirectHandler):
    """Redirects stay within HTTP, and lose the password."""

    def redirect_request(self, *arguments: Any) -> urllib.request.Request | None:
        request = super().redirect_request(*arguments)
        if request is not None:
            request.remove_header("Authorization")
        return request


@dataclass
class FetchedFile:
    """An answer as a file. ``begun`` was read already; ``counts`` is told what is read of a segment."""

    answer: Any
    begun: bytes
    counts: PlaylistFetcher | None
    name: str = field(default="hls", init=False)

    def read(self, size: int) -> bytes:
        """Return up to so many bytes, as they come."""
        if self.begun:
            data, self.begun = self.begun[:size], self.begun[size:]
            return data
        data = bytes(self.answer.read1(size))
        if self.counts is not None:
            self.counts.count(len(data))
        return data

    def close(self) -> None:
        """Let go of the connection."""
        self.answer.close()


class HlsClock:
    """The sender's wall clock of an HLS stream: a segment's date is that of its first packet."""

    def __init__(self, fetcher: PlaylistFetcher) -> None:
        self._fetcher = fetcher
        self._begin: int | None = None
        self.offset_ns: int | None = None

    def take(self, position: int | None, media_ns: int | None) -> None:
        """Take a packet's place and time stamp."""
        found = self._fetcher.date_at(position)
        if found is None or media_ns is None or found[0] == self._begin:
            return
        self._begin, date = found
        self.offset_ns = date - media_ns


def nanoseconds(text: str) -> int | None:
    """Return a date of a playlist as nanoseconds since the epoch, of UTC unless it says; None for one that is none."""
    try:
        date = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    date = date if date.tzinfo is not None else date.replace(tzinfo=UTC)
    passed = date - datetime(1970, 1, 1, tzinfo=UTC)
    return (passed.days * 86_400 + passed.seconds) * 10**9 + passed.microseconds * 1_000


def login_of(url: str) -> str | None:
    """Return a URL's user and password, as Basic authentication has them."""
    parts = urlsplit(url)
    return None if parts.username is None else f"{unquote(parts.username)}:{unquote(parts.password or '')}"


def without_login(url: str) -> str:
    """Return a URL without its user and password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
