"""The import keeps every number of a checkpoint, and refuses by name a model that it can't take."""

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from connectors.errors import ConfigurationError  # noqa: E402
from neva.checkpoints.import_nemo import ImportRequest, import_nemo  # noqa: E402
from neva.checkpoints.model_facts import read_facts  # noqa: E402
from testing import nemo_checkpoints as made  # noqa: E402
from tests.unit.neva.checkpoints.nemo_parts import Parts, assert_same, weights  # noqa: E402


@pytest.mark.parametrize("layout", ["single", "mp_rank", "tp_pp"])
@pytest.mark.parametrize("generation", ["mcore", "legacy"])
def test_round_trip_of_every_layout(parts: Parts, tmp_path: Path, generation: str, layout: str) -> None:
    state = made.to_mcore(parts.language) | parts.projector
    if generation == "legacy":
        state = made.to_legacy(state)
    source = parts.checkpoint(state, layout).as_tar(tmp_path / "neva.nemo")

    folder = import_nemo(ImportRequest(source, tmp_path / "model"))

    assert_same(weights(folder), parts.expected())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "neva.nemo"]


def test_nemotron(parts: Parts, tmp_path: Path) -> None:
    language = made.make_language(len(parts.tokenizer), nemotron=True)
    nemotron = {"normalization": "layernorm1p", "activation": "squared-relu", "rotary_percentage": 0.5}
    checkpoint = parts.checkpoint(made.to_mcore(language) | parts.projector, "tp_pp", **nemotron)

    folder = import_nemo(ImportRequest(checkpoint.as_tar(tmp_path / "a.nemo"), tmp_path / "model"))

    assert_same(weights(folder), parts.expected(language))
    text = json.loads((folder / "config.json").read_text())["text_config"]
    assert (text["model_type"], text["hidden_act"]) == ("nemotron", "relu2")
    assert text["rope_parameters"]["partial_rotary_factor"] == 0.5


def test_a_linear_projector_is_the_same_numbers(parts: Parts, tmp_path: Path) -> None:
    linear = made.make_projector("linear")
    mm_cfg = parts.config()["mm_cfg"] | {"mm_mlp_adapter_type": "linear"}
    checkpoint = parts.checkpoint(made.to_mcore(parts.language) | linear, mm_cfg=mm_cfg)

    folder = import_nemo(ImportRequest(checkpoint.as_tar(tmp_path / "a.nemo"), tmp_path / "model"))

    found = weights(folder)
    seen = torch.randn(5, made.TOWER, dtype=torch.bfloat16)
    first = seen @ found["multi_modal_projector.linear_1.weight"].T + found["multi_modal_projector.linear_1.bias"]
    second = first @ found["multi_modal_projector.linear_2.weight"].T + found["multi_modal_projector.linear_2.bias"]
    wanted = seen @ linear[f"{made.ADAPTER}.weight"].T + linear[f"{made.ADAPTER}.bias"]
    assert torch.equal(second, wanted)
    assert json.loads((folder / "config.json").read_text())["projector_hidden_act"].endswith(".Identity")


def test_a_tower_that_was_trained_is_inside(parts: Parts, tmp_path: Path) -> None:
    prefix = "model.embedding.word_embeddings.vision_encoder."
    trained = {name: tensor + 1 for name, tensor in parts.tower.items()}
    inside = {prefix + name.removeprefix("vision_tower."): tensor for name, tensor in trained.items()}
    checkpoint = parts.checkpoint(made.to_mcore(parts.language) | parts.projector | inside)

    folder = import_nemo(ImportRequest(checkpoint.as_tar(tmp_path / "a.nemo"), tmp_path / "model"))

    assert_same(weights(folder), parts.expected() | trained)


def test_the_first_generations_channel_order_is_turned_round_in_the_tower(parts: Parts, tmp_path: Path) -> None:
    checkpoint = parts.checkpoint(made.to_mcore(parts.language) | parts.projector)

    source = checkpoint.as_tar(tmp_path / "a.nemo")
    folder = import_nemo(ImportRequest(source, tmp_path / "model", legacy_bgr=True))

    first = "vision_tower.vision_model.embeddings.patch_embedding.weight"
    assert torch.equal(weights(folder)[first], parts.tower[first].flip(1))
    scaled = json.loads((folder / "preprocessor_config.json").read_text())
    assert scaled["image_mean"] == [0.40821073, 0.4578275, 0.48145466]


@pytest.mark.parametrize(
    ("version", "media_type", "asked", "turned", "key"),
    [
        ("2.0.0rc0", "video", None, True, "text"),
        ("2.0.0rc0", "video", False, False, "text"),
        ("2.0.0rc0", "image", None, False, "pred_answer"),
        ("2.0.0rc1", "video", None, False, "pred_answer"),
        (None, "video", None, False, "pred_answer"),
        (None, "video", True, True, "pred_answer"),
    ],
)
def test_the_generation_is_known_by_the_version_of_nemo(
    parts: Parts,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    version: str | None,
    media_type: str,
    asked: bool | None,
    turned: bool,
    key: str,
) -> None:
    data = parts.config()["data"] | {"media_type": media_type, "splice_single_frame": None}
    checkpoint = parts.checkpoint(made.to_mcore(parts.language) | parts.projector, data=data, nemo_version=version)
    source = checkpoint.as_tar(tmp_path / "a.nemo")

    with caplog.at_level("INFO"):
        folder = import_nemo(ImportRequest(source, tmp_path / "model", legacy_bgr=asked))

    first = "vision_tower.vision_model.embeddings.patch_embedding.weight"
    assert torch.equal(weights(folder)[first], parts.tower[first].flip(1) if turned else parts.tower[first])
    assert read_facts(folder).answer_key == key
    said = "is of NeMo 2.0.0rc0, whose NeVA took blue for red in videos" in caplog.text
    assert said == (turned and asked is None)


def test_what_the_folder_says_of_itself(parts: Parts, tmp_path: Path) -> None:
    data = parts.config()["data"] | {"image_aspect_ratio": "pad", "splice_single_frame": "middle"}
    checkpoint = parts.checkpoint(made.to_mcore(parts.language) | parts.projector, data=data)

    folder = import_nemo(ImportRequest(checkpoint.as_tar(tmp_path / "a.nemo"), tmp_path / "model"))

    facts = read_facts(folder)
    assert (facts.conv_template, facts.num_frames, facts.splice_single_frame) == ("v1", 4, "middle")
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["LlavaForConditionalGeneration"]
    assert config["image_token_index"] == parts.tokenizer.convert_tokens_to_ids("<extra_id_3>")
    assert config["vision_feature_layer"] == -2
    assert config["text_config"]["vocab_size"] == len(parts.tokenizer)
    assert config["text_config"]["rms_norm_eps"] == 1e-6
    assert config["text_config"]["rope_parameters"]["rope_theta"] == 20000
    scaled = json.loads((folder / "preprocessor_config.json").read_text())
    assert (scaled["image_processor_type"], scaled["do_pad"]) == ("LlavaImageProcessor", True)


def test_transformers_loads_it_and_its_template_writes_nevas_prompt(parts: Parts, tmp_path: Path) -> None:
    from transformers import AutoProcessor, LlavaForConditionalGeneration

    checkpoint = parts.checkpoint(made.to_mcore(parts.language) | parts.projector)
    folder = import_nemo(ImportRequest(checkpoint.as_tar(tmp_path / "a.nemo"), tmp_path / "model"))

    processor = AutoProcessor.from_pretrained(folder)
    asked = [{"role": "user", "content": [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "What?"}]}]
    prompt = processor.tokenizer.apply_chat_template(asked, tokenize=False)
    _, report = LlavaForConditionalGeneration.from_pretrained(folder, output_loading_info=True)

    assert prompt.endswith(" USER: <extra_id_3><extra_id_3>What? ASSISTANT:")
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    inputs = processor.image_processor([torch.zeros(3, 40, 30, dtype=torch.uint8)], return_tensors="pt")
    assert inputs["pixel_values"].shape == (1, 3, 28, 28)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activation": "gelu"}, "activation: gelu.* is neither a Llama nor a Nemotron"),
        ({"mm_cfg": {"mm_mlp_adapter_type": "mlp_downsample"}}, "mlp_downsample is not imported"),
        ({"mm_cfg": {"mm_mlp_adapter_type": "mlp3x_gelu"}}, "mlp3x_gelu is not imported: linear and mlp2x_gelu are"),
        ({"mm_cfg": {"use_lita": True}}, "LITA's time tokens are not imported"),
        ({"mm_cfg": {"vision_encoder": {"from_hf": False}}}, "a tower of NeMo's own CLIP is not imported"),
        ({"peft": {"peft_scheme": "ptuning"}}, "adapters of the scheme ptuning are not imported"),
        (
            {"virtual_pipeline_model_parallel_size": 2},
            "virtual pipelines are imported from distributed",
        ),
        ({"mm_cfg": None}, "is no NeVA"),
        ({"data": {"num_frames": -1}}, "every frame"),
    ],
)
def test_what_a_configuration_can_not_have_is_refused(
    parts: Parts, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    if changes.get("mm_cfg"):
        changes = {"mm_cfg": parts.config()["mm_cfg"] | changes["mm_cfg"]}
    checkpoint = parts.checkpoint(made.to_mcore(parts.language) | parts.projector, **changes)

    with pytest.raises(ConfigurationError, match=message):
        import_nemo(ImportRequest(checkpoint.as_tar(tmp_path / "a.nemo"), tmp_path / "model"))


def test_a_folder_that_is_there_is_left_alone(parts: Parts, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine").touch()
    source = parts.checkpoint(parts.projector).as_tar(tmp_path / "a.nemo")

    with pytest.raises(ConfigurationError, match="is there already"):
        import_nemo(ImportRequest(source, tmp_path / "model"))


def test_parts_that_do_not_fit_are_named(parts: Parts, tmp_path: Path) -> None:
    wide = {
        name: torch.zeros(made.HIDDEN, 48) if name.endswith("0.weight") else t for name, t in parts.projector.items()
    }
    checkpoint = parts.checkpoint(made.to_mcore(parts.language) | wide)

    with pytest.raises(ConfigurationError, match="the projector takes 48 channels, the tower gives 64"):
        import_nemo(ImportRequest(checkpoint.as_tar(tmp_path / "a.nemo"), tmp_path / "model"))
