"""The bundled model's tokenizer and processor: small, able to encode any text, in Hugging Face's layout."""

from collections.abc import Iterable, Sequence
from typing import Any

BOS, EOS, PAD = "<s>", "</s>", "<pad>"
IMAGE, VIDEO = "<image>", "<video>"
# NeVA's own special tokens, with which its nvgpt, nv_dpo and mistral conversations are written.
NEVA_MARKS = tuple(f"<extra_id_{n}>" for n in range(8))
SPECIAL_TOKENS = (PAD, BOS, EOS, IMAGE, VIDEO, *NEVA_MARKS)

# LLaVA's own conversation: a span of frames, the question, the answer. Content is a string or a list of parts; the
# frames come first wherever they stand in the list, without separators, so that they form one span as in NeVA.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- if message['role'] == 'assistant' -%}
{{- 'ASSISTANT:' -}}
{%- elif message['role'] == 'user' -%}
{{- 'USER: ' -}}
{%- endif -%}
{%- if message['content'] is string -%}
{{- message['content'] -}}
{%- else -%}
{%- set media = namespace(any=false) -%}
{%- for part in message['content'] -%}
{%- if part['type'] in ['image', 'image_url'] -%}
{%- set media.any = true -%}
{{- '<image>' -}}
{%- elif part['type'] in ['video', 'video_url'] -%}
{%- set media.any = true -%}
{{- '<video>' -}}
{%- endif -%}
{%- endfor -%}
{%- if media.any -%}
{{- '\\n' -}}
{%- endif -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'text' -%}
{{- part['text'] -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{%- if message['role'] == 'assistant' -%}
{{- '</s>' -}}
{%- elif not loop.last or add_generation_prompt -%}
{{- ' ' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- 'ASSISTANT:' -}}
{%- endif -%}
"""


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Any:
    """Return a fast byte-level BPE tokenizer of exactly ``vocab_size`` tokens, merges learned from ``texts``.

    All 256 bytes are in the vocabulary, so every text can be encoded and decodes to itself. The tokenizer adds no token
    at either end of a text, since the conversation template writes those that belong there.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    if backend.get_vocab_size() != vocab_size:
        raise ValueError(f"the texts give {backend.get_vocab_size()} tokens, not the {vocab_size} asked for")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        additional_special_tokens=[IMAGE, VIDEO, *NEVA_MARKS],
        clean_up_tokenization_spaces=False,
        padding_side="left",
        model_max_length=4096,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def make_image_processor(crop_px: int) -> Any:
    """Return CLIP's processor for a tower of ``crop_px``: shortest edge resized (bicubic), centre crop, its scale."""
    from transformers import CLIPImageProcessor

    return CLIPImageProcessor(size={"shortest_edge": crop_px}, crop_size={"height": crop_px, "width": crop_px})


def make_processor(tokenizer: Any, image_processor: Any, patch_px: int) -> Any:
    """Return the ``LlavaProcessor`` that turns messages and frames into a model's inputs."""
    from transformers import LlavaProcessor

    return LlavaProcessor(
        image_processor=image_processor,
        tokenizer=tokenizer,
        patch_size=patch_px,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token=IMAGE,
        chat_template=CHAT_TEMPLATE,
    )


def encode_around_media(tokenizer: Any, before: str, after: str, span: Sequence[int]) -> list[int]:
    """Return the token ids of ``before``, the media ``span`` and ``after``."""
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in (before, after)]
    return [*ids[0], *span, *ids[1]]
