"""The parts that tiny models share: the tokenizer of bytes, chat templates, sizes, and how a model is written."""

from pathlib import Path
from typing import Any

IMAGE_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] | upper }}: "
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% elif part['type'] == 'video' %}<video>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
QWEN_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "bos_token_id": 256,
    "eos_token_id": 257,
    "pad_token_id": 258,
}
TOWER = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 56,
    "patch_size": 14,
}
QWEN_VISION = {"depth": 2, "hidden_size": 64, "intermediate_size": 128, "num_heads": 2, "out_hidden_size": 64}


def byte_tokenizer(extra_tokens: list[str], template: str) -> Any:
    """Return a tokenizer whose first 256 ids are the bytes, then ``<s> </s> <pad>``, then ``extra_tokens``."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={char: i for i, char in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=4096, **special)
    fast.add_special_tokens({"additional_special_tokens": extra_tokens})
    fast.chat_template = template
    return fast


def save(folder: Path, kind: Any, config: Any, processor: Any, *, own_tower: bool = False) -> Path:
    """Write a model of random weights and its processor as Hugging Face does, with the tensor names that vLLM loads.

    With ``own_tower`` the vision tower is the family's, not CLIP's or SigLIP's, and its tensors keep their names.
    """
    import torch
    from safetensors.torch import load_file, save_file

    torch.manual_seed(0)
    model = kind(config).float().eval()
    model.generation_config.pad_token_id = 258
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    if own_tower:
        return folder
    weights = folder / "model.safetensors"
    renamed = {
        name.replace("vision_tower.embeddings", "vision_tower.vision_model.embeddings")
        .replace("vision_tower.encoder", "vision_tower.vision_model.encoder")
        .replace("vision_tower.pre_layrnorm", "vision_tower.vision_model.pre_layrnorm")
        .replace("vision_tower.post_layernorm", "vision_tower.vision_model.post_layernorm"): tensor
        for name, tensor in load_file(weights).items()
    }
    save_file(renamed, weights, metadata={"format": "pt"})
    return folder
