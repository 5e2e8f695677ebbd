"""The tokenizer of a checkpoint as one of Hugging Face: the checkpoint's own, or one that the user names."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from connectors.errors import ConfigurationError
from neva.checkpoints.archive import NemoArchive
from neva.checkpoints.hf_folder import model_folder

_INSIDE = "nemo:"  # how a configuration names a file of its own archive


def load_tokenizer(archive: NemoArchive, config: Mapping[str, Any], named: str | None, base: Path | None) -> Any:
    """Return the tokenizer.

    ``named`` is a folder, a SentencePiece ``.model`` or a name that Hugging Face's client knows. Where it is None, the
    first of these is taken: the checkpoint's own file, the name that the checkpoint gives, the base model's folder.

    Raises:
        ConfigurationError: there is none, or it can't be read.
    """
    if named is not None:
        return _from_model(Path(named).read_bytes()) if named.endswith(".model") else _from_folder(named)
    section: Mapping[str, Any] = config.get("tokenizer") or {}
    if (inside := str(section.get("model") or "")).startswith(_INSIDE):
        return _from_model(archive.read(inside.removeprefix(_INSIDE)))
    if section.get("library") == "huggingface" and section.get("type"):
        return _from_folder(str(section["type"]))
    if base is not None:
        return _from_folder(str(base))
    raise ConfigurationError(
        "the checkpoint holds no tokenizer: name a folder or a SentencePiece .model", path="tokenizer"
    )


def _from_folder(source: str) -> Any:
    from transformers import AutoTokenizer

    folder = model_folder(source, key="tokenizer")
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{source} holds no tokenizer: {error}", path="tokenizer") from error


def _from_model(model: bytes) -> Any:
    """Return a SentencePiece model as a Llama tokenizer that adds nothing at either end, as NeMo's does.

    Ids are those of SentencePiece, with one exception: SentencePiece puts a space before a special token at the
    beginning of a text, and this tokenizer does not.
    """
    from transformers import LlamaTokenizer

    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError as error:
        message = "SentencePiece is not installed, which the checkpoint's tokenizer is for"
        raise ConfigurationError(message, path="tokenizer") from error
    try:
        pieces = SentencePieceProcessor(model_proto=model)
    except RuntimeError as error:
        raise ConfigurationError(f"the tokenizer is no SentencePiece model: {error}", path="tokenizer") from error
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.model"
        path.write_bytes(model)
        tokenizer = LlamaTokenizer.from_pretrained(folder, legacy=False, add_bos_token=False, add_eos_token=False)
    if len(tokenizer) != pieces.get_piece_size():
        raise ConfigurationError(
            f"the tokenizer has {pieces.get_piece_size()} pieces, its conversion {len(tokenizer)}", path="tokenizer"
        )
    return tokenizer
