"""The rendering that the requests about one window share, however many questions are asked about it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(eq=False)
class SharedRendering:
    """A window as it was rendered: by the first request, one request at a time.

    ``rendered`` are the prompts that were rendered, as token ids, each with what came of it.
    """

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    rendered: list[tuple[list[int], Any]] = field(default_factory=list)
    made: Any = None

    async def once(self, make: Callable[[], Awaitable[T]]) -> T:
        """Return what the first call made."""
        async with self.turn:
            if self.made is None:
                self.made = await make()
        made: T = self.made
        return made

    def for_prompt(self, ids: list[int]) -> dict[str, Any] | None:
        """Return the window rendered for another prompt; None where none that was rendered begins as that one does."""
        for known, rendered in self.rendered:
            if (found := rendered_for(rendered, known, ids)) is not None:
                return found
        return None


def rendered_for(rendered: Any, known: Sequence[int], ids: Sequence[int]) -> dict[str, Any] | None:
    """Return a rendered prompt with another end, its media as they are: prompts differ behind the media alone.

    vLLM widens each placeholder among a prompt's tokens, and leaves what stands behind the last one as it was.
    """
    if known == ids:
        return dict(rendered)
    alike = next((at for at, (one, other) in enumerate(zip(known, ids, strict=False)) if one != other), None)
    alike = min(len(known), len(ids)) if alike is None else alike
    widened, end = list(rendered["prompt_token_ids"]), list(known[alike:])
    kept = len(widened) - len(end)
    ranges = [one for many in rendered.get("mm_placeholders", {}).values() for one in many]
    if not ranges or widened[kept:] != end or any(one.offset + one.length > kept for one in ranges):
        return None
    found = {**rendered, "prompt_token_ids": [*widened[:kept], *ids[alike:]]}
    found.pop("prompt", None)
    return found
