"""Assembly of a Video NeVA from trained parts: a language model, a vision tower and a projector, each named alone."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from connectors.errors import ConfigurationError
from daemon.engines.model.bundled import BUNDLED, bundled_model
from neva.checkpoints.archive import open_nemo
from neva.checkpoints.hf_folder import model_folder, read_tensors
from neva.checkpoints.llava import IDENTITY, llava_config, projector_state
from neva.checkpoints.model_facts import image_token
from neva.checkpoints.weights import read_projector
from neva.media_settings import ModelSettings as Facts
from neva.pixel_values import CLIP, SIGLIP, TowerPixels
from neva.training.freezing import train_in_float32
from neva.training.settings import ModelSettings

log = logging.getLogger(__name__)

_LANGUAGES = ("llama", "mistral", "nemotron")
_TOWERS = ("clip_vision_model", "siglip_vision_model")
_PROJECTOR = "multi_modal_projector."


@dataclass(frozen=True, slots=True)
class Llava:
    """A model with its tokenizer, the token that stands for each patch of a frame, and its tower's preprocessing."""

    model: Any
    tokenizer: Any
    image_token: str
    pixels: TowerPixels

    @property
    def patches(self) -> int:
        """The number of tokens that one frame becomes."""
        tower = self.model.config.vision_config
        whole = self.model.config.vision_feature_select_strategy == "full" and tower.model_type == "clip_vision_model"
        return int((tower.image_size // tower.patch_size) ** 2) + int(whole)


def load_parts(settings: ModelSettings, facts: Facts, *, bf16: bool, empty: bool = False) -> Llava:
    """Return the model that ``settings`` name, as a whole or part by part.

    With ``bf16`` frozen parts keep the type that they are stored in; parts that are trained are float32. An ``empty``
    model lies on the meta device: of its weights nothing is read but the headers.

    Raises:
        ConfigurationError: a part is missing or does not fit the others; the error names its key.
    """
    parts = settings.mm_cfg
    if settings.restore_from_path is not None:
        for key, named in (
            ("llm", parts.llm.from_pretrained),
            ("vision_encoder", parts.vision_encoder.from_pretrained),
        ):
            if named:
                log.info("mm_cfg.%s.from_pretrained is ignored: model.restore_from_path holds it.", key)
        found = _whole(_folder(settings.restore_from_path, "model.restore_from_path"), empty)
    else:
        found = _assembled(settings, facts, empty)
    if parts.pretrain_mm_mlp_adapter is not None and not empty:
        _load_projector(found.model, parts.pretrain_mm_mlp_adapter)
    _check_tower(found.model.config, settings)
    if bf16:
        train_in_float32(found.model, parts)
    else:
        found.model.float()
    return found


def _folder(named: str, key: str) -> Path:
    if named == BUNDLED:
        return bundled_model()
    path = Path(named)
    if path.is_file() or (path / "model_config.yaml").is_file():
        raise ConfigurationError(f"{named} is a NeMo checkpoint: turn it into a folder with `import-nemo`", path=key)
    return model_folder(named, key=key)


def _loading(empty: bool) -> dict[str, Any]:
    """Return how weights are loaded: in the type that they are stored in, onto the CPU or nowhere."""
    return {"dtype": "auto", "device_map": "meta"} if empty else {"dtype": "auto"}


def _whole(folder: Path, empty: bool = False) -> Llava:
    from transformers import AutoTokenizer, LlavaConfig, LlavaForConditionalGeneration

    config = LlavaConfig.from_pretrained(folder)
    if config.projector_hidden_act == IDENTITY:  # vLLM's name for it, which transformers does not know
        config.projector_hidden_act = "linear"
    model = LlavaForConditionalGeneration.from_pretrained(folder, config=config, **_loading(empty))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    token = str(tokenizer.convert_ids_to_tokens(config.image_token_index))
    return Llava(model, tokenizer, token, _pixels(folder, config.vision_config))


def _assembled(settings: ModelSettings, facts: Facts, empty: bool) -> Llava:
    from transformers import LlavaForConditionalGeneration
    from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

    parts = settings.mm_cfg
    for key, named in (("llm", parts.llm.from_pretrained), ("vision_encoder", parts.vision_encoder.from_pretrained)):
        if named is None:
            raise ConfigurationError(
                "a trained part to start from is needed: a folder or a name, or model.restore_from_path for the whole",
                path=f"model.mm_cfg.{key}.from_pretrained",
            )
    language, head, text, tokenizer, token = _language(parts.llm.from_pretrained or "", facts, empty)
    tower, pixels = _tower(parts.vision_encoder.from_pretrained or "", empty)
    encoder = parts.vision_encoder
    full = encoder.vision_select_feature == "cls_patch" or encoder.class_token_length == 0
    config = llava_config(
        text,
        tower.config,
        image_token_id=tokenizer.convert_tokens_to_ids(token),
        activation="gelu" if parts.mm_mlp_adapter_type == "mlp2x_gelu" else "linear",
        feature_layer=encoder.vision_select_layer,
        every_feature=full or tower.config.model_type.startswith("siglip"),
    )
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(config)
    model.model.language_model, model.lm_head, model.model.vision_tower = language, head, tower
    with torch.device("meta" if empty else "cpu"):
        projector = model.model.multi_modal_projector = LlavaMultiModalProjector(config)
    if parts.mm_mlp_adapter_type == "linear":  # the second of LLaVA's layers only passes on the first's output
        torch.nn.init.eye_(projector.linear_2.weight)
        torch.nn.init.zeros_(projector.linear_2.bias)
    return Llava(model, tokenizer, token, pixels)


def _language(named: str, facts: Facts, empty: bool) -> tuple[Any, Any, Any, Any, str]:
    """Return a language model's body, its head, its configuration, its tokenizer and the token of a patch."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    folder = _folder(named, "model.mm_cfg.llm.from_pretrained")
    kind = AutoConfig.from_pretrained(folder).model_type
    if kind == "llava":
        whole = _whole(folder, empty)
        inner = whole.model
        return inner.model.language_model, inner.lm_head, inner.config.text_config, whole.tokenizer, whole.image_token
    if kind not in _LANGUAGES:
        raise ConfigurationError(
            f"{named} is a {kind}; {', '.join(_LANGUAGES)} and the language model of a llava are taken",
            path="model.mm_cfg.llm.from_pretrained",
        )
    language, tokenizer = (
        AutoModelForCausalLM.from_pretrained(folder, **_loading(empty)),
        AutoTokenizer.from_pretrained(folder),
    )
    token = image_token(tokenizer, facts)
    if token not in tokenizer.get_vocab():
        tokenizer.add_special_tokens({"additional_special_tokens": [token]})
    if len(tokenizer) > language.config.vocab_size:
        language.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    return language.model, language.lm_head, language.config, tokenizer, token


def _tower(named: str, empty: bool) -> tuple[Any, TowerPixels]:
    from transformers import AutoConfig, CLIPVisionModel, SiglipVisionModel

    key = "model.mm_cfg.vision_encoder.from_pretrained"
    folder = _folder(named, key)
    config = AutoConfig.from_pretrained(folder)
    if config.model_type == "llava":
        return _whole(folder, empty).model.model.vision_tower, _pixels(folder, config.vision_config)
    config = getattr(config, "vision_config", config)
    if config.model_type not in _TOWERS:
        raise ConfigurationError(f"{named} is a {config.model_type}; CLIP and SigLIP are taken", path=key)
    kind = CLIPVisionModel if config.model_type == "clip_vision_model" else SiglipVisionModel
    return kind.from_pretrained(folder, **_loading(empty)), _pixels(folder, config)


def _pixels(folder: Path, tower: Any) -> TowerPixels:
    """Return the preprocessing of a tower: its family's, with the mean and deviation of the model's own processor."""
    family = SIGLIP if tower.model_type.startswith("siglip") else CLIP
    for name in ("preprocessor_config.json", "processor_config.json"):
        path = folder / name
        said: Mapping[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
        said = said.get("image_processor") or said
        if "image_mean" in said and "image_std" in said:
            return TowerPixels(tuple(said["image_mean"]), tuple(said["image_std"]), family.crops, family.processor)
    return family


def _load_projector(model: Any, named: str) -> None:
    """Load a trained projector from a model folder, a ``.nemo``, or a file of tensors under NeVA's or LLaVA's names."""
    key = "model.mm_cfg.pretrain_mm_mlp_adapter"
    projector, path = model.model.multi_modal_projector, Path(named)
    kind = "mlp2x_gelu" if model.config.projector_hidden_act == "gelu" else "linear"
    if path.is_file() and path.suffix != ".nemo":
        found = _tensor_file(path)
    elif path.is_file() or (path / "model_config.yaml").is_file():
        with open_nemo(path) as archive:
            found = projector_state(read_projector(archive), kind)[0]
    else:
        found = dict(read_tensors(_folder(named, key)))
    state = {name.rpartition(_PROJECTOR)[2]: tensor for name, tensor in found.items() if _PROJECTOR in name}
    wanted = {name: tuple(tensor.shape) for name, tensor in projector.state_dict().items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if shapes != wanted:
        raise ConfigurationError(f"{named} holds a projector of {shapes or 'nothing'}, not of {wanted}", path=key)
    projector.load_state_dict(state)


def _tensor_file(path: Path) -> dict[str, Any]:
    """Return a file's tensors; those of an ``mm_projector``, as NeVA and LLaVA save it, under Hugging Face's names."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        loaded: Mapping[str, Any] = load_file(path)
    else:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
        loaded = loaded.get("state_dict", loaded)
    names = {"mm_projector.0.": "linear_1.", "mm_projector.2.": "linear_2."}
    found = {}
    for name, tensor in loaded.items():
        for theirs, ours in names.items():
            if theirs in name:
                name = f"{_PROJECTOR}{ours}{name.rpartition('.')[2]}"
        found[name] = tensor
    return found


def _check_tower(config: Any, settings: ModelSettings) -> None:
    """Refuse settings of the tower that contradict its own configuration."""
    said, tower = settings.mm_cfg.vision_encoder, config.vision_config
    for key, own in (
        ("crop_size", (tower.image_size,) * 2),
        ("patch_dim", tower.patch_size),
        ("hidden_size", tower.hidden_size),
    ):
        if key in said.model_fields_set and getattr(said, key) != own:
            raise ConfigurationError(
                f"the tower has {own}, not {getattr(said, key)}", path=f"model.mm_cfg.vision_encoder.{key}"
            )
    if not isinstance(config.vision_feature_layer, int):
        raise ConfigurationError("a model that sees by several layers of its tower is not trained", path="model")
