"""A tiny model of text alone."""

from collections.abc import Callable
from pathlib import Path

from testing.tiny_models.parts import IMAGE_TEMPLATE, TEXT, byte_tokenizer, save


def build_llama(folder: Path) -> Path:
    """Write a Llama: a model of text alone."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = byte_tokenizer([], IMAGE_TEMPLATE)
    return save(folder, LlamaForCausalLM, LlamaConfig(vocab_size=len(tokenizer), **TEXT), tokenizer)


BUILDERS: dict[str, Callable[[Path], Path]] = {"llama": build_llama}
