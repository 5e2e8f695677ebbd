"""A Video NeVA in Hugging Face's LLaVA layout: CLIP tower, two-layer projector, Llama, with random weights."""

from typing import Any

from neva.shapes.tokenizer import IMAGE
from neva.training.settings import ModelSettings


def make_model(settings: ModelSettings, tokenizer: Any) -> Any:
    """Return a ``LlavaForConditionalGeneration`` of the sizes in ``settings``, its vocabulary the tokenizer's."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    tower, llm = settings.mm_cfg.vision_encoder, settings
    crop_px, patch_px = tower.crop_size[0], tower.patch_dim
    vision = CLIPVisionConfig(
        hidden_size=tower.hidden_size,
        intermediate_size=tower.ffn_hidden_size,
        num_hidden_layers=tower.num_layers,
        num_attention_heads=tower.num_attention_heads,
        image_size=crop_px,
        patch_size=patch_px,
        projection_dim=tower.hidden_size,
        hidden_act="gelu",
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=llm.hidden_size,
        intermediate_size=llm.ffn_hidden_size,
        num_hidden_layers=llm.num_layers,
        num_attention_heads=llm.num_attention_heads,
        num_key_value_heads=llm.num_query_groups or llm.num_attention_heads,
        head_dim=llm.hidden_size // llm.num_attention_heads,
        max_position_embeddings=llm.encoder_seq_length,
        rms_norm_eps=1e-5,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE),
        image_seq_length=(crop_px // patch_px) ** 2,
        projector_hidden_act="gelu",
        vision_feature_layer=tower.vision_select_layer,
        vision_feature_select_strategy="default",
        tie_word_embeddings=False,
    )
    return LlavaForConditionalGeneration(config)
