"""`captiond status`: a running daemon in a terminal. It asks the daemon's own status page."""

import json
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from daemon.commands.terminal import cell, complain, say, say_json, show_table

_ANSWER_S = 5.0  # a daemon that turns its loop answers in milliseconds


class NoAnswer(Exception):
    """No daemon answers there."""


def fetch(listen: str, transport: httpx.BaseTransport | None = None) -> dict[str, Any]:
    """Return what the daemon at ``host:port`` says about itself."""
    url = f"http://{listen}/status.json"
    try:
        with httpx.Client(timeout=_ANSWER_S, transport=transport, trust_env=False) as client:
            answer = client.get(url)
            answer.raise_for_status()
            found: dict[str, Any] = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise NoAnswer(f"no daemon answers at {listen}: {error}") from error
    return found


def show(listen: str, *, as_json: bool = False) -> int:
    """Print how the daemon at ``listen`` is; 0 when it is ready, 1 when it is not or does not answer."""
    try:
        found = fetch(listen)
    except NoAnswer as error:
        complain(f"captiond: {error}")
        return 1
    if as_json:
        say_json(json.dumps(found, indent=2))
    else:
        print_status(found, Console())
    return 0 if found["ready"] else 1


def print_status(found: dict[str, Any], console: Console) -> None:
    """Print a snapshot for a person."""
    state = "ready" if found["ready"] else found["why_not_ready"]
    say(f"captiond {found['version']}, model {found['model']}, up {found['up_s']:.0f} s: {state}", to=console)
    clips, windows, rates = found["clips"], found["windows"], found["per_second"]
    held = found["in_flight_bytes"]
    say(
        f"{rates['clips']:.2f} clips/s, {rates['windows']:.1f} windows/s; {windows['in_engine']} of "
        f"{windows['engine_slots']} windows in the engine, {windows['waiting']} waiting for it, "
        f"{clips['waiting']} clips waiting; {held['held'] / 2**20:.0f} of {held['limit'] / 2**20:.0f} MiB in flight",
        to=console,
    )
    table = Table("source", "received", "in flight", "done", "rejected")
    for name, one in found["sources"].items():
        table.add_row(*map(cell, (name, *(one[key] for key in ("received", "in_flight", "done", "rejected")))))
    show_table(table, to=console)
    if streams := found.get("streams"):
        show_table(_streams(streams), to=console)
    if found["restarts"]:
        ended = ", ".join(f"{times} after {how}" for how, times in found["restarts"].items())
        say(f"Restarts: {ended}.", to=console)
    if found["last_reload"]:
        say(found["last_reload"], to=console)


def _streams(streams: dict[str, dict[str, Any]]) -> Table:
    table = Table("stream", "state", "since", "windows behind", "seconds behind", "gaps", "skipped")
    for name, one in streams.items():
        state = "connected" if one["connected"] else f"away: {one['why']}"
        figures = (one[key] for key in ("since", "lag_windows", "lag_s", "gaps", "skipped"))
        table.add_row(*map(cell, (name, state, *figures)))
    return table
