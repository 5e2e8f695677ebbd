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
