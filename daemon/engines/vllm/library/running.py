"""An engine that runs: its start, its replicas, its requests and its errors."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from connectors.errors import EngineLost, Poison, Reason, Transient
from daemon.engines.library_errors import sentence
from daemon.engines.vllm.library.configuration import argument_class


def launch(arguments: dict[str, Any], stat_logger: Any) -> Any:
    """Start ``AsyncLLM`` with its processes and return it."""
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.async_llm import AsyncLLM

    return AsyncLLM.from_engine_args(
        argument_class()(**arguments), usage_context=UsageContext.OPENAI_API_SERVER, stat_loggers=[stat_logger]
    )


def replicas(llm: Any) -> list[int]:
    """Return the numbers of the replicas that an ``AsyncLLM`` gives requests to."""
    return list(llm.engine_core.engine_ranks_managed)


def handed_over(llm: Any) -> Mapping[int, int]:
    """Return how many requests each replica was given and has not ended, by vLLM's own table.

    The table is that of vLLM's load balancer, so there is none with one replica. Its keys are the replicas' numbers,
    written as vLLM writes them for ZeroMQ. An aborted request stays in it until its replica has said that it let go.
    """
    table = getattr(llm.engine_core, "engine_inflight", {})
    return {int.from_bytes(identity, "little"): count for identity, count in table.items()}


def sampling_params(arguments: dict[str, Any]) -> Any:
    """Return ``SamplingParams`` that give the final answer alone."""
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    arguments = dict(arguments)
    if (repetition := arguments.pop("repetition_detection", None)) is not None:
        from vllm.sampling_params import RepetitionDetectionParams

        arguments["repetition_detection"] = RepetitionDetectionParams(**repetition)
    if (form := arguments.pop("structured_outputs", None)) is not None:
        from vllm.sampling_params import StructuredOutputsParams

        arguments["structured_outputs"] = StructuredOutputsParams(**form)
    return SamplingParams(**arguments, output_kind=RequestOutputKind.FINAL_ONLY)


@contextmanager
def translated(is_dead: Callable[[], bool]) -> Iterator[None]:
    """Translate vLLM's errors into ours, once. ``is_dead`` says whether the engine has died.

    What vLLM calls an error of the server's, whichever (GenerationError, RetryableRequestError), is no clip's fault.
    """
    from vllm.exceptions import GracefulHTTPError, VLLMClientError, VLLMServerError
    from vllm.v1.engine.exceptions import EngineDeadError

    try:
        yield
    except EngineDeadError as error:
        raise EngineLost("the engine's process died") from error
    except VLLMServerError as error:
        cause = error.__cause__ or error
        raise Transient(sentence(cause), reason=Reason.ENGINE_REFUSED, origin="engine") from error
    except GracefulHTTPError as error:  # a queue of its own that is full
        raise Transient(sentence(error), reason=Reason.ENGINE_REFUSED, origin="engine") from error
    except (VLLMClientError, ValueError, TypeError, RuntimeError) as error:
        if is_dead():
            raise EngineLost("the engine's process died") from error
        raise Poison(Reason.ENGINE_REFUSED, sentence(error), origin="engine") from error
