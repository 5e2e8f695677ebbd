"""From a Video NeVA of NeMo to the folder that vLLM serves.

1. ``model_config.yaml`` says what the model is; what can't be imported is refused by name before weights are read.
2. The checkpoint's weights are read and its ranks joined. A projector alone, as NeVA's first stage leaves it, needs a
   base model; a frozen vision tower is never inside.
3. Tokenizer, tower and base model come from where the user says, else from where the checkpoint says.
4. Everything is written beside the wanted folder and renamed into place.
"""

import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connectors.errors import ConfigurationError
from neva.checkpoints.archive import CONFIG, NemoArchive, open_nemo
from neva.checkpoints.hf_folder import model_folder, read_tensors
from neva.checkpoints.language_model import fit_rows, read_text_model, text_config, text_tensors
from neva.checkpoints.llava import Tower, projector_state, reverse_channels, write_llava
from neva.checkpoints.names import tower_name
from neva.checkpoints.tokenizer import load_tokenizer
from neva.checkpoints.weights import Tensors, find_ranks, read_weights
from neva.conversations import TEMPLATES
from neva.media_settings import ModelSettings, without_ignored
from neva.token_span import span_tokens_of

log = logging.getLogger(__name__)

_MISSING_BASE = (
    "the checkpoint holds no language model (mm_cfg.llm.freeze was on): name the one it was trained with, a .nemo or a "
    "Hugging Face folder"
)


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """What to import. ``base_model``, ``vision_tower`` and ``tokenizer`` win over what the checkpoint names.

    ``legacy_bgr`` is for checkpoints of NeVA's first generation (NeMo before pull request 9245), whose frames had their
    channels turned round: the tower is turned round instead, with the same numbers.
    """

    source: Path
    out: Path
    base_model: str | None = None
    vision_tower: str | None = None
    tokenizer: str | None = None
    legacy_bgr: bool = False


@dataclass(frozen=True, slots=True)
class _Language:
    """A language model in the LLaVA layout, and the configuration its sizes are from."""

    state: dict[str, Any]
    config: Any


def import_nemo(request: ImportRequest) -> Path:
    """Write the model folder ``request.out`` and return it.

    Raises:
        ConfigurationError: what can't be imported, by name, with what to do about it.
    """
    with open_nemo(request.source) as archive, _new_folder(request.out) as folder:
        if CONFIG not in archive.names:
            find_ranks(archive)  # names what else it is, a NeMo 2 checkpoint for one
        config = archive.config()
        mm_cfg: Mapping[str, Any] = config.get("mm_cfg") or {}
        if not mm_cfg:
            raise ConfigurationError(f"{request.source} is no NeVA: model_config.yaml has no mm_cfg.")
        refuse_by_config(config)
        find_ranks(archive)
        facts = read_model_settings(config)
        tensors = read_weights(archive, read_text_model(config).shape)
        kind = str(mm_cfg.get("mm_mlp_adapter_type", "linear"))
        projector, activation = projector_state(tensors, kind)
        base = _base(request, config)
        tokenizer, added = _tokenizer(request, archive, config, base, facts)
        language = _language(archive, config, tensors, base, tokenizer, added)
        tower = _tower(request, mm_cfg, tensors)
        state = {**language.state, **projector, **tower.state}
        pixels = tower.pixels
        if request.legacy_bgr:
            state, pixels = reverse_channels(state), pixels.reversed()
        llava = _llava_config(language.config, tower.config, mm_cfg, activation, tokenizer, facts)
        _check_fit(llava, projector, mm_cfg)
        write_llava(folder, state, llava, tokenizer, image_token(tokenizer, facts), pixels, facts)
    log.info("%s holds the model: %d tensors.", request.out, len(state))
    return request.out


def refuse_by_config(config: Mapping[str, Any]) -> None:
    """Refuse what the configuration alone says can't be imported."""
    mm_cfg = config["mm_cfg"]
    tower = mm_cfg.get("vision_encoder") or {}
    if mm_cfg.get("use_lita"):
        raise ConfigurationError("LITA's time tokens are not imported: plain Video NeVA is", path="mm_cfg.use_lita")
    if not tower.get("from_hf", True):
        raise ConfigurationError(
            "a tower of NeMo's own CLIP is not imported: towers of Hugging Face are",
            path="mm_cfg.vision_encoder.from_hf",
        )
    if (config.get("peft") or {}).get("peft_scheme"):
        raise ConfigurationError(
            "LoRA and other adapters are not imported: merge them into the model with NeMo", path="peft.peft_scheme"
        )
    if config.get("virtual_pipeline_model_parallel_size"):
        raise ConfigurationError(
            "virtual pipelines are not imported: save the model without", path="virtual_pipeline_model_parallel_size"
        )


def read_model_settings(config: Mapping[str, Any]) -> ModelSettings:
    """Return what the checkpoint says about prompts and frames, from where each generation wrote it."""
    mm_cfg, data = config["mm_cfg"], dict(config.get("data") or {})
    model_type = str((mm_cfg.get("llm") or {}).get("model_type") or mm_cfg.get("model_type") or "nvgpt")
    template = str(data.pop("conv_template", None) or model_type)
    template = template if template in TEMPLATES else model_type
    shown = {key: value for key, value in without_ignored(data).items() if key in ModelSettings.model_fields}
    try:
        return ModelSettings.model_validate(
            {
                **shown,
                "conv_template": template if template in TEMPLATES else "nvgpt",
                "model_type": model_type,
                "use_im_start_end": bool(mm_cfg.get("use_im_start_end", False)),
            }
        )
    except ValueError as error:
        raise ConfigurationError(str(error), path="data") from error


def image_token(tokenizer: Any, facts: ModelSettings) -> str:
    """Return the token that a frame's patches are in the vocabulary: NeVA's patch token, else LLaVA's."""
    vocabulary = tokenizer.get_vocab()
    return next((name for name in (span_tokens_of(facts.model_type).patch, "<image>") if name in vocabulary), "<image>")


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """Give a folder beside ``out`` that becomes it when all went well."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigurationError(f"{out} is there already and is not empty.")
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        yield folder
        folder.chmod(0o755)
        folder.replace(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _base(request: ImportRequest, config: Mapping[str, Any]) -> Path | None:
    """Return where the base model is, if anyone says."""
    named = request.base_model or (config["mm_cfg"].get("llm") or {}).get("from_pretrained")
    if not named:
        return None
    path = Path(str(named))
    if path.exists():
        return path
    return model_folder(str(named), key="base_model_file") if request.base_model else None


def _tokenizer(
    request: ImportRequest, archive: NemoArchive, config: Mapping[str, Any], base: Path | None, facts: ModelSettings
) -> tuple[Any, int]:
    """Return the tokenizer and how many tokens it had to be given: one where it has no token for frames."""
    folder = base if base is not None and (base / "config.json").is_file() else None
    tokenizer = load_tokenizer(archive, config, request.tokenizer, folder)
    added = 0
    if image_token(tokenizer, facts) not in tokenizer.get_vocab():
        added = int(tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]}))
    return tokenizer, added


def _language(
    archive: NemoArchive,
    config: Mapping[str, Any],
    tensors: Tensors,
    base: Path | None,
    tokenizer: Any,
    added: int,
) -> _Language:
    """Return the language model: the checkpoint's own where it was trained, else the base model's."""
    if any(weight.part == "embed" for weight in tensors):
        if base is not None:
            log.info("The checkpoint holds its language model; the base model is not read.")
        return _nemo_language(config, tensors, tokenizer, added)
    if base is None:
        raise ConfigurationError(_MISSING_BASE, path="base_model_file")
    if (base / "config.json").is_file():
        return _hf_language(base, tokenizer, added)
    with open_nemo(base) as other:
        own = other.config()
        return _nemo_language(own, read_weights(other, read_text_model(own).shape), tokenizer, added)


def _nemo_language(config: Mapping[str, Any], tensors: Tensors, tokenizer: Any, added: int) -> _Language:
    text = read_text_model(config)
    state = text_tensors(tensors, text, len(tokenizer))
    rows = next(tensor.shape[0] for weight, tensor in tensors.items() if weight.part == "embed")
    if rows < len(tokenizer) - added:
        raise ConfigurationError(
            f"the tokenizer has {len(tokenizer) - added} tokens, the model {rows}: they don't fit",
            path="tokenizer",
        )
    tokens = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    return _Language(state, text_config(config, text, len(tokenizer), tokens))


def _hf_language(base: Path, tokenizer: Any, added: int) -> _Language:
    from transformers import AutoConfig

    text = AutoConfig.from_pretrained(base, local_files_only=True)
    if text.model_type not in ("llama", "mistral", "nemotron"):
        raise ConfigurationError(
            f"{base} is a {text.model_type}; Llama and Nemotron are imported", path="base_model_file"
        )
    rows = max(text.vocab_size, len(tokenizer))
    if text.vocab_size < len(tokenizer) - added:
        raise ConfigurationError(
            f"the tokenizer has {len(tokenizer) - added} tokens, the model {text.vocab_size}: they don't fit",
            path="tokenizer",
        )
    state = {}
    for name, tensor in read_tensors(base):
        if name.endswith("rotary_emb.inv_freq") or (name == "lm_head.weight" and text.tie_word_embeddings):
            continue
        is_vocabulary = name in ("model.embed_tokens.weight", "lm_head.weight")
        state[f"language_model.{name}"] = fit_rows(tensor, rows) if is_vocabulary else tensor
    text.vocab_size = rows
    return _Language(state, text)


def _tower(request: ImportRequest, mm_cfg: Mapping[str, Any], tensors: Tensors) -> Tower:
    """Return the vision tower: configuration from the folder named, weights the checkpoint's where it has them."""
    from transformers import AutoConfig

    named = request.vision_tower or str((mm_cfg.get("vision_encoder") or {}).get("from_pretrained") or "")
    folder = model_folder(named, key="vision_tower")
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    config = getattr(config, "vision_config", config)
    if config.model_type not in ("clip_vision_model", "siglip_vision_model"):
        raise ConfigurationError(f"{named} is a {config.model_type}; CLIP and SigLIP are imported", path="vision_tower")
    own = {tower_name(weight.rest): tensor for weight, tensor in tensors.items() if weight.part == "tower"}
    if own:
        return Tower(config, own)
    whole = dict(read_tensors(folder))
    inner = {name: tensor for name, tensor in whole.items() if name.startswith("vision_model.")} or whole
    return Tower(config, {tower_name(name): tensor for name, tensor in inner.items() if "position_ids" not in name})


def _llava_config(
    text: Any, tower: Any, mm_cfg: Mapping[str, Any], activation: str, tokenizer: Any, facts: ModelSettings
) -> Any:
    from transformers import LlavaConfig

    encoder = mm_cfg.get("vision_encoder") or {}
    whole = encoder.get("vision_select_feature", "patch") == "cls_patch" or encoder.get("class_token_length", 1) == 0
    patches = (tower.image_size // tower.patch_size) ** 2
    config = LlavaConfig(
        vision_config=tower,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids(image_token(tokenizer, facts)),
        image_seq_length=patches,
        projector_hidden_act=activation,
        vision_feature_select_strategy="full" if whole else "default",
        vision_feature_layer=int(encoder.get("vision_select_layer", -2)),
        multimodal_projector_bias=True,
        tie_word_embeddings=bool(text.tie_word_embeddings),
    )
    config.architectures = ["LlavaForConditionalGeneration"]
    return config


def _check_fit(llava: Any, projector: Mapping[str, Any], mm_cfg: Mapping[str, Any]) -> None:
    """Refuse a tower or a language model that the projector was not trained between."""
    first, last = projector["multi_modal_projector.linear_1.weight"], projector["multi_modal_projector.linear_2.weight"]
    if first.shape[1] != llava.vision_config.hidden_size:
        raise ConfigurationError(
            f"the projector takes {first.shape[1]} channels, the tower gives {llava.vision_config.hidden_size}",
            path="vision_tower",
        )
    if last.shape[0] != llava.text_config.hidden_size:
        raise ConfigurationError(
            f"the projector gives {last.shape[0]} channels, the language model takes {llava.text_config.hidden_size}",
            path="base_model_file",
        )
    crop_px = (mm_cfg.get("vision_encoder") or {}).get("crop_size")
    if crop_px and list(crop_px) != [llava.vision_config.image_size] * 2:
        raise ConfigurationError(
            f"the checkpoint's frames are {list(crop_px)} px, the tower's {llava.vision_config.image_size} px",
            path="mm_cfg.vision_encoder.crop_size",
        )
