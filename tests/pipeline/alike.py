"""A pipeline whose engine refuses clips by name, for clips that fail alike."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from connectors.contract import Clip
from connectors.folder.route import FolderRoute
from connectors.memory import MemoryInbox, MemorySink, MemorySource
from connectors.reopened_route import ReopenedRoute
from daemon.alike_failures import AlikeFailures
from daemon.config.clip_settings import ClipSettings
from daemon.config.settings import LimitsSettings, TimeoutsSettings
from daemon.decoding.sampler import Sampler
from daemon.engines.contract import Completion, Rendered, unheeded
from daemon.engines.fake import FakeEngine, FaultScript
from daemon.pipeline import Pipeline
from daemon.prompts.prompt import Prompt
from daemon.telemetry.metrics import Metrics
from daemon.windows import NS_PER_S, FramePolicy, FrameSet, WindowPolicy

WHOLE = ClipSettings(WindowPolicy(NS_PER_S, NS_PER_S, 0, whole=True), FramePolicy(num_frames=2), Prompt("Describe."))
ALL = FaultScript(refuses=("/",))
ENDLESS_S = 600.0


class GatedEngine(FakeEngine):
    """A fake engine that lets one clip wait."""

    slow, goes_on = "none", asyncio.Event()

    async def describe(
        self, frames: FrameSet, prompt: Prompt, request_id: str, rendered: Rendered = unheeded
    ) -> Completion:
        if self.slow in request_id:
            await self.goes_on.wait()
        return await super().describe(frames, prompt, request_id, rendered)


class House:
    """A pipeline over one source in memory."""

    def __init__(self, inbox: MemoryInbox, *, once: bool, clips: int, number: int) -> None:
        self.inbox, self.sink = inbox, MemorySink()
        self.fake = GatedEngine(slots=16)
        self.route = ReopenedRoute(lambda: FolderRoute(MemorySource("memory", inbox, once=once), self.sink))
        self.alike = AlikeFailures(number, {} if once else {"memory": self.route.reopen})
        self.sampler = Sampler(LimitsSettings(decoders=1), TimeoutsSettings())
        self.pipeline = Pipeline(
            [self.route],
            self.sampler,
            self.fake,
            lambda clip: self.choose(clip),
            max_clips_in_flight=clips,
            max_attempts=1,
            metrics=Metrics(),
            alike=self.alike,
        )

    def choose(self, clip: Clip) -> ClipSettings:
        """Let a clip ask its own question, and one named long ask for more tokens than any model has."""
        text = clip.attributes.get("prompt")
        settings = WHOLE if text is None else WHOLE.asked(text)
        many = Prompt("Describe.", max_tokens=10**6)
        return settings if "long" not in clip.media.name else ClipSettings(settings.windows, settings.frames, many)

    def refuse(self, *names: str) -> None:
        """Let the engine refuse clips by name."""
        deliveries = [held for held in self.inbox.unfinished if held in names]
        ids = {name: clip_id for name, clip_id in zip(deliveries, map(self.clip_id, deliveries), strict=True)}
        self.fake.script = FaultScript(refuses=tuple(ids.values()))

    @staticmethod
    def clip_id(name: str) -> str:
        from connectors.contract import clip_id_of

        return clip_id_of("memory", name)

    def reasons(self) -> dict[str, str]:
        """Return why clips were rejected, by name."""
        ended = self.inbox.ended
        return {name: str(one.rejection.reason) for name, one in ended.items() if one.rejection is not None}


@contextlib.asynccontextmanager
async def house(inbox: MemoryInbox, *, once: bool = True, clips: int = 8, number: int = 3) -> AsyncIterator[House]:
    built = House(inbox, once=once, clips=clips, number=number)
    await built.sampler.start()
    try:
        yield built
    finally:
        await built.route.close()
        await built.sampler.close()


def filled(video: bytes, *names: str, **attributes: str) -> MemoryInbox:
    inbox = MemoryInbox()
    for name in names:
        inbox.put(name, video, **attributes)
    return inbox


async def until(condition: object) -> None:
    assert callable(condition)
    while not condition():
        await asyncio.sleep(0.01)
