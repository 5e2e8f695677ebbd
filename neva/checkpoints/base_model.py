"""The language model of an imported model: the checkpoint's own where it was trained, or else the base model's.

A base model is a folder of Hugging Face's, or a NeMo checkpoint.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connectors.errors import ConfigurationError
from neva.checkpoints.archive import open_nemo
from neva.checkpoints.hf_folder import model_folder, read_tensors
from neva.checkpoints.language_model import TextModel, check_whole, fit_rows, read_text_model, text_config, text_tensors
from neva.checkpoints.lora import lora_settings
from neva.checkpoints.names import Weight
from neva.checkpoints.nemo2 import checkpoint_config
from neva.checkpoints.weights import Tensors, read_weights

log = logging.getLogger(__name__)

_MISSING_BASE = (
    "the checkpoint holds no language model (mm_cfg.llm.freeze was on): name the one it was trained with, a .nemo or a "
    "Hugging Face folder"
)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A tokenizer, and how many of its tokens were added for the import and are not in the language model yet."""

    tokenizer: Any
    added: int

    def check(self, rows: int) -> None:
        """Refuse an embedding of fewer rows than the tokenizer had tokens before any was added."""
        own = len(self.tokenizer) - self.added
        if rows < own:
            raise ConfigurationError(
                f"the tokenizer has {own} tokens, the model {rows}: they don't fit", path="tokenizer"
            )


@dataclass(frozen=True, slots=True)
class Language:
    """A language model: its weights under their names in the LLaVA layout, and its Hugging Face configuration.

    The weights are read while they are taken, once.
    """

    state: Iterable[tuple[str, Any]]
    config: Any


def find_base_model(requested: str | None, config: Mapping[str, Any]) -> Path | None:
    """Return the folder or file of the base model: the one requested, or else the one that the checkpoint names.

    None where neither names one, or where the checkpoint names one that is not on this machine.
    """
    named = requested or (config["mm_cfg"].get("llm") or {}).get("from_pretrained")
    if not named:
        return None
    path = Path(str(named))
    if path.exists():
        return path
    return model_folder(str(named), key="base_model_file") if requested else None


def read_language(config: Mapping[str, Any], tensors: Tensors, base: Path | None, vocabulary: Vocabulary) -> Language:
    """Return the language model for a checkpoint's ``config`` and ``tensors``.

    Raises:
        ConfigurationError: there is none, it is of a kind that is not imported, or the tokenizer does not fit it.
    """
    if any(weight.part == "embed" for weight in tensors):
        if base is not None:
            log.info("The checkpoint holds its language model; the base model is not read.")
        return _from_nemo(config, tensors, vocabulary)
    if base is None:
        raise ConfigurationError(_MISSING_BASE, path="base_model_file")
    if (base / "config.json").is_file():
        return _from_hugging_face(base, vocabulary)
    with open_nemo(base) as archive:
        own = checkpoint_config(archive)
        if lora_settings(own) is not None:
            raise ConfigurationError(
                "it is an adapter itself: import it first, and name its folder", path="base_model_file"
            )
        language = _from_nemo(own, read_weights(archive, read_text_model(own).shape), vocabulary)
    return Language(_nemo_state(base, read_text_model(own), len(vocabulary.tokenizer)), language.config)


def _nemo_state(base: Path, text: TextModel, rows: int) -> Iterator[tuple[str, Any]]:
    """Yield a base model's weights; its archive is open as long as they are taken."""
    with open_nemo(base) as archive:
        yield from text_tensors(read_weights(archive, text.shape), text, rows)


def _from_nemo(config: Mapping[str, Any], tensors: Tensors, vocabulary: Vocabulary) -> Language:
    text, tokenizer = read_text_model(config), vocabulary.tokenizer
    check_whole(tensors, text)
    vocabulary.check(tensors[Weight("embed", "weight")].shape[0])
    state = text_tensors(tensors, text, len(tokenizer))
    tokens = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    return Language(state, text_config(config, text, len(tokenizer), tokens))


def _from_hugging_face(base: Path, vocabulary: Vocabulary) -> Language:
    from transformers import AutoConfig

    text = AutoConfig.from_pretrained(base, local_files_only=True)
    if text.model_type not in ("llama", "mistral", "nemotron"):
        raise ConfigurationError(
            f"{base} is a {text.model_type}; Llama and Nemotron are imported", path="base_model_file"
        )
    vocabulary.check(text.vocab_size)
    rows = max(text.vocab_size, len(vocabulary.tokenizer))
    text.vocab_size = rows
    return Language(_hugging_face_state(base, rows, tied=bool(text.tie_word_embeddings)), text)


def _hugging_face_state(base: Path, rows: int, *, tied: bool) -> Iterator[tuple[str, Any]]:
    for name, tensor in read_tensors(base):
        if name.endswith("rotary_emb.inv_freq") or (name == "lm_head.weight" and tied):
            continue
        has_a_row_per_token = name in ("model.embed_tokens.weight", "lm_head.weight")
        yield f"language_model.{name}", fit_rows(tensor, rows) if has_a_row_per_token else tensor
