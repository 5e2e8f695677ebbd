"""The tokenizer of a checkpoint."""

import io
import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from neva.checkpoints.import_nemo import ImportRequest, import_nemo  # noqa: E402
from testing import nemo_checkpoints as made  # noqa: E402
from tests.unit.neva.checkpoints.nemo_parts import Parts, assert_same, weights  # noqa: E402


def test_a_sentencepiece_tokenizer_comes_out_of_the_archive(parts: Parts, tmp_path: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a red square moves to the left", "a blue circle moves down"] * 20),
        model_writer=model,
        vocab_size=400,
        byte_fallback=True,
        model_type="bpe",
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        hard_vocab_limit=False,
        user_defined_symbols=made.MARKS,
        minloglevel=2,
    )
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    name = f"{'0' * 32}_tokenizer.model"
    language = made.make_language(pieces.get_piece_size())
    checkpoint = parts.checkpoint(
        made.to_mcore(language) | parts.projector,
        tokenizer={"library": "sentencepiece", "model": f"nemo:{name}"},
    )
    checkpoint.others[f"./{name}"] = model.getvalue()

    folder = import_nemo(ImportRequest(checkpoint.as_tar(tmp_path / "a.nemo"), tmp_path / "model"))

    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    assert config["text_config"]["vocab_size"] == pieces.get_piece_size()
    assert config["image_token_index"] == pieces.piece_to_id("<extra_id_3>")
    marked = "<extra_id_1>red to the <extra_id_2>left\na red circle<extra_id_7>"
    assert tokenizer.encode(marked, add_special_tokens=False) == pieces.encode(marked)
    ends = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
    assert ends == [pieces.eos_id(), pieces.piece_to_id("<extra_id_7>")]
    assert tokenizer.encode("a red circle", add_special_tokens=False) == pieces.encode("a red circle")
    assert_same(weights(folder), parts.expected(language))


KINDS = {
    "as Llama's": {"model_type": "bpe", "byte_fallback": True, "normalization_rule_name": "identity"},
    "byte pairs, normalised": {"model_type": "bpe", "byte_fallback": True},
    "unigrams": {"model_type": "unigram"},
    "no mark at the beginning": {"model_type": "bpe", "byte_fallback": True, "add_dummy_prefix": False},
}
TEXTS = [
    *(
        "A chat between a user and an assistant. USER:",
        " [INST] What happens? [/INST] A dog",
        "",
        "  a  dog ",
        "\n\n a\t",
    ),
    *(
        "<extra_id_0>System\n\n<extra_id_1>User\n",
        "<extra_id_6> [INST] a",
        "a <extra_id_1> ",
        "a<extra_id_3><extra_id_3> b",
    ),
    *("\u00c9t\u00e9 \ufb01ne \u65e5\u672c \U0001f642", "x", "<extra_id_1", "red<extra_id_7>blue"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_sentencepiece_model_gives_its_own_ids_for_every_text(kind: str, tmp_path: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    from transformers import AutoTokenizer

    from neva.checkpoints.tokenizer import add_media_token, load_tokenizer

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a red square moves to the left", "What happens? A dog runs", "USER: it is"] * 20),
        model_prefix=str(tmp_path / "a"),
        vocab_size=400 if "byte_fallback" in KINDS[kind] else 60,
        hard_vocab_limit=False,
        user_defined_symbols=made.MARKS,
        minloglevel=2,
        **KINDS[kind],
    )
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "a.model"))
    made_of_it = load_tokenizer(None, {}, str(tmp_path / "a.model"), None)  # type: ignore[arg-type]

    assert add_media_token(made_of_it) == 1
    made_of_it.save_pretrained(tmp_path / "folder")
    for tokenizer in (made_of_it, AutoTokenizer.from_pretrained(tmp_path / "folder")):
        for text in TEXTS:
            assert tokenizer.encode(text, add_special_tokens=False) == pieces.encode(text), text
        assert tokenizer.encode("<extra_id_3>") == [pieces.piece_to_id("<extra_id_3>")]
        assert tokenizer.convert_ids_to_tokens(tokenizer.encode("a<image>red"))[-2:] != ["<image>", "\u2581red"]
        assert tokenizer.decode(tokenizer.encode("What happens?")) == "What happens?"
