"""A Video NeVA in Hugging Face's LLaVA layout: CLIP tower, two-layer projector, Llama, with random weights."""

from typing import Any

from neva.checkpoints.model_folder.llava import llava_config
from neva.shapes.tokenizer import IMAGE
from neva.training.settings import ModelSettings


def make_model(settings: ModelSettings, tokenizer: Any) -> Any:
    """Return a ``LlavaForConditionalGeneration`` of the sizes in ``settings``, its vocabulary the tokenizer's."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaForConditionalGeneration

    tower, llm = settings.mm_cfg.vision_encoder, settings
    vision = CLIPVisionConfig(
        hidden_size=tower.hidden_size,
        intermediate_size=tower.ffn_hidden_size,
        num_hidden_layers=tower.num_layers,
        num_attention_heads=tower.num_attention_heads,
        image_size=tower.crop_size[0],
        patch_size=tower.patch_dim,
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
        head_dim=llm.kv_channels or llm.hidden_size // llm.num_attention_heads,
        max_position_embeddings=llm.encoder_seq_length,
        rms_norm_eps=1e-5,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    config = llava_config(
        text,
        vision,
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE),
        activation="gelu",
        feature_layer=tower.vision_select_layer,
        every_feature=False,
    )
    return LlavaForConditionalGeneration(config)
