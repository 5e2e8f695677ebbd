"""A pipeline over one source in memory, with the real sampler and an engine of scripted faults."""

import contextlib
from collections.abc import AsyncIterator

from connectors.contract import Clip
from connectors.folder.route import FolderRoute
from connectors.memory import MemoryInbox, MemorySink, MemorySource, RecordingSink
from daemon.config.clip_settings import ClipSettings
from daemon.config.settings import LimitsSettings, TimeoutsSettings
from daemon.decoding.sampler import Sampler
from daemon.engines.fake import FakeEngine, FaultScript
from daemon.engines.guard import GuardedEngine
from daemon.pipeline import Pipeline
from daemon.prompts.prompt import Prompt
from daemon.telemetry.metrics import Metrics
from daemon.windows import NS_PER_S, FramePolicy, WindowPolicy

SECONDS = ClipSettings(WindowPolicy(NS_PER_S, NS_PER_S, NS_PER_S // 2), FramePolicy(num_frames=2), Prompt("Describe."))


@contextlib.asynccontextmanager
async def house(
    inbox: MemoryInbox,
    sink: RecordingSink,
    script: FaultScript | None = None,
    *,
    once: bool = True,
    delay_ms: float = 0.0,
    deadline_s: float = 20.0,
    settings: ClipSettings = SECONDS,
    clips: int = 8,
    engine_class: type[FakeEngine] = FakeEngine,
    rendered_bytes: int | None = None,
) -> AsyncIterator[tuple[Pipeline, FakeEngine]]:
    """Build a pipeline over one source."""
    fake = engine_class(delay_ms=delay_ms, slots=16, script=script)
    engine = GuardedEngine(fake, deadline_s, 60.0)
    sampler = Sampler(LimitsSettings(decoders=1, rendered_bytes=rendered_bytes), TimeoutsSettings())
    route = FolderRoute(MemorySource("memory", inbox, once=once), sink)
    await sampler.start()
    await engine.start()

    def choose(clip: Clip) -> ClipSettings:
        text = clip.attributes.get("prompt")
        return settings.asked(text) if text else settings

    try:
        yield (
            Pipeline([route], sampler, engine, choose, max_clips_in_flight=clips, max_attempts=2, metrics=Metrics()),
            fake,
        )
        assert sampler.budget.held_bytes == 0
    finally:
        await route.close()
        await engine.close()
        await sampler.close()


def windows(sink: MemorySink) -> dict[str, list[int]]:
    return {clip_id: [one.window.index for one in captions] for clip_id, captions in sink.captions.items()}
