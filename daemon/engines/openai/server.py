"""One OpenAI-compatible server: its connection, how busy it is, what it knows, and whose fault its refusals are."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from connectors.errors import ConfigurationError, Poison, Reason, Transient
from daemon.config.engine_settings import OpenAISettings
from daemon.engines.library_errors import sentence
from daemon.engines.model.media_form import MediaForm

CONNECT_S = 5.0  # a server that takes no connection within this is away
AWAY = frozenset({401, 403, 404, 408, 425, 429, 502, 503, 504})  # says the server about itself, not about the request


_BUSY = frozenset({408, 425, 429})  # says so of this moment: no other server came in its place


class Away(Exception):
    """This server can't take the request; another may, or the same one later."""


class Busy(Away):
    """This server takes no more requests at the moment; it is the same as before."""


@dataclass
class Server:
    """One server: how busy it is, from when on it is asked again after it was away, and how windows go to it.

    ``form`` is None until it is found out, and again once the server was away: another may have come in its place.
    """

    url: str
    client: httpx.AsyncClient
    in_flight: int = 0
    asked: int = 0
    answered: int = 0
    failures: int = 0
    back_at_s: float = 0.0
    form: MediaForm | None = None
    said: str = ""  # about the form, in the log and to people
    why_away: str = ""
    finding: asyncio.Lock = field(default_factory=asyncio.Lock)

    def was_away(self, why: Away, back_off_s: Sequence[float]) -> None:
        """Note that it took no request; it is left alone for longer each time."""
        self.failures += 1
        self.back_at_s = time.monotonic() + back_off_s[min(self.failures, len(back_off_s)) - 1]
        self.why_away = str(why)
        if not isinstance(why, Busy):
            self.form = None


def connect(
    settings: OpenAISettings, url: str, deadline_s: float, transport: httpx.AsyncBaseTransport | None
) -> Server:
    """Return a server that nothing was asked yet; :class:`ConfigurationError` where the key can't be read."""
    headers = {"Content-Type": "application/json"}
    if settings.api_key_file is not None:
        try:
            headers["Authorization"] = f"Bearer {settings.api_key_file.read_text().strip()}"
        except OSError as error:
            raise ConfigurationError("the file can't be read", path="engine.api_key_file") from error
    client = httpx.AsyncClient(
        base_url=url.rstrip("/") + "/",
        headers=headers,
        timeout=httpx.Timeout(deadline_s, connect=CONNECT_S),
        limits=httpx.Limits(max_connections=settings.slots),
        transport=transport,
    )
    return Server(url, client)


async def models_of(server: Server) -> dict[str, Mapping[str, Any]]:
    """Return what a server says of the models that it knows; :class:`Away` where it says nothing of the kind."""
    try:
        answer = await server.client.get("models", timeout=CONNECT_S)
        answer.raise_for_status()
        return {str(model["id"]): {**model} for model in answer.json()["data"]}
    except httpx.ReadTimeout as error:
        raise Away(f"the server gave no answer within {CONNECT_S:g} s") from error
    except httpx.HTTPError as error:
        raise Away(sentence(error) or type(error).__name__) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Away("the server does not say which models it knows") from error


def raise_for(answer: httpx.Response) -> None:
    """Say whose fault an answer's status is: the server's, this moment's or the request's."""
    if answer.is_success:
        return
    detail = refusal(answer)
    if answer.status_code in AWAY:
        raise Busy(detail) if answer.status_code in _BUSY else Away(detail)
    if answer.status_code >= 500:
        raise Transient(detail, reason=Reason.ENGINE_REFUSED, origin="engine")
    raise Poison(Reason.OVER_CONTEXT if is_over_context(answer) else Reason.ENGINE_REFUSED, detail, origin="engine")


def is_over_context(answer: httpx.Response) -> bool:
    """Whether a server refuses a request because it is longer than the model's context."""
    return answer.is_client_error and ("context length" in answer.text or "max_model_len" in answer.text)


def refusal(answer: httpx.Response) -> str:
    """Return a sentence about an answer that is none."""
    return f"the server answers {answer.status_code}: {' '.join(answer.text[:300].split())}"
