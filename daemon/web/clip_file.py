"""A clip over HTTP, with ranges: a player seeks by asking for the bytes behind a place."""

import asyncio
import re

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from connectors.media.protocols import FileSpan

_CHUNK_BYTES = 256 * 1024
_MOST_BYTES = 4 * 1024 * 1024  # of one answer to a range: a player asks for more when it needs more
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")

# what browsers play; anything else that a sender put there is bytes to them
_TYPES = {
    "mp4": "video/mp4", "m4v": "video/mp4", "mov": "video/mp4", "webm": "video/webm", "mkv": "video/x-matroska",
    "ogv": "video/ogg", "mpg": "video/mpeg", "mpeg": "video/mpeg", "avi": "video/x-msvideo", "ts": "video/mp2t",
    "jpg": "image/jpeg", "jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp", "gif": "image/gif",
}  # fmt: skip


class ClipFile(Response):
    """Answers with a stretch of a file, or a range of that, and closes its descriptor."""

    def __init__(self, clip: FileSpan, name: str, request: Request) -> None:
        self._clip, self._is_head = clip, request.method == "HEAD"
        size = clip.size_bytes
        ending = name.rpartition(".")[2].lower()
        headers = {"Accept-Ranges": "bytes", "Content-Type": _TYPES.get(ending, "application/octet-stream")}
        span = byte_range(request.headers.get("range"), size)
        if span is None:
            status, span = 200, (0, size)
        elif span[0] >= span[1]:
            status, span = 416, (0, 0)
            headers["Content-Range"] = f"bytes */{size}"
        else:
            status, headers["Content-Range"] = 206, f"bytes {span[0]}-{span[1] - 1}/{size}"
        self._span = span
        headers["Content-Length"] = str(span[1] - span[0])
        super().__init__(None, status, headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; a peer that goes away in between ends it."""
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            gone = asyncio.create_task(_gone(receive))
            try:
                at, end = self._span
                while at < end and not self._is_head and not gone.done():
                    data = await asyncio.to_thread(self._clip.read, at, min(_CHUNK_BYTES, end - at))
                    if not data:
                        break  # it got shorter
                    at += len(data)
                    await send({"type": "http.response.body", "body": data, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
            finally:
                gone.cancel()
        finally:
            self._clip.close()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return the span of bytes that is answered, half-open and empty where there is none; None without a range.

    A range may be answered with less than it asks for. Several ranges at once are answered with the whole.
    """
    match = _RANGE.fullmatch(header.strip()) if header else None
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":
        begin, end = max(0, size - int(match[2])), size
    else:
        begin, end = int(match[1]), min(size, int(match[2]) + 1) if match[2] else size
    return (begin, min(end, begin + _MOST_BYTES)) if begin < end else (size, size)
