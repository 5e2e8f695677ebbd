"""The answers of the HTTP server: `/livez`, `/readyz`, `/metrics`, `/status.json`, and the page with what it asks for.

Only what is behind :class:`daemon.web.access.Access` shows media or changes anything.
"""

from collections.abc import Awaitable, Callable
from importlib.resources import files
from pathlib import PurePath

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from daemon.service.health import Health
from daemon.service.watchdog import Watchdog
from daemon.web.access import Access
from daemon.web.clips import ClipPages, Clips
from daemon.web.connections import EVENTS
from daemon.web.live import Live

# the page is ours alone: no script but its own, nothing from elsewhere, in no frame, and no text ever becomes markup
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_MEDIA_TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml"}
_PAGE = "page.html"

Answer = Callable[[Request], Awaitable[Response]]


def build_app(health: Health, watchdog: Watchdog, live: Live, access: Access, clips: Clips) -> Starlette:
    """Return the application over a running daemon."""
    about_clips = ClipPages(live.feed, access, clips)
    reads: dict[str, Answer] = {
        **_status_answers(health, watchdog),
        **_assets(),
        EVENTS: _events_answer(live, access, clips),
        "/strips/{number}": about_clips.strip,
        "/clips/{number}/video": about_clips.video,
        "/clips/{number}/captions.vtt": about_clips.captions,
    }
    changes: dict[str, Answer] = {"/session": access.begin_session, "/clips/{number}/replay": about_clips.replay}
    routes = [Route(path, _with_headers(answer), methods=["GET"]) for path, answer in reads.items()]
    routes += [Route(path, _with_headers(answer), methods=["POST"]) for path, answer in changes.items()]
    return Starlette(routes=routes)


def _status_answers(health: Health, watchdog: Watchdog) -> dict[str, Answer]:
    async def livez(_: Request) -> Response:
        """200 while the daemon gets on with its work: what a liveness probe restarts it for."""
        if watchdog.stalled:
            return PlainTextResponse(f"{watchdog.stalled} stands still\n", 503)
        return PlainTextResponse("alive\n")

    async def readyz(_: Request) -> Response:
        """200 while clips are captioned; 503 with the reason while it starts, stops or waits."""
        why_not = health.not_ready()
        return PlainTextResponse(f"{why_not}\n", 503) if why_not else PlainTextResponse("ready\n")

    async def metrics(_: Request) -> Response:
        """Return the metrics in Prometheus' text format."""
        return Response(generate_latest(health.metrics.registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    async def status_json(_: Request) -> Response:
        """Return what `captiond status` prints."""
        return JSONResponse(health.snapshot())

    return {"/livez": livez, "/readyz": readyz, "/metrics": metrics, "/status.json": status_json}


def _assets() -> dict[str, Answer]:
    """Return the page and the files that it loads, by their addresses."""
    found = {}
    for file in files("daemon.web").joinpath("page").iterdir():
        address = "/" if file.name == _PAGE else f"/{file.name}"
        found[address] = _asset(file.read_bytes(), _MEDIA_TYPES[PurePath(file.name).suffix])
    return found


def _asset(text: bytes, media_type: str) -> Answer:
    async def asset(_: Request) -> Response:
        """Return one of the page's own files."""
        return Response(text, media_type=f"{media_type}; charset=utf-8", headers={"Cache-Control": "no-cache"})

    return asset


def _events_answer(live: Live, access: Access, clips: Clips) -> Answer:
    async def events(request: Request) -> Response:
        """Follow what is published, from the entry behind the one that the reader had last."""
        epoch, _, number = request.headers.get("last-event-id", "").partition("-")
        is_known = epoch == live.feed.epoch and number.isascii() and number.isdigit() and len(number) <= 18
        may = access.is_open(request)
        reader = live.feed.follow(int(number) if is_known else 0, sees=may)
        if reader is None:
            return PlainTextResponse("Too many read already.\n", 503, {"Retry-After": "5"})
        hello = live.hello(may, clips.stay)
        return StreamingResponse(live.events(reader, hello), media_type="text/event-stream")

    return events


def _with_headers(answer: Answer) -> Answer:
    async def answered(request: Request) -> Response:
        response = await answer(request)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    return answered
