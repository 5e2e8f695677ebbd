"""Clips that fail alike, for a reason that may be the configuration's: their source pauses instead of emptying itself.

A clip that the engine refuses may be at fault itself, or the model, the prompt, the server may be. Other clips tell the
two apart, so its rejection is held back: it is published once another clip of the source gets a caption, or where none
comes that could. Where :attr:`AlikeFailures.number` clips fail in a row for one reason, and none succeeds, none of them
is rejected. The source gives them back, as it does at a stop, and waits until it is told to try again.
"""

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from connectors.contract import PROMPT_FROM, SENDER, Clip, Route
from connectors.errors import ConfigurationError, Poison, Reason
from connectors.media.protocols import DistantMedia
from daemon.slots import FairSlots

log = logging.getLogger(__name__)

COMPANY_S = 10.0  # for so long a clip waits for another one to come; a backlog has one at once

# reasons that may be the configuration's -> the key to look at, and what to do
_ADVICE = {
    Reason.ENGINE_REFUSED: ("engine", "look at the engine: its model, its settings, and what its server says"),
    Reason.PROMPT: ("prompt", "make prompt.text, prompt.system and prompt.template fit the model"),
    Reason.OVER_CONTEXT: (
        "generation.max_tokens",
        "lower generation.max_tokens or frames.num_frames, or raise engine.max_model_len",
    ),
}
_OF_A_SENDER = frozenset({Reason.PROMPT, Reason.OVER_CONTEXT})  # where the clip came with a question of its own


@dataclass
class _Source:
    """A source's clips, and what they showed so far. ``unfinished`` counts those taken, the held ones included."""

    unfinished: int = 0
    held: list["asyncio.Future[bool]"] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)  # in a row, by reason
    detail: str = ""  # of the last failure
    has_ended: bool = False  # it hands out no further clip
    paused: str = ""  # the reason
    is_wanted: bool = False  # somebody asked for it to be read again
    timer: asyncio.TimerHandle | None = None
    may_take: asyncio.Event = field(default_factory=asyncio.Event)
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class AlikeFailures:
    """Decides of each failure whether it is the clip's own. With ``number`` 0 it always is.

    ``reopen`` makes a source that has let go ready to be read again; without it, as in a run that ends by itself, a
    source that pauses has ended.
    """

    def __init__(self, number: int = 0, reopen: Mapping[str, Callable[[], None]] | None = None) -> None:
        self.number, self._reopen = number, reopen or {}
        self._sources: defaultdict[str, _Source] = defaultdict(_Source)
        self._draining = False

    @property
    def paused(self) -> dict[str, str]:
        """The sources that are paused, with the reason."""
        return {name: source.paused for name, source in self._sources.items() if source.paused}

    @property
    def why_paused(self) -> dict[str, str]:
        """A sentence for each of them, for people."""
        return {
            name: f"{source.failures[source.paused]} clips in a row failed as {source.paused}: {source.detail}"
            for name, source in self._sources.items()
            if source.paused
        }

    def raise_if_paused(self) -> None:
        """Raise :class:`ConfigurationError` where a source has given its clips back in a run that ends by itself."""
        for name, reason in self.paused.items() if not (self._reopen or self._draining) else ():
            key, _ = _ADVICE[Reason(reason)]
            raise ConfigurationError(f"source {name} gave its clips back: all of them failed as {reason}", path=key)

    async def admit(self, route: Route) -> bool:
        """Count a clip that is taken; False where its source pauses. Waits while the failures so far are undecided."""
        source = self._sources[route.name]
        while self._is_enough(source) and not source.paused and not self._draining:
            source.may_take.clear()
            await source.may_take.wait()
        if source.paused:
            return False
        source.unfinished += 1
        self._decide(route.name)
        return True

    def ended(self, name: str) -> None:
        """Note that a clip has ended, or was given back."""
        self._sources[name].unfinished -= 1
        self._decide(name)

    def captioned(self, name: str) -> None:
        """Note that the engine described a window: what failed before failed for reasons of its own."""
        source = self._sources[name]
        if not source.paused:
            source.failures.clear()
            self._release(source, are_own=True)

    async def is_clips_own(self, clip: Clip, fault: Poison, route: Route, slots: FairSlots) -> bool:
        """Return whether a clip that failed is to be rejected; else it is given back.

        A clip that waits for this gives its slot to another, and what lies in the spool.
        """
        if not self._counts(clip, fault):
            return True
        source = self._sources[route.name]
        if self._draining or source.paused:
            return False
        source.failures[fault.reason] += 1
        source.detail = fault.detail
        verdict = asyncio.get_running_loop().create_future()
        source.held.append(verdict)
        message = "Failed as %s: %s. Other clips of %s show whether it is the clip's own fault."
        log.warning(message, fault.reason, fault.detail, route.name, extra={"clip_id": clip.clip_id})
        if isinstance(clip.media, DistantMedia):
            clip.media.close()
        with slots.lent(route.name):
            self._decide(route.name)
            is_own: bool = await verdict
        if not is_own:
            await route.drain()
        return is_own

    def _counts(self, clip: Clip, fault: Poison) -> bool:
        by_sender = clip.attributes.get(PROMPT_FROM) == SENDER
        return self.number > 0 and fault.reason in _ADVICE and not (by_sender and fault.reason in _OF_A_SENDER)

    async def begins_again(self, route: Route) -> bool:
        """Note that a source hands out no more. Where it paused, let go of it, and say when it is to be read again."""
        source = self._sources[route.name]
        source.has_ended = True
        self._decide(route.name)
        if not source.paused or self._draining:
            return False
        while source.unfinished:
            source.changed.clear()
            await source.changed.wait()
        await route.close()
        if route.name not in self._reopen:
            return False
        while not source.is_wanted:
            if self._is_draining():
                return False
            source.changed.clear()
            await source.changed.wait()
        source.paused, source.has_ended, source.is_wanted = "", False, False
        source.failures.clear()
        self._reopen[route.name]()
        log.info("Source %s is read again.", route.name)
        return True

    def try_again(self) -> list[str]:
        """Let the sources that are paused be read again, and return their names."""
        names = [name for name in self.paused if name in self._reopen]
        for name in names:
            self._sources[name].is_wanted = True
            self._sources[name].changed.set()
        return names

    def drain(self) -> None:
        """Give back what is held: the program stops, and the next one tries it again."""
        self._draining = True
        for source in self._sources.values():
            self._release(source, are_own=False)

    def _is_draining(self) -> bool:
        return self._draining  # it may have changed during a wait

    def _is_enough(self, source: _Source) -> bool:
        return 0 < self.number <= max(source.failures.values(), default=0)

    def _decide(self, name: str) -> None:
        """Decide about the clips that are held, once no clip of the source is left that could still succeed."""
        source = self._sources[name]
        source.changed.set()
        if source.timer is not None:
            source.timer.cancel()
            source.timer = None
        if not source.held or source.unfinished > len(source.held) or self._draining:
            return
        if self._is_enough(source):
            self._pause(name, source)
        elif source.has_ended:
            self._release(source, are_own=True)
        else:
            loop = asyncio.get_running_loop()
            source.timer = loop.call_later(COMPANY_S, lambda: self._release(source, are_own=True))

    def _pause(self, name: str, source: _Source) -> None:
        source.paused = max(source.failures, key=lambda reason: source.failures[reason])
        _, advice = _ADVICE[Reason(source.paused)]
        log.error(
            "Source %s is paused: %s. None got a caption, so the clips are given back instead of being rejected. "
            "What to do: %s; then reload (SIGHUP) or start again.",
            name,
            self.why_paused[name],
            advice,
        )
        self._release(source, are_own=False)

    def _release(self, source: _Source, *, are_own: bool) -> None:
        held, source.held = source.held, []
        for verdict in held:
            if not verdict.done():
                verdict.set_result(are_own)
        source.may_take.set()
        source.changed.set()
