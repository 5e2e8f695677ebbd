"""Checkpoints in every layout come out with the numbers that went in; what can't be imported is refused by name."""

import io
import json
import pickle
import tarfile
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from connectors.errors import ConfigurationError  # noqa: E402
from neva.checkpoints.archive import open_nemo  # noqa: E402
from neva.checkpoints.import_nemo import ImportRequest, import_nemo  # noqa: E402
from neva.checkpoints.llava import read_facts  # noqa: E402
from testing import nemo_checkpoints as made  # noqa: E402
from testing.nemo_checkpoints import CONTAINERS, Checkpoint  # noqa: E402


class Parts:
    """A tower, a tokenizer and a language model, made once."""

    def __init__(self, parent: Path) -> None:
        self.tower_folder, self.tokenizer_folder = parent / "clip", parent / "tokenizer"
        self.tower = made.make_tower(self.tower_folder)
        self.tokenizer = made.make_tokenizer(self.tokenizer_folder)
        self.language = made.make_language(len(self.tokenizer))
        self.projector = made.make_projector()

    def config(self, **changes: Any) -> dict[str, Any]:
        return made.model_config(self.tower_folder, self.tokenizer_folder, **changes)

    def checkpoint(self, state: made.State, layout: str = "single", **changes: Any) -> Checkpoint:
        gated = changes.get("activation", "fast-swiglu") == "fast-swiglu"
        return Checkpoint(self.config(**changes), made.layout(state, layout, gated=gated))

    def expected(self, language: made.State | None = None) -> made.State:
        wanted = {f"language_model.{name}": tensor for name, tensor in (language or self.language).items()}
        names = {"0.": "linear_1.", "2.": "linear_2."}
        for name, tensor in self.projector.items():
            rest = name.removeprefix(f"{made.ADAPTER}.")
            wanted[f"multi_modal_projector.{names[rest[:2]]}{rest[2:]}"] = tensor
        return wanted | self.tower


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return Parts(tmp_path_factory.mktemp("parts"))


def weights(folder: Path) -> made.State:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def assert_same(found: made.State, wanted: made.State) -> None:
    assert sorted(found) == sorted(wanted)
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name


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


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_container(parts: Parts, tmp_path: Path, container: str) -> None:
    checkpoint = parts.checkpoint(made.to_mcore(parts.language) | parts.projector, "mp_rank")

    folder = import_nemo(ImportRequest(CONTAINERS[container](checkpoint, tmp_path), tmp_path / "model"))

    assert_same(weights(folder), parts.expected())


def test_nemotron(parts: Parts, tmp_path: Path) -> None:
    language = made.make_language(len(parts.tokenizer), nemotron=True)
    nemotron = {"normalization": "layernorm1p", "activation": "squared-relu", "rotary_percentage": 0.5}
    checkpoint = parts.checkpoint(made.to_mcore(language) | parts.projector, "tp_pp", **nemotron)

    folder = import_nemo(ImportRequest(checkpoint.as_tar(tmp_path / "a.nemo"), tmp_path / "model"))

    assert_same(weights(folder), parts.expected(language))
    text = json.loads((folder / "config.json").read_text())["text_config"]
    assert (text["model_type"], text["hidden_act"]) == ("nemotron", "relu2")
    assert text["rope_parameters"]["partial_rotary_factor"] == 0.5


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
        ({"peft": {"peft_scheme": "lora"}}, "LoRA and other adapters are not imported"),
        ({"virtual_pipeline_model_parallel_size": 2}, "virtual pipelines are not imported"),
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


@pytest.mark.parametrize(
    ("others", "message"),
    [
        (
            {"./model_weights/metadata.json": b"{}", "./model_weights/.metadata": b""},
            r"distributed checkpoint \(torch_dist",
        ),
        ({"./model_weights/metadata.json": b"{}", "./model_weights/a/.zarray": b""}, r"distributed checkpoint \(zarr"),
        ({"./weights/x": b"", "./context/model.yaml": b""}, "a NeMo 2 checkpoint"),
        ({"./readme": b""}, "holds no weights"),
        ({"./mp_rank_01/model_weights.ckpt": b""}, "lacks tensor rank 0 of pipeline rank 0"),
    ],
)
def test_other_layouts_are_named(parts: Parts, tmp_path: Path, others: dict[str, bytes], message: str) -> None:
    source = Checkpoint(parts.config(), {}, others).as_tar(tmp_path / "a.nemo")

    with pytest.raises(ConfigurationError, match=message):
        import_nemo(ImportRequest(source, tmp_path / "model"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.decoder.layers.0.self_attention.adapter_layer.lora_kqv_adapter.linear_in.weight", "LoRA adapters"),
        ("model.decoder.layers.0.mlp.experts.local_experts.0.linear_fc1.weight", "mixture of experts"),
        ("model.embedding.position_embeddings.weight", "no Llama or Nemotron of NeMo has"),
    ],
)
def test_other_weights_are_named(parts: Parts, tmp_path: Path, name: str, message: str) -> None:
    state = made.to_mcore(parts.language) | parts.projector | {name: torch.zeros(2, 2)}

    with pytest.raises(ConfigurationError, match=message):
        import_nemo(ImportRequest(parts.checkpoint(state).as_tar(tmp_path / "a.nemo"), tmp_path / "model"))


def test_a_nemo_2_checkpoint_is_named_though_it_has_no_configuration_of_the_first(tmp_path: Path) -> None:
    for name in ("weights/.metadata", "weights/__0_0.distcp", "context/model.yaml"):
        (tmp_path / "neva" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "neva" / name).touch()

    with pytest.raises(ConfigurationError, match=r"is a NeMo 2 checkpoint: .*export_ckpt"):
        import_nemo(ImportRequest(tmp_path / "neva", tmp_path / "model"))


def test_the_ranks_of_a_virtual_pipeline_are_named(parts: Parts, tmp_path: Path) -> None:
    halves = {"model0": parts.projector, "model1": made.to_mcore(parts.language)}
    checkpoint = Checkpoint(parts.config(), {"model_weights.ckpt": halves})  # type: ignore[dict-item]

    with pytest.raises(ConfigurationError, match=r"of a virtual pipeline \(model0, model1\)"):
        import_nemo(ImportRequest(checkpoint.as_tar(tmp_path / "a.nemo"), tmp_path / "model"))


def test_names_of_wrapped_models_and_of_the_first_projector(parts: Parts, tmp_path: Path) -> None:
    state = made.to_mcore(parts.language) | made.make_projector("linear")
    renamed = {
        name.replace("model.", "model.module.", 1).replace(
            "mm_projector_adapter.mm_projector", "mm_linear_adapter.linear"
        ): tensor
        for name, tensor in state.items()
    }
    mm_cfg = parts.config()["mm_cfg"] | {"mm_mlp_adapter_type": "linear"}
    sources = [parts.checkpoint(one, mm_cfg=mm_cfg) for one in (state, renamed)]

    plain, wrapped = (
        import_nemo(ImportRequest(source.as_tar(tmp_path / f"{number}.nemo"), tmp_path / str(number)))
        for number, source in enumerate(sources)
    )

    assert_same(weights(wrapped), weights(plain))


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("a checkpoint ran code",))


def test_a_checkpoint_runs_nothing(parts: Parts, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    buffer = io.BytesIO()
    torch.save({"model.output_layer.weight": Hostile()}, buffer)
    pickled = pickle.dumps(Hostile(), protocol=2)

    for content in (buffer.getvalue(), pickled, b"junk"):
        source = Checkpoint(parts.config(), {}, {"./model_weights.ckpt": content}).as_tar(tmp_path / "a.nemo")
        with pytest.raises(ConfigurationError, match="is refused"):
            import_nemo(ImportRequest(source, tmp_path / "model"))

    assert "ran code" not in capsys.readouterr().out


def test_states_of_other_libraries_are_dropped(parts: Parts, tmp_path: Path) -> None:
    state = made.to_mcore(parts.language) | parts.projector
    state["model.decoder.layers.0.self_attention.core_attention._extra_state"] = io.BytesIO(b"fp8")  # type: ignore[assignment]

    folder = import_nemo(ImportRequest(parts.checkpoint(state).as_tar(tmp_path / "a.nemo"), tmp_path / "model"))

    assert_same(weights(folder), parts.expected())


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([member("../model_config.yaml")], "leads out of the archive"),
        ([member("/etc/model_config.yaml")], "leads out of the archive"),
        ([member("a/../../b")], "leads out of the archive"),
        ([member("model_config.yaml", tarfile.SYMTYPE, "/etc/hostname")], "neither a file nor a folder"),
        ([member("model_config.yaml", tarfile.LNKTYPE, "b")], "neither a file nor a folder"),
        ([member("model_config.yaml", tarfile.FIFOTYPE)], "neither a file nor a folder"),
        ([member("model_config.yaml"), member("./model_config.yaml")], "comes twice"),
    ],
)
def test_hostile_archives_are_refused(tmp_path: Path, members: list[tarfile.TarInfo], message: str) -> None:
    with tarfile.open(tmp_path / "a.nemo", "w") as archive:
        for info in members:
            archive.addfile(info)

    with pytest.raises(ConfigurationError, match=message), open_nemo(tmp_path / "a.nemo"):
        pass


def test_a_damaged_archive_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "a.nemo").write_bytes(b"not a tar")

    with pytest.raises(ConfigurationError, match=r"is no \.nemo file"), open_nemo(tmp_path / "a.nemo"):
        pass


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
    assert tokenizer.encode(marked, add_special_tokens=False) == pieces.encode(marked)[1:]
    ends = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
    assert ends == [pieces.eos_id(), pieces.piece_to_id("<extra_id_7>")]
    assert tokenizer.encode("a red circle", add_special_tokens=False) == pieces.encode("a red circle")
    assert_same(weights(folder), parts.expected(language))
