"""The token planner of a model whose files alone say what its windows cost, so vLLM, seconds to import, is not needed.

Only what is certain to be vLLM's own count is answered: for a LLaVA in a folder, with settings that leave vLLM to its
defaults. What this planner refuses vLLM may take, so only vLLM's refusal counts.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from daemon.config.engine_settings import VllmSettings
from daemon.engines.model.checks import check_structure, local_config, resolve_model, text_config
from daemon.engines.model.frame_size import FrameSizes
from daemon.engines.model.media_form import MediaForm
from daemon.engines.model.token_planner import EncoderBudget, ModelTokenPlanner
from daemon.prompts.chat_template import ChatTemplate, loops_over_parts
from daemon.prompts.prompt import Placeholder, PromptEncoder

_IMAGE = "<image>"
_LEAST_ROOM = 2048  # tokens of one image that vLLM takes on any machine
# the keys of which vLLM takes the smallest for a model's context
_LENGTHS = (
    "max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length",
    "max_target_positions", "max_sequence_length", "max_seq_length", "seq_len",
)  # fmt: skip


def file_planner(settings: VllmSettings) -> ModelTokenPlanner | None:
    """Return the planner of a model in a folder; None where vLLM has to be asked.

    Its context and its encoder's room are at most vLLM's, so what fits them fits vLLM's too.

    Raises:
        ConfigurationError: the model and its settings do not fit each other or the machine.
    """
    folder = Path(resolve_model(settings)[0])
    plain = VllmSettings(model=settings.model, max_model_len=settings.max_model_len, renderers=settings.renderers)
    if settings != plain or not (folder / "tokenizer.json").is_file():
        return None
    check_structure(settings)
    config, tokenizer_config = local_config(str(folder)) or {}, _read(folder / "tokenizer_config.json")
    tokens, length = _tokens_an_image(config), _length(settings, config, tokenizer_config)
    if tokens is None or length is None or "auto_map" in tokenizer_config:
        return None
    from transformers import TokenizersBackend  # what every LLaVA's tokenizer is read as, whatever it names

    tokenizer = TokenizersBackend.from_pretrained(folder, local_files_only=True)
    image_id = config.get("image_token_index", config.get("image_token_id"))
    if not isinstance(image_id, int) or tokenizer.encode(_IMAGE, add_special_tokens=False) != [image_id]:
        return None

    def widened(ids: list[int], _: Any) -> tuple[int, int]:
        images = ids.count(image_id)
        return len(ids) + images * (tokens - 1), images * tokens

    template = _template(_own_template(folder, tokenizer_config))
    return ModelTokenPlanner(
        PromptEncoder(tokenizer, Placeholder.of_token("image", _IMAGE, image_id), template, read=_template),
        MediaForm("image"),
        widened,
        max_model_len=length,
        max_frame_size=None,
        encoder_budget=EncoderBudget(_LEAST_ROOM, lambda: _LEAST_ROOM),
        sizes=FrameSizes(None, count=lambda num_frames, _: num_frames * tokens),
    )


def _tokens_an_image(config: Mapping[str, Any]) -> int | None:
    """Return the tokens that an image fills, whatever its size; None where the model is no LLaVA with CLIP's tower."""
    vision = config.get("vision_config") or {}
    if config.get("architectures") != ["LlavaForConditionalGeneration"] or config.get("model_type") != "llava":
        return None
    size, patch = vision.get("image_size"), vision.get("patch_size")
    left_out = {"default": 1, "full": 0}.get(str(config.get("vision_feature_select_strategy")))
    if vision.get("model_type") != "clip_vision_model" or left_out is None:
        return None
    if not isinstance(size, int) or not isinstance(patch, int) or patch < 1 or size % patch:
        return None
    return int((size // patch) ** 2) + 1 - left_out


def _length(settings: VllmSettings, config: Mapping[str, Any], tokenizer_config: Mapping[str, Any]) -> int | None:
    """Return how many tokens a prompt and its answer may have at least; None where the settings ask for more."""
    text = text_config(config)
    if not isinstance(text.get("max_position_embeddings"), int) or text.get("rope_scaling"):
        return None
    if (text.get("rope_parameters") or {}).get("rope_type", "default") != "default":
        return None
    said = [text.get(name) for name in _LENGTHS] + [tokenizer_config.get("model_max_length")]
    length = int(min(one for one in said if one is not None))
    wanted = length if settings.max_model_len in (None, "auto") else settings.max_model_len
    return wanted if isinstance(wanted, int) and wanted <= length else None


def _own_template(folder: Path, tokenizer_config: Mapping[str, Any]) -> str:
    """Return the model's chat template where all files that may hold it say the same; else nothing."""
    others = [_read(folder / name) for name in ("processor_config.json", "chat_template.json")]
    said = [one.get("chat_template") for one in (tokenizer_config, *others)]
    if (file := folder / "chat_template.jinja").is_file():
        said.append(file.read_text(encoding="utf-8"))
    texts = {json.dumps(one) for one in said if one is not None}
    only = json.loads(texts.pop()) if len(texts) == 1 else None
    return only if isinstance(only, str) and not (folder / "additional_chat_templates").exists() else ""


def _template(source: str) -> ChatTemplate | None:
    """Return a template of which it is certain that vLLM gives it parts, as most do."""
    return ChatTemplate(source, parts=True) if loops_over_parts(source) else None


def _read(file: Path) -> dict[str, Any]:
    """Return what a model's file of settings holds; nothing where there is none that can be read."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
