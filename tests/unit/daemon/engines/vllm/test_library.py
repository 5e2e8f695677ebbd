"""vLLM's own errors in ours, and the context in which it chooses its defaults."""

from collections.abc import Iterator
from typing import Any

import pytest

from connectors.errors import EngineLost, Poison, Transient
from daemon.engines.vllm import library
from daemon.engines.vllm.library import configuration, running

pytestmark = [
    pytest.mark.engine,
    pytest.mark.timeout(240),
    *(pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("DeprecationWarning", "FutureWarning", "UserWarning")),
]


def newer_errors() -> Iterator[Exception]:
    """Yield the errors that vLLM 0.33 raises from ``generate``; the second has no class in 0.32."""
    from vllm import exceptions

    yield exceptions.GenerationError("the engine could not answer")
    made = type("RetryableRequestError", (exceptions.GenerationError,), {})
    yield getattr(exceptions, "RetryableRequestError", made)("the engine is paused")


def test_errors_of_the_server_are_tried_again() -> None:
    from vllm.v1.engine.exceptions import EngineGenerateError

    for error in (*newer_errors(), EngineGenerateError("it failed")):
        with pytest.raises(Transient), library.translated(lambda: False):
            raise error


def test_a_dead_engine_is_lost_and_a_wrong_request_is_refused() -> None:
    from vllm.exceptions import VLLMValidationError
    from vllm.v1.engine.exceptions import EngineDeadError

    with pytest.raises(EngineLost), library.translated(lambda: False):
        raise EngineDeadError
    with pytest.raises(Poison), library.translated(lambda: False):
        raise VLLMValidationError("too long")
    with pytest.raises(EngineLost), library.translated(lambda: True):
        raise RuntimeError("the socket is closed")


def test_the_engine_starts_with_the_defaults_of_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.async_llm import AsyncLLM

    given = dict[str, Any]()
    monkeypatch.setattr(AsyncLLM, "from_engine_args", lambda args, **more: given.update(more))
    monkeypatch.setattr(running, "argument_class", lambda: lambda **arguments: arguments)

    library.launch({"model": "m"}, None)

    assert given["usage_context"] is UsageContext.OPENAI_API_SERVER


def test_a_configuration_has_the_defaults_of_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.usage.usage_lib import UsageContext

    class Arguments:
        def __init__(self, **_: Any) -> None: ...

        def create_engine_config(self, usage_context: Any = None) -> Any:
            return usage_context

    monkeypatch.setattr(configuration, "argument_class", lambda: Arguments)

    assert library.configuration_of({"model": "m"}) is UsageContext.OPENAI_API_SERVER


def test_the_logging_configuration_is_vllms_own_at_the_environments_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "CRITICAL")

    config = library.logging_config()

    assert config["loggers"]["vllm"]["level"] == "CRITICAL"
    assert config["handlers"]["vllm"]["level"] == "CRITICAL"
