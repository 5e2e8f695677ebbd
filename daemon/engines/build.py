"""The table of engines: from settings to an engine, its token planner, and the checks that need no model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from connectors.errors import ConfigurationError
from daemon.config.engine_settings import EngineSettings, FakeSettings, OpenAISettings, VllmSettings
from daemon.config.settings import Settings
from daemon.engines.contract import Engine
from daemon.engines.fake import FakeEngine, FakeTokenPlanner, FaultScript
from daemon.engines.guard import GuardedEngine
from daemon.engines.model.checks import check_structure, resolve_model
from daemon.engines.model.file_planner import file_planner
from daemon.engines.model.kept_answers import KeptAnswers, answers_file
from daemon.engines.model.token_planner import Check, RemoteTokenPlanner, TokenPlanner
from daemon.engines.model.window_shapes import ExpectedWindows
from daemon.engines.vllm.args import checked_args
from daemon.windows import NS_PER_S, FramePolicy, WindowPolicy

_LONGEST_NS = 10**9 * NS_PER_S  # of a clip that is one window; thirty years, as the settings allow


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
            windows = expected_windows(settings)
            return VllmEngine(
                for_questions(settings, engine),
                max_frames=windows.max_frames,
                windows=windows,
                render_deadline_s=settings.timeouts.render_deadline_s,
                debug=debug,
                check=check,
                names_windows="enable_prefix_caching" not in checked_args(engine.args),
            )
        case FakeSettings():
            script = None if engine.script is None else FaultScript.read(engine.script)
            return FakeEngine(delay_ms=engine.delay_ms, slots=engine.slots, script=script, check=check)


def for_questions(settings: Settings, engine: VllmSettings) -> VllmSettings:
    """Return an engine's settings with what the questions need of vLLM, where ``engine.args`` does not say otherwise.

    1. Several questions about one window begin alike, so vLLM keeps what it has of that beginning.
    2. A grammar that allows whitespace anywhere lets a weak model write nothing else.
    """
    from daemon.config.clip_settings import settings_by_source

    asked, given = [one.questions for one in settings_by_source(settings).values()], checked_args(engine.args)
    wanted: dict[str, Any] = {}
    if any(len(questions) > 1 for questions in asked):
        wanted["enable_prefix_caching"] = True
    if any(question.form is not None for questions in asked for question in questions):
        wanted["structured_outputs_config"] = {"backend": "xgrammar", "disable_any_whitespace": True}
    wanted = {name: value for name, value in wanted.items() if name not in given}
    return engine.model_copy(update={"args": {**engine.args, **wanted}}) if wanted else engine


def build_token_planner(settings: Settings) -> TokenPlanner:
    """Return what plans a window's tokens, from the model's processor and configuration files; no weights are loaded.

    Raises:
        ConfigurationError: the model and its settings do not fit.
    """
    return planner_and_choices(settings)[0]


def build_kept_planner(settings: Settings, told: Callable[[], object] = lambda: None) -> KeptAnswers:
    """Return the planner of one-shot commands, which asks the model only what nobody asked before.

    ``told`` is called before it does, in whichever thread that is. :meth:`KeptAnswers.keep` keeps the answers.
    """

    def build() -> TokenPlanner:
        told()
        return build_token_planner(settings)

    def build_first() -> TokenPlanner | None:
        told()
        return file_planner(settings.engine) if isinstance(settings.engine, VllmSettings) else None

    return KeptAnswers(kept_answers_file(settings), build, build_first)


def kept_answers_file(settings: Settings) -> Path | None:
    """Return where answers of the planner of :func:`build_token_planner` are kept, None for one that is built at once.

    So is that of a model that the hub has: what its name stands for may change.
    """
    if not isinstance(settings.engine, VllmSettings):
        return None
    model, _ = resolve_model(settings.engine)
    engine, folder = for_questions(settings, settings.engine), Path(model)
    return answers_file(folder, engine, expected_windows(settings)) if folder.is_dir() else None


def planner_and_choices(settings: Settings) -> tuple[TokenPlanner, tuple[str, ...]]:
    """Return the planner of :func:`build_token_planner`, and sentences about what was chosen for the engine."""
    match settings.engine:
        case VllmSettings():
            from daemon.engines.vllm.load import load_model

            windows, debug = expected_windows(settings), settings.log.level == "debug"
            loaded = load_model(
                for_questions(settings, settings.engine), windows.max_frames, windows=windows, debug=debug
            )
            return loaded.planner, loaded.choices
        case OpenAISettings():
            return RemoteTokenPlanner(), ()
        case FakeSettings():
            return FakeTokenPlanner(), ()


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
    return expected_windows(settings).max_frames


def expected_windows(settings: Settings) -> ExpectedWindows:
    """Return the full windows of all sources. Of whole clips, whose length nobody knows, the longest is meant."""
    # settings of a source go over those of the top level, so they are asked for where they have met
    from daemon.config.clip_settings import settings_by_source

    each = settings_by_source(settings).values()  # which reads templates from their files
    longest = max(_most(one.windows, one.frames) for one in each)
    counts = {
        _most(one.windows, one.frames) if one.windows.whole else one.frames.frames_in(one.windows.window_ns)
        for one in each
    }
    budgets = frozenset(one.frames.budget for one in each)
    return ExpectedWindows(tuple(sorted(counts)), longest, settings.limits.max_pixels, budgets)


def _most(windows: WindowPolicy, frames: FramePolicy) -> int:
    """Return the frames of the longest window: a tail that is too short for a window of its own joins the last."""
    return frames.frames_in(_LONGEST_NS if windows.whole else windows.window_ns + windows.min_tail_ns)
