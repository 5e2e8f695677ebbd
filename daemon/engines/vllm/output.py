"""The translation of what vLLM gives, without importing it: rendered prompts, final outputs and its statistics."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from connectors.contract import TokenLogprob
from connectors.errors import Reason, Transient
from daemon.engines.contract import Completion, EngineStatistics, ReplicaStatistics


def vision_tokens(rendered: Any) -> int:
    """Return how many of a rendered prompt's tokens frames fill."""
    ranges = [one for many in rendered.get("mm_placeholders", {}).values() for one in many]
    return sum(int(one.get_num_embeds()) for one in ranges)


def rendered_bytes(rendered: Any) -> int:
    """Return how much memory the tensors of a rendered prompt take."""
    items = [item for many in rendered.get("mm_kwargs", {}).values() for item in many if item is not None]
    return sum(_tensor_bytes(element.data) for item in items for element in item.values())


def _tensor_bytes(data: Any) -> int:
    if isinstance(data, list | tuple):
        return sum(map(_tensor_bytes, data))
    return int(getattr(data, "nbytes", 0))


_NO_ANSWER = ("error", "abort")  # vLLM's finish reasons of a request that ended without its answer


def completion(output: Any, prompt_tokens: int, vision_tokens: int, *, top: int | None = None) -> Completion:
    """Return vLLM's final output as ours, with the log-probabilities of ``top`` tokens a step where it is given.

    Raises:
        Transient: vLLM ended the request before its answer was whole.
    """
    answer, metrics = output.outputs[0], output.metrics
    if answer.finish_reason in _NO_ANSWER:
        detail = f"the engine ended the request without an answer ({answer.finish_reason})"
        raise Transient(detail, reason=Reason.ENGINE_REFUSED, origin="engine")
    queue_ms = engine_ms = 0.0
    if metrics is not None:
        queue_ms = max(0.0, (metrics.scheduled_ts - metrics.queued_ts) * 1000)
        engine_ms = max(0.0, (metrics.last_token_ts - metrics.scheduled_ts) * 1000)
    return Completion(
        answer.text,
        answer.finish_reason == "length",
        len(output.prompt_token_ids or ()) or prompt_tokens,
        vision_tokens,
        len(answer.token_ids),
        queue_ms,
        engine_ms,
        tuple(answer.token_ids),
        () if top is None else tuple(_logprobs(answer, top)),
        looping=answer.finish_reason == "repetition",
    )


def _logprobs(answer: Any, top: int) -> Iterator[TokenLogprob]:
    """Yield each token's log-probability; vLLM adds the answer's token to the likeliest where it is none of them."""
    for token_id, step in zip(answer.token_ids, answer.logprobs or (), strict=False):
        ranked = sorted(step.values(), key=lambda one: one.rank)[:top]
        likeliest = tuple(TokenLogprob(one.decoded_token, one.logprob) for one in ranked)
        yield TokenLogprob(step[token_id].decoded_token, step[token_id].logprob, likeliest)


@dataclass
class StepLogger:
    """A logger of vLLM's statistics: every step of a replica is one call of :meth:`record`.

    vLLM is given it as the factory of loggers, and calls it once for each replica, before the first step.
    """

    statistics: EngineStatistics

    def __call__(self, _: Any, engine_index: int = 0) -> "StepLogger":
        self._replica(engine_index)
        return self

    def record(self, scheduler_stats: Any, iteration_stats: Any, *_: Any, engine_idx: int = 0, **__: Any) -> None:
        replica = self._replica(engine_idx)
        replica.steps += 1
        if scheduler_stats is not None:
            replica.running = scheduler_stats.num_running_reqs
            replica.waiting = scheduler_stats.num_waiting_reqs + scheduler_stats.num_skipped_waiting_reqs
            replica.kv_cache_usage = scheduler_stats.kv_cache_usage
            replica.prefix_hits += scheduler_stats.prefix_cache_stats.hits

    def _replica(self, number: int) -> ReplicaStatistics:
        return self.statistics.replicas.setdefault(number, ReplicaStatistics())

    def log_engine_initialized(self) -> None:
        return

    def log(self) -> None:
        return

    def record_sleep_state(self, *_: Any, **__: Any) -> None:
        return
