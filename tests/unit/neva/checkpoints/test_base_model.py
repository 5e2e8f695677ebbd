"""A projector without its language model gets it from a base model, or asks for one."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from connectors.errors import ConfigurationError  # noqa: E402
from neva.checkpoints.import_nemo import ImportRequest, import_nemo  # noqa: E402
from testing import nemo_checkpoints as made  # noqa: E402
from testing.nemo_checkpoints import Checkpoint  # noqa: E402
from tests.unit.neva.checkpoints.nemo_parts import Parts, assert_same, weights  # noqa: E402


def test_a_projector_and_a_base_model_of_hugging_face(parts: Parts, tmp_path: Path) -> None:
    base = tmp_path / "llama"
    base.mkdir()
    write_hf_llama(base, parts)
    checkpoint = parts.checkpoint(parts.projector, tokenizer={})

    source = checkpoint.as_tar(tmp_path / "a.nemo")
    folder = import_nemo(ImportRequest(source, tmp_path / "model", base_model=str(base)))

    assert_same(weights(folder), parts.expected())


def write_hf_llama(folder: Path, parts: Parts) -> None:
    from safetensors.torch import save_file
    from transformers import LlamaConfig

    LlamaConfig(
        vocab_size=len(parts.tokenizer),
        hidden_size=made.HIDDEN,
        intermediate_size=made.INNER,
        num_hidden_layers=made.LAYERS,
        num_attention_heads=made.HEADS,
        num_key_value_heads=made.GROUPS,
        head_dim=made.HEAD_DIM,
    ).save_pretrained(folder)
    save_file(parts.language, folder / "model.safetensors", metadata={"format": "pt"})
    parts.tokenizer.save_pretrained(folder)


def test_a_projector_and_a_base_model_of_nemo(parts: Parts, tmp_path: Path) -> None:
    base = Checkpoint(parts.config(mm_cfg=None), made.layout(made.to_mcore(parts.language), "mp_rank"))
    named = base.as_tar(tmp_path / "llama.nemo")
    checkpoint = parts.checkpoint(parts.projector)

    source = checkpoint.as_folder(tmp_path / "projector")
    folder = import_nemo(ImportRequest(source, tmp_path / "model", base_model=str(named)))

    assert_same(weights(folder), parts.expected())


def test_a_projector_alone_asks_for_its_base_model(parts: Parts, tmp_path: Path) -> None:
    source = parts.checkpoint(parts.projector).as_tar(tmp_path / "a.nemo")

    with pytest.raises(ConfigurationError, match="base_model_file: the checkpoint holds no language model"):
        import_nemo(ImportRequest(source, tmp_path / "model"))

    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nemo"]
