"""The form in which a server takes windows, found out by asking it about black frames: as videos with times, or images.

No version is looked up, for what counts is what the server does: vLLM reads the times of a request only where it was
started with ``--trust-request-mm-kwargs``, older ones pass over them without a word, and a model may take no video.
"""

import logging
from dataclasses import dataclass
from typing import Any

import httpx

from daemon.config.engine_settings import OpenAISettings
from daemon.engines.library_errors import sentence
from daemon.engines.model.media_form import MediaForm, black_frames
from daemon.engines.openai.request import EncodedWindow, request_body
from daemon.engines.openai.server import AWAY, Away, Server, models_of, raise_for, refusal
from daemon.prompts.prompt import Prompt

log = logging.getLogger(__name__)

IMAGES = MediaForm("image")
_ASK = Prompt("Describe.", max_tokens=1)
_PAIR = 2  # frames that go into one by models that merge them; captiond knows of none that merges more


class VideoRefused(Away):
    """The configuration asks for videos, and this server takes none; another may, or one that comes in its place."""


@dataclass(frozen=True, slots=True)
class Found:
    """A server's form, and a sentence about it, which is a warning where the form is not the one that was hoped for."""

    form: MediaForm
    said: str
    is_warning: bool = False


async def learn_form(server: Server, settings: OpenAISettings, doubted: MediaForm | None = None) -> MediaForm:
    """Return the form in which a server takes windows: what is known, or what it does when asked.

    What is found is logged, once while it stays the same. One window at a time asks. Others wait for the answer where
    nothing is known; a form that one window has ``doubted``, since it was refused, goes on until another is found.

    Raises:
        VideoRefused: the server takes no video, and ``engine.media`` is ``video``.
        Away: the server does not answer now.
    """
    if server.form is not None and server.form is not doubted:
        return server.form
    failures = server.failures
    async with server.finding:
        if server.failures > failures:  # who asked before found it away
            raise Away(server.why_away)
        if server.form is None or server.form is doubted:
            found = await _find(server, settings)
            if found.said != server.said:
                log.log(logging.WARNING if found.is_warning else logging.INFO, "%s", found.said)
            server.form, server.said = found.form, found.said
        return server.form


async def _find(server: Server, settings: OpenAISettings) -> Found:
    if settings.media == "images":
        return Found(IMAGES, f"Windows go to {server.url} as images, as engine.media says.")
    if settings.media == "auto" and (await models_of(server)).get(settings.model, {}).get("owned_by") != "vllm":
        return _as_images(server, "it does not say that it is vLLM")
    two = await _answer(server, settings.model, 2)
    if not two.is_success:
        return _refused(server, settings, refusal(two), is_broken=two.status_code >= 500)
    if (await _answer(server, settings.model, 2, is_short_of_times=True)).is_success:
        return _refused(server, settings, "it passes over the times of a video's frames")
    one = await _answer(server, settings.model, 1)
    merges_pairs = not one.is_success or _prompt_tokens(one) == _prompt_tokens(two)
    form = MediaForm("video", _PAIR if merges_pairs else 1)
    return Found(form, f"Windows go to {server.url} as videos with the times of their frames.")


def _refused(server: Server, settings: OpenAISettings, why: str, *, is_broken: bool = False) -> Found:
    if settings.media == "auto":
        return _as_images(server, why)
    if is_broken:
        raise Away(why)
    raise VideoRefused(why)


def _as_images(server: Server, why: str) -> Found:
    said = (
        f"Windows go to {server.url} as images and not as videos: {why.rstrip('.')}. So a model that takes videos is "
        "told no times, and may spend twice the tokens on frames; one that takes videos alone refuses them."
    )
    return Found(IMAGES, said, is_warning=True)


async def _answer(server: Server, model: str, num_frames: int, *, is_short_of_times: bool = False) -> httpx.Response:
    """Return what a server answers to one token's worth of a tiny video; :class:`Away` where it is no answer."""
    body = request_body(model, EncodedWindow.of(black_frames(num_frames)), _ASK, MediaForm("video"))
    if is_short_of_times:  # who reads them refuses a video with more frames than times
        times: dict[str, Any] = body["media_io_kwargs"]["video"]
        times["frames_indices"] = times["frames_indices"][:-1]
    try:
        answer = await server.client.post("chat/completions", json=body)
    except httpx.ReadTimeout as error:
        raise Away("the server gave no answer to a tiny video") from error
    except httpx.HTTPError as error:
        raise Away(sentence(error) or type(error).__name__) from error
    if answer.status_code in AWAY:
        raise_for(answer)
    return answer


def _prompt_tokens(answer: httpx.Response) -> object:
    """Return how many tokens a server counted; something that is equal to nothing else where it does not say."""
    try:
        return int(answer.json()["usage"]["prompt_tokens"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return object()
