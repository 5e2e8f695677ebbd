"""What vLLM's rendered prompts and final outputs hold, in our words. Imports no vLLM."""

from typing import Any

from daemon.engine import Completion


def vision_tokens(rendered: Any) -> int:
    """Return how many of a rendered prompt's tokens frames fill."""
    ranges = [one for many in rendered.get("mm_placeholders", {}).values() for one in many]
    return sum(int(one.get_num_embeds()) for one in ranges)


def completion(output: Any, prompt_tokens: int, vision_tokens: int) -> Completion:
    """Return vLLM's final output as ours."""
    answer, metrics = output.outputs[0], output.metrics
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
    )
