"""Settings of the daemon itself that work and protect less than they could, each as a sentence for the operator."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from connectors.weak_settings import is_loopback, open_secret, weak_connectors
from daemon.config.engine_settings import OpenAISettings
from daemon.config.settings import Settings


def weak_settings(settings: Settings) -> list[str]:
    """Return a sentence for each weak setting of the configuration; `check` and the start of the daemon print them."""
    secret = open_secret(settings.web.token_file, "web.token_file")
    return [*_weak_port(settings), *secret, *_weak_engine(settings), *weak_connectors(settings)]


def _weak_port(settings: Settings) -> Iterator[str]:
    listen = settings.http.listen if settings.http is not None else None
    if listen is not None and not is_loopback(listen.rpartition(":")[0].strip("[]")):
        yield (
            f"http.listen: {listen} is open to other machines, unencrypted and without a password: a reverse proxy in "
            "front of 127.0.0.1 is the place for both."
        )


def _weak_engine(settings: Settings) -> Iterator[str]:
    engine = settings.engine
    if not isinstance(engine, OpenAISettings):
        return
    yield from open_secret(engine.api_key_file, "engine.api_key_file")
    for url in engine.base_urls:
        parts = urlsplit(url)
        if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            what = "the key and every frame" if engine.api_key_file is not None or parts.password else "every frame"
            yield f"engine.base_urls: {what} go to {parts.hostname} unencrypted: https encrypts."
