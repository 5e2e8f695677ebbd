"""Chat templates of models that think, for the tokenizers of the tiny models."""

from testing.tiny_models import QWEN_TEMPLATE

HEAD = QWEN_TEMPLATE.rpartition("{% if add_generation_prompt %}")[0]
# as Qwen3's, Qwen3.5's and DeepSeek's: thinking unless told not to, the same with the mark in the prompt, and the
# other variable, which is off by itself
QWEN3 = (
    HEAD + "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
QWEN35 = QWEN3.replace("{% endif %}{% endif %}", "{% else %}<think>\n{% endif %}{% endif %}")
SWITCHED = (
    "{% if not thinking is defined %}{% set thinking = false %}{% endif %}" + HEAD + "{% if add_generation_prompt %}"
    "<|im_start|>assistant\n{% if thinking %}<think>{% else %}</think>{% endif %}{% endif %}"
)
ALWAYS = HEAD + "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
