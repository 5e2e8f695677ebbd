"""The table of engines: from settings to an engine, its token planner, and the checks that need no model."""

from connectors.errors import ConfigurationError
from daemon.config.engine_settings import EngineSettings, FakeSettings, OpenAISettings, VllmSettings
from daemon.config.settings import Settings
from daemon.engines.contract import Engine
from daemon.engines.fake import FakeEngine, FakeTokenPlanner, FaultScript
from daemon.engines.guard import GuardedEngine
from daemon.engines.model.checks import check_structure
from daemon.engines.model.token_planner import Check, RemoteTokenPlanner, TokenPlanner
from daemon.engines.vllm.args import checked_args
from daemon.windows import FramePolicy


def build_engine(settings: Settings, check: Check = lambda _: None) -> Engine:
    """Return the engine that the configuration means, behind its guard; nothing is started.

    ``check`` is called as it starts, before weights are loaded, and may raise :class:`ConfigurationError`.
    Remote servers have no guard: one that is away is waited for, and its deadline counts from when it takes a request.
    """
    engine, timeouts = settings.engine, settings.timeouts
    if isinstance(engine, OpenAISettings):
        from daemon.engines.openai.engine import RemoteEngine

        return RemoteEngine(engine, request_deadline_s=timeouts.request_deadline_s, check=check)
    return GuardedEngine(_local_engine(settings, engine, check), timeouts.request_deadline_s, timeouts.stall_s)


def _local_engine(settings: Settings, engine: VllmSettings | FakeSettings, check: Check) -> Engine:
    match engine:
        case VllmSettings():
            from daemon.engines.vllm.engine import VllmEngine

            debug = settings.log.level == "debug"
            deadline_s = settings.timeouts.render_deadline_s
            return VllmEngine(
                engine, max_frames=most_frames(settings), render_deadline_s=deadline_s, debug=debug, check=check
            )
        case FakeSettings():
            script = None if engine.script is None else FaultScript.read(engine.script)
            return FakeEngine(delay_ms=engine.delay_ms, slots=engine.slots, script=script, check=check)


def build_token_planner(settings: Settings) -> TokenPlanner:
    """Return what plans a window's tokens, from the model's processor and configuration files; no weights are loaded.

    Raises:
        ConfigurationError: the model and its settings do not fit.
    """
    match settings.engine:
        case VllmSettings():
            from daemon.engines.vllm.load import load_model

            debug = settings.log.level == "debug"
            return load_model(settings.engine, most_frames(settings), debug=debug).planner
        case OpenAISettings():
            return RemoteTokenPlanner()
        case FakeSettings():
            return FakeTokenPlanner()


def check_engine(settings: EngineSettings) -> None:
    """Check what can be checked fast, without importing a model library; :class:`ConfigurationError` names the key."""
    match settings:
        case VllmSettings():
            checked_args(settings.args)
            check_structure(settings)
        case OpenAISettings():
            key = settings.api_key_file
            if key is not None and not key.is_file():
                raise ConfigurationError("there is no such file", path="engine.api_key_file")
        case FakeSettings():
            if settings.script is not None:
                FaultScript.read(settings.script)


def most_frames(settings: Settings) -> int:
    """Return how many frames a window of any source has at most."""
    # settings of a source go over those of the top level, so they are asked for where they have met
    from daemon.config.clip_settings import settings_by_source

    return max(_most(one.frames) for one in settings_by_source(settings).values())


def _most(frames: FramePolicy) -> int:
    if frames.splice is not None:
        return 1
    return frames.num_frames if frames.fps is None else frames.max_frames
