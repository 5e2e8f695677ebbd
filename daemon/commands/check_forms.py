"""The check of the forms of answers against the grammars of the engine that the configuration means."""

from collections.abc import Mapping

from daemon.answers.grammar import check_form
from daemon.config.clip_settings import ClipSettings
from daemon.config.engine_settings import VllmSettings
from daemon.config.settings import Settings
from daemon.engines.build import for_questions
from daemon.engines.vllm import library
from daemon.engines.vllm.args import checked_args, structured_arguments


def check_forms(settings: Settings, by_source: Mapping[str, ClipSettings]) -> None:
    """Refuse forms of answers that vLLM's grammar can't take; :class:`ConfigurationError` names the keyword.

    Of a server nobody knows what holds it to a form: its answers are looked at, whatever it does.
    """
    engine = settings.engine
    asked = [(name, one) for name, mine in by_source.items() for one in mine.questions if one.form is not None]
    if not asked or not isinstance(engine, VllmSettings):
        return
    config = checked_args(for_questions(settings, engine).args)["structured_outputs_config"]
    backend = str(config.get("backend", "auto")) if isinstance(config, Mapping) else "auto"
    for name, prompt in asked:
        assert prompt.form is not None  # noqa: S101 - chosen above
        source = settings.sources[name]
        if prompt.name is None:
            path = f"sources.{name}.prompt" if prompt.form.kind in source.prompt else "prompt"
        else:
            above = f"sources.{name}.prompts" if prompt.name in source.prompts else "prompts"
            path = f"{above}.{prompt.name}"
        check_form(prompt.form, lambda form: library.grammar_fault(structured_arguments(form), backend), path)
