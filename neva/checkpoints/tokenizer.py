"""The tokenizer of a checkpoint as one of Hugging Face: the checkpoint's own, or one that the user names."""

import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from connectors.errors import ConfigurationError
from neva.checkpoints.archive import NemoArchive
from neva.checkpoints.hf_folder import model_folder

LLAVAS_TOKEN = "<image>"  # noqa: S105 - LLaVA's own token for the patches of a frame

_INSIDE = "nemo:"  # how a configuration names a file of its own archive
_WORD = "\N{LOWER ONE EIGHTH BLOCK}"  # SentencePiece's mark at the beginning of a word
# SentencePiece's numbers for kinds of models and of pieces
_UNIGRAM, _BPE = 1, 2
_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4
_SPECIAL = (_UNKNOWN, _CONTROL, _USER_DEFINED)
_PROBES = (
    "A chat between a curious user and an assistant. ",
    " [INST] What  happens?\n [/INST] \u00c9t\u00e9: \u65e5\u672c \U0001f642\t42",
    "<extra_id_0>System\n\n<extra_id_1>User\n<extra_id_4><extra_id_3><extra_id_5>\n",
)


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
    """Return a SentencePiece model as a tokenizer of Hugging Face that gives the same ids for every text.

    A text begins with SentencePiece's word mark, before a special token too, as the texts did that NeMo trained on.
    The text of one special token alone is that token: this is how its id is looked up.
    """
    from transformers import PreTrainedTokenizerFast

    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError as error:
        message = "SentencePiece is not installed, which the checkpoint's tokenizer is for"
        raise ConfigurationError(message, path="tokenizer") from error
    try:
        pieces = SentencePieceProcessor(model_proto=model)
    except RuntimeError as error:
        raise ConfigurationError(f"the tokenizer is no SentencePiece model: {error}", path="tokenizer") from error
    trained, backend = _converted(model)
    names = {"unk": trained.unk_piece, "bos": trained.bos_piece, "eos": trained.eos_piece, "pad": trained.pad_piece}
    vocabulary = backend.get_vocab()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        **{f"{role}_token": name for role, name in names.items() if name in vocabulary},
    )
    other = next((text for text in _PROBES if tokenizer.encode(text) != pieces.encode(text)), None)
    if other is not None or len(tokenizer) != pieces.get_piece_size():
        raise ConfigurationError(
            f"SentencePiece and Hugging Face's tokenizers read this model in two ways: {other or len(tokenizer)!r}",
            path="tokenizer",
        )
    return tokenizer


def _converted(model: bytes) -> tuple[Any, Any]:
    """Return what a SentencePiece model says of its training, and the tokenizer that it describes."""
    from tokenizers import Tokenizer
    from tokenizers.models import BPE, Unigram
    from transformers.convert_slow_tokenizer import SentencePieceExtractor

    with tempfile.NamedTemporaryFile(suffix=".model") as file:
        file.write(model)
        file.flush()
        extractor = SentencePieceExtractor(file.name)
    proto = extractor.proto
    trained = proto.trainer_spec
    if trained.model_type not in (_UNIGRAM, _BPE):
        raise ConfigurationError("SentencePiece models of words or characters are not read", path="tokenizer")
    kind = Unigram if trained.model_type == _UNIGRAM else BPE
    found = extractor.extract(kind)
    language: Any
    if kind is BPE:
        language = BPE(
            found["vocab"],
            found["merges"],
            unk_token=trained.unk_piece,
            fuse_unk=True,
            byte_fallback=trained.byte_fallback,
        )
    else:
        language = Unigram(found["vocab"], unk_id=trained.unk_id, byte_fallback=trained.byte_fallback)
    backend = Tokenizer(language)
    special = {piece.piece: piece.type != _USER_DEFINED for piece in proto.pieces if piece.type in _SPECIAL}
    backend.normalizer, backend.decoder = _text_steps(proto.normalizer_spec, [*special, LLAVAS_TOKEN])
    for text, is_special in special.items():
        _add(backend, text, is_special=is_special)
    return trained, backend


def _text_steps(spec: Any, alone: Sequence[str]) -> tuple[Any, Any]:
    """Return a model's normalisation, and its way back; the texts of ``alone`` get no word mark before them.

    The special tokens are found in the normalised text, so the mark can stand before one.
    """
    from tokenizers import Regex, decoders, normalizers

    steps: list[Any] = []
    if spec.precompiled_charsmap:
        steps.append(normalizers.Precompiled(spec.precompiled_charsmap))
    if spec.remove_extra_whitespaces:
        steps += [normalizers.Replace(Regex(r"\A +| +\z"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    steps.append(normalizers.Replace(" ", _WORD))
    back: list[Any] = [decoders.Replace(_WORD, " "), decoders.ByteFallback(), decoders.Fuse()]
    if spec.add_dummy_prefix:
        names = "|".join(map(re.escape, alone))
        steps.append(normalizers.Replace(Regex(rf"\A(?!(?:{names})\z)(?=[\s\S])"), _WORD))
        back.append(decoders.Strip(content=" ", left=1))
    return normalizers.Sequence(steps), decoders.Sequence(back)


def _add(backend: Any, text: str, *, is_special: bool) -> None:
    from tokenizers import AddedToken

    add = backend.add_special_tokens if is_special else backend.add_tokens
    add([AddedToken(text, normalized=True, special=is_special)])


def add_media_token(tokenizer: Any) -> int:
    """Add LLaVA's token for the patches of frames; return how many tokens were added.

    It is found where the tokenizer finds its other special tokens: in the text, or in the normalised one.
    """
    from tokenizers import AddedToken

    normalized = any(token.normalized for token in tokenizer.added_tokens_decoder.values() if token.special)
    token = AddedToken(LLAVAS_TOKEN, normalized=normalized, special=True)
    return int(tokenizer.add_special_tokens({"additional_special_tokens": [token]}))
