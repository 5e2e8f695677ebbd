"""The page's server, put together from the settings."""

import logging
from functools import partial

from connectors.messages.safe_text import escaped
from connectors.routes import open_clip, redo_clip, sources_that_stay
from daemon.config.settings import Settings
from daemon.feed.recent import Feed
from daemon.feed.shelf import Shelf
from daemon.service.health import Health
from daemon.service.watchdog import Watchdog
from daemon.web.access import ADDRESS, Access, read_token, write_private
from daemon.web.clips import Clips
from daemon.web.live import Live
from daemon.web.pages import build_app
from daemon.web.server import StatusServer

log = logging.getLogger(__name__)

_SHELF = "page"  # in state_dir: what the page shows


def page_server(
    settings: Settings, listen: str, hosts: tuple[str, ...], health: Health, watchdog: Watchdog, feed: Feed
) -> StatusServer:
    """Return the server of the page and the status; it is not started."""
    token = read_token(settings.web.token_file, settings.state_dir)
    live = Live(health, feed, Shelf(settings.state_dir / _SHELF, feed.keep) if feed.keep else None)
    clips = Clips(partial(open_clip, settings), partial(redo_clip, settings), sources_that_stay(settings))
    app = build_app(health, watchdog, live, Access(token), clips)
    return StatusServer(app, listen, hosts, beside=live, serves=partial(_keep_address, settings, token))


def _keep_address(settings: Settings, token: str, address: str) -> None:
    """Write the address that opens the page with all rights where only the daemon's own user reads it."""
    path = settings.state_dir / ADDRESS
    try:
        write_private(path, f"{address}/#token={token}")
    except OSError as error:
        log.warning("The page's address with its token can't be kept in %s: %s.", path, error.strerror)
        return
    log.info("The page with media and replays: its address is in %s.", escaped(str(path)))
