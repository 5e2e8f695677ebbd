"""What measurements of delivery put in the sampler's place: the main loop gets every window of every clip from it."""

from bench.harness.unsampled import WINDOWS, NoSampler
from connectors.folder.route import FolderRoute
from connectors.memory import MemoryInbox, MemorySink, MemorySource
from daemon.config.clip_settings import ClipSettings
from daemon.config.settings import LimitsSettings, TimeoutsSettings
from daemon.engines.fake import FakeEngine
from daemon.engines.guard import GuardedEngine
from daemon.pipeline import Pipeline
from daemon.prompts.prompt import Prompt
from daemon.telemetry.metrics import Metrics
from daemon.windows import FramePolicy, WindowPolicy


async def test_each_window_of_each_clip_is_published() -> None:
    inbox, sink = MemoryInbox(), MemorySink()
    for number in range(3):
        inbox.put(f"{number}.mp4", b"nothing that a decoder looks at")
    settings = ClipSettings(WindowPolicy(), FramePolicy(), Prompt("Describe."))
    sampler = NoSampler(LimitsSettings(decoders=1), TimeoutsSettings())
    engine = GuardedEngine(FakeEngine(), 20.0, 60.0)
    await sampler.start()
    await engine.start()
    route = FolderRoute(MemorySource("memory", inbox, once=True), sink)
    pipeline = Pipeline(
        [route], sampler, engine, lambda _: settings, max_clips_in_flight=2, max_attempts=2, metrics=Metrics()
    )

    await pipeline.run()

    assert [[one.window.index for one in captions] for captions in sink.captions.values()] == [[*range(WINDOWS)]] * 3
    await route.close()
    await engine.close()
