"""vLLM's names: the only folder that imports it, inside functions alone, for that takes seconds.

Whatever of vLLM the daemon uses has its function here, with what it promises. Some of these names are private or
change between releases, so ``tests/contract/test_vllm_names.py`` looks each of them up.
"""

from daemon.engines.vllm.library.configuration import (
    argument_class,
    configuration_of,
    encoder_budget,
    hashes_media,
    logging_config,
    packed_configuration,
    renders_itself,
    sees_videos_as_images,
    tower_fits,
)
from daemon.engines.vllm.library.grammar import grammar_fault
from daemon.engines.vllm.library.lora import adapter_of, check_lora, lora_modules, weight_names, without_lora
from daemon.engines.vllm.library.processor import (
    chat_template_of,
    counter,
    is_found_by_tokens,
    items_found,
    placeholder_text,
    processor_of,
    prompt_updates,
    takes_timestamps,
    video_settings,
    vision_counter,
)
from daemon.engines.vllm.library.reasoning import extract_reasoning, reasoning_parser, reasoning_parsers
from daemon.engines.vllm.library.rendering import decoded, encoded, render, render_in_its_thread, renderer_of
from daemon.engines.vllm.library.running import handed_over, launch, replicas, sampling_params, translated

__all__ = [
    "adapter_of",
    "argument_class",
    "chat_template_of",
    "check_lora",
    "configuration_of",
    "counter",
    "decoded",
    "encoded",
    "encoder_budget",
    "extract_reasoning",
    "grammar_fault",
    "handed_over",
    "hashes_media",
    "is_found_by_tokens",
    "items_found",
    "launch",
    "logging_config",
    "lora_modules",
    "packed_configuration",
    "placeholder_text",
    "processor_of",
    "prompt_updates",
    "reasoning_parser",
    "reasoning_parsers",
    "render",
    "render_in_its_thread",
    "renderer_of",
    "renders_itself",
    "replicas",
    "sampling_params",
    "sees_videos_as_images",
    "takes_timestamps",
    "tower_fits",
    "translated",
    "video_settings",
    "vision_counter",
    "weight_names",
    "without_lora",
]
