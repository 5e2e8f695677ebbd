"""Rendering, and the form in which vLLM sends what is rendered to its engine."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import field, make_dataclass
from functools import cache
from typing import Any

from connectors.errors import Poison, Reason
from daemon.engines.library_errors import sentence


def renderer_of(packed: bytes) -> Any:
    """Return vLLM's own renderer for a packed ``VllmConfig``; no weights are loaded, and no device is touched."""
    import pickle

    from vllm.renderers import renderer_from_config

    return renderer_from_config(pickle.loads(packed))  # noqa: S301 - by ourselves, see packed_configuration


def render(renderer: Any, request: dict[str, Any]) -> Any:
    """Return the request as vLLM's processor makes it, in this thread; :class:`Poison` where it can't."""
    with _refusals():
        (rendered,) = renderer.render_cmpl([request])
        return rendered


async def render_in_its_thread(renderer: Any, request: dict[str, Any]) -> Any:
    """Return the request as vLLM's processor makes it, in the one thread that vLLM has for that; else as above."""
    with _refusals():
        (rendered,) = await renderer.render_cmpl_async([request])
        return rendered


@contextmanager
def _refusals() -> Iterator[None]:
    """Take whatever a processor raises for a refusal of the window, assertions too: no memory is another matter."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        raise Poison(Reason.ENGINE_REFUSED, sentence(error), origin="engine") from error


def encoded(rendered: Any) -> Sequence[Any]:
    """Return a rendered request as buffers, as vLLM sends it: what belongs together, then each large tensor's bytes."""
    from vllm.v1.serial_utils import MsgpackEncoder

    return MsgpackEncoder().encode(rendered)  # type: ignore[no-any-return]


def decoded(buffers: Sequence[Any]) -> dict[str, Any]:
    """Return the rendered request that :func:`encoded` made buffers of; its large tensors lie in the buffers."""
    from vllm.v1.serial_utils import MsgpackDecoder

    found = vars(MsgpackDecoder(_rendered_class()).decode(buffers))
    return {name: value for name, value in found.items() if value is not None}


@cache
def _rendered_class() -> type[Any]:
    from vllm.multimodal.inputs import MultiModalKwargsItems, PlaceholderRange

    text = field(default=None)
    return make_dataclass(
        "Rendered",
        [
            ("type", str),
            ("prompt_token_ids", list[int]),
            ("mm_kwargs", MultiModalKwargsItems),
            ("mm_hashes", dict[str, list[str]]),
            ("mm_placeholders", dict[str, list[PlaceholderRange]]),
            ("arrival_time", float),
            ("prompt", str | None, text),
        ],
    )
