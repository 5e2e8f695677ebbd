"""The pages of the status server: `/livez`, `/readyz`, `/metrics`, `/status.json` and one for people, all read-only."""

from collections.abc import Awaitable, Callable
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from daemon.service.health import Health
from daemon.service.watchdog import Watchdog

# the page is ours alone: no script, nothing from elsewhere, in no frame
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def build_app(health: Health, watchdog: Watchdog) -> Starlette:
    """Return the application over a running daemon."""

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

    async def page(_: Request) -> Response:
        """Return the status page; it loads itself again."""
        return HTMLResponse(render(health.snapshot()))

    pages: dict[str, Callable[[Request], Awaitable[Response]]] = {
        "/": page,
        "/livez": livez,
        "/readyz": readyz,
        "/metrics": metrics,
        "/status.json": status_json,
    }
    return Starlette(routes=[Route(path, _with_headers(answer), methods=["GET"]) for path, answer in pages.items()])


def _with_headers(answer: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    async def answered(request: Request) -> Response:
        response = await answer(request)
        response.headers.update(_HEADERS)
        return response

    return answered


def render(snapshot: dict[str, Any]) -> str:
    """Return the status page."""
    template = Template(files("daemon.web").joinpath("status.html").read_text(encoding="utf-8"))
    clips, windows, rates = snapshot["clips"], snapshot["windows"], snapshot["per_second"]
    held = snapshot["in_flight_bytes"]
    facts = {
        "clips in flight": clips["in_flight"],
        "clips waiting for a slot": clips["waiting"],
        "clips done": clips["done"],
        "clips rejected": clips["rejected"],
        "windows captioned": windows["captioned"],
        "windows in the engine": f"{windows['in_engine']} of {windows['engine_slots']}",
        "clips a second": f"{rates['clips']:.2f}",
        "windows a second": f"{rates['windows']:.1f}",
        "memory in flight": f"{held['held'] / 2**20:.0f} of {held['limit'] / 2**20:.0f} MiB",
        "up": f"{snapshot['up_s']:.0f} s",
    }
    sources = [
        (name, one["received"], one["in_flight"], one["done"], one["rejected"])
        for name, one in snapshot["sources"].items()
    ]
    return template.substitute(
        version=escape(snapshot["version"]),
        model=escape(snapshot["model"]),
        state="ready" if snapshot["ready"] else "waiting",
        headline=escape("Ready" if snapshot["ready"] else snapshot["why_not_ready"].capitalize()),
        reload=escape(snapshot["last_reload"]),
        facts="".join(
            f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in facts.items()
        ),
        sources="".join("<tr>" + "".join(f"<td>{escape(str(v))}</td>" for v in row) + "</tr>" for row in sources),
    )
