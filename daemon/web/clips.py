"""The clips of the page, shown and done again: pictures, videos with their captions, and the replay button.

A clip is named by the number of something that was published of it, never by a path: what is opened is looked up among
what is kept, and by whoever knows where clips lie.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from connectors.contract import Caption
from connectors.errors import ConfigurationError
from connectors.media.protocols import FileSpan
from connectors.messages.codec import message_from_json
from connectors.messages.webvtt import PLAIN, document
from daemon.feed.recent import Entry, Feed
from daemon.web.access import Access
from daemon.web.clip_file import ClipFile

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Clips:
    """Where clips lie and how one is done again. Both calls block.

    ``open`` takes a source, a name and a clip's id and returns where its bytes lie in a newly opened file, or None.
    ``redo`` takes a source and a clip's id and returns why it is not done again, or nothing. ``stay`` are the sources
    whose clips stay where they are.
    """

    open: Callable[[str, str, str], FileSpan | None]
    redo: Callable[[str, str], str]
    stay: list[str]


class ClipPages:
    """The answers about clips. ``{number}`` in a path is that of an entry of the feed, behind the feed's epoch."""

    def __init__(self, feed: Feed, access: Access, clips: Clips) -> None:
        self._feed, self._access, self._clips = feed, access, clips
        self._replaying = asyncio.Lock()

    async def strip(self, request: Request) -> Response:
        """Return the small pictures of one window."""
        if (refusal := self._access.refuse_look(request)) is not None:
            return refusal
        entry = self._entry(request)
        if entry is None or entry.strip is None:
            return _nothing()
        return Response(entry.strip.jpeg, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})

    async def video(self, request: Request) -> Response:
        """Return a clip of a watched folder or an archive, or the range of it that is asked for."""
        if (refusal := self._access.refuse_look(request)) is not None:
            return refusal
        entry = self._entry(request)
        if entry is None or entry.source not in self._clips.stay:
            return _nothing()
        span = await asyncio.to_thread(self._clips.open, entry.source, entry.name, entry.clip_id)
        return _nothing() if span is None else ClipFile(span, entry.name, request)

    async def captions(self, request: Request) -> Response:
        """Return what is kept of a clip's captions as WebVTT."""
        if (refusal := self._access.refuse_look(request)) is not None:
            return refusal
        if (entry := self._entry(request)) is None:
            return _nothing()
        track = document(PLAIN.of(_captions(self._feed.of_clip(entry.clip_id))))
        return Response(track, media_type="text/vtt")

    async def replay(self, request: Request) -> Response:
        """Send a clip through again."""
        if (refusal := self._access.refuse_change(request)) is not None:
            return refusal
        if (entry := self._entry(request)) is None:
            return _nothing()
        if self._replaying.locked():
            return JSONResponse({"error": "another clip is being sent through again"}, 409)
        async with self._replaying:
            try:
                why_not = await asyncio.to_thread(self._clips.redo, entry.source, entry.clip_id)
            except (ConfigurationError, OSError) as error:
                why_not = str(error)
        fields = {"clip_id": entry.clip_id, "source": entry.source}
        if why_not:
            log.warning("Not sent through again, as the page asked: %s.", why_not, extra=fields)
            return JSONResponse({"error": why_not}, 409)
        log.info("Sent through again, as the page asked.", extra=fields)
        return JSONResponse({"done": "it goes through again"})

    def _entry(self, request: Request) -> Entry | None:
        epoch, _, number = request.path_params["number"].partition("-")
        if epoch != self._feed.epoch or not (number.isascii() and number.isdigit() and len(number) <= 18):
            return None
        return self._feed.entry(int(number))


def _captions(entries: Iterable[Entry]) -> list[Caption]:
    """Return a clip's captions in the order of its windows; of a window that was done again the newest."""
    found: dict[tuple[int, str], Caption] = {}
    for entry in entries:
        with suppress(ValueError):  # kept by another version
            caption = message_from_json(entry.message)
            if isinstance(caption, Caption):
                found[caption.window.index, caption.prompt or ""] = caption
    return [found[key] for key in sorted(found)]


def _nothing() -> Response:
    return PlainTextResponse("There is nothing here any more.\n", 404)
