"""The parts that training starts from, each kind of them, frozen or not, and the models that it writes."""

import json

import pytest
import torch

from connectors.errors import ConfigurationError
from daemon.engines.model.bundled import bundled_model
from neva.checkpoints.model_folder.hf_folder import read_tensors
from neva.conversations import Turn
from neva.training.config_file import read_training_settings
from neva.training.conversation_task import ConversationTask
from neva.training.dataset.records import TrainingRecord
from neva.training.samples import IGNORED, Collate, ConversationEncoder
from testing import nemo_checkpoints as nemo_fixtures
from testing import tiny_models
from testing.repository import ROOT
from tests.pipeline.training.bench import MARKS, STEPS, Bench, changed

pytestmark = MARKS


@pytest.mark.parametrize(
    ("freeze", "learns"),
    [
        (("llm", "vision_encoder"), {"projector"}),
        (("vision_encoder", "projector"), {"llm"}),
        (("llm", "projector"), {"tower"}),
    ],
)
def test_what_is_frozen_stays(bench: Bench, freeze: tuple[str, ...], learns: set[str]) -> None:
    keys = {"llm": "llm.freeze", "vision_encoder": "vision_encoder.freeze", "projector": "freeze_mm_mlp_adapter"}
    overrides = [f"model.mm_cfg.{key}={str(part in freeze).lower()}" for part, key in keys.items()]

    model = bench.train(bench.config("run", "model.restore_from_path=bundled", "trainer.max_steps=1", *overrides))

    assert changed(model, bundled_model()) == learns


def test_with_everything_frozen_there_is_nothing_to_learn(bench: Bench) -> None:
    with pytest.raises(ConfigurationError, match="every part is frozen"):
        bench.train(bench.fresh("run", "model.mm_cfg.freeze_mm_mlp_adapter=true"))


def test_a_linear_projector_is_served_as_vllm_knows_it_and_loads_again(bench: Bench) -> None:
    linear = bench.train(bench.fresh("linear", "model.mm_cfg.mm_mlp_adapter_type=linear"))
    again = bench.train(bench.config("again", f"model.restore_from_path={linear}"))

    assert json.loads((linear / "config.json").read_text())["projector_hidden_act"].endswith("Identity")
    second = "multi_modal_projector.linear_2"
    for model in (linear, again):
        tensors = dict(read_tensors(model))
        assert torch.equal(tensors[f"{second}.weight"], torch.eye(len(tensors[f"{second}.weight"])))
        assert not tensors[f"{second}.bias"].any()


def test_a_trained_projector_is_taken_from_a_folder_or_a_file(bench: Bench) -> None:
    from safetensors.torch import save_file

    tensors = {n: t for n, t in read_tensors(bundled_model()) if n.startswith("multi_modal_projector.")}
    save_file(tensors, bench.folder / "own.safetensors")
    names = {"linear_1": "model.mm_projector.0", "linear_2": "model.mm_projector.2"}
    theirs = {names[n.split(".")[1]] + "." + n.split(".")[2]: t for n, t in tensors.items()}
    torch.save(theirs, bench.folder / "mm_projector.bin")

    for number, named in enumerate(("bundled", bench.folder / "own.safetensors", bench.folder / "mm_projector.bin")):
        adapter = f"model.mm_cfg.pretrain_mm_mlp_adapter={named}"
        model = bench.train(bench.fresh(f"run{number}", "trainer.max_steps=0", adapter))
        assert changed(model, bundled_model()) == set()
    other = bench.folder / "other.safetensors"
    save_file({"mm_projector.0.weight": torch.zeros(3, 3)}, other)
    with pytest.raises(ConfigurationError, match=r"pretrain_mm_mlp_adapter: .* holds a projector of"):
        bench.train(bench.fresh("other", f"model.mm_cfg.pretrain_mm_mlp_adapter={other}"))


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_a_plain_llama_and_a_tower_become_a_video_neva(bench: Bench, family: str) -> None:
    from transformers import LlavaForConditionalGeneration, SiglipVisionConfig, SiglipVisionModel

    tower, llm = bench.folder / family, tiny_models.build("llama", bench.folder)
    if family == "clip":
        nemo_fixtures.make_tower(tower)
    else:
        size = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
        SiglipVisionModel(SiglipVisionConfig(**size, image_size=28, patch_size=14)).save_pretrained(tower)
    parts = [f"model.mm_cfg.llm.from_pretrained={llm}", f"model.mm_cfg.vision_encoder.from_pretrained={tower}"]

    model = bench.train(bench.config("run", *parts, "model.mm_cfg.mm_mlp_adapter_type=mlp2x_gelu"))

    loaded, report = LlavaForConditionalGeneration.from_pretrained(model, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert loaded.config.image_token_index == 259  # the vocabulary of 259 has one more: <image>
    assert loaded.get_input_embeddings().weight.shape == (260, 64)
    theirs = {name: tensor for name, tensor in read_tensors(llm) if ".layers." in name}
    ours = dict(read_tensors(model))
    assert theirs
    assert all(torch.equal(ours[f"language_model.{name}"], tensor) for name, tensor in theirs.items())
    assert len(bench.losses("run")) == STEPS


def test_a_nemo_checkpoints_projector_is_taken(bench: Bench) -> None:
    nemo_fixtures.make_tower(bench.folder / "clip")
    wide = json.loads((bundled_model() / "config.json").read_text())["text_config"]["hidden_size"]
    projector = nemo_fixtures.make_projector(hidden=wide)
    config = nemo_fixtures.model_config(bench.folder / "clip", bench.folder) | {"hidden_size": wide}
    checkpoint = nemo_fixtures.Checkpoint(config, nemo_fixtures.layout(projector, "single"))
    named = checkpoint.as_tar(bench.folder / "first.nemo")
    tower = f"model.mm_cfg.vision_encoder.from_pretrained={bench.folder / 'clip'}"
    adapter = f"model.mm_cfg.pretrain_mm_mlp_adapter={named}"

    model = bench.train(bench.fresh("run", tower, adapter, "trainer.max_steps=0"))

    found = dict(read_tensors(model))
    for theirs, ours in (("0", "linear_1"), ("2", "linear_2")):
        for rest in ("weight", "bias"):
            wanted = projector[f"{nemo_fixtures.ADAPTER}.{theirs}.{rest}"]
            assert torch.equal(found[f"multi_modal_projector.{ours}.{rest}"].float(), wanted.float())


def test_a_context_that_is_too_short_for_the_frames_is_refused_at_once(bench: Bench) -> None:
    with pytest.raises(ConfigurationError, match=r"encoder_seq_length: 64 tokens of frames pass the context of 32"):
        bench.train(bench.fresh("run", "model.encoder_seq_length=32"))

    assert not (bench.folder / "run" / "log.jsonl").exists()


def test_bf16_learns_and_writes_frozen_parts_as_they_were(bench: Bench) -> None:
    model = bench.train(
        bench.fresh("bf16", "trainer.precision=bf16", "trainer.max_steps=12", "model.micro_batch_size=6")
    )

    assert changed(model, bundled_model()) == {"projector"}
    losses = bench.losses("bf16")
    assert losses[-1] < 0.7 * losses[0]


def test_a_model_is_not_written_over_something_else(bench: Bench) -> None:
    (bench.folder / "mine").mkdir()
    (bench.folder / "mine" / "thesis.txt").write_text("mine")

    with pytest.raises(ConfigurationError, match=r"exp_manager\.export_dir: .* something else than a model"):
        bench.train(bench.fresh("run", f"exp_manager.export_dir={bench.folder / 'mine'}"))


def test_the_recipe_of_the_model_of_shapes_runs(bench: Bench) -> None:
    from neva.train import train

    small = ["trainer.max_steps=2", "model.data.shapes.tower_steps=2", "model.data.shapes.tower_batch_size=8"]
    small += [f"model.data.shapes.{key}=4" for key in ("clips", "held_out_clips")]
    places = [f"exp_manager.exp_dir={bench.folder / 'run'}", f"exp_manager.export_dir={bench.folder / 'model'}"]
    one = ["model.data.shapes.workers=1", "model.micro_batch_size=4", "trainer.num_threads=1"]

    settings, _ = read_training_settings(ROOT / "config" / "demo-model.yaml", [*small, *places, *one], "pretrain")
    train(settings, "pretrain")

    assert json.loads((bench.folder / "run" / "score.json").read_text())["clips"] == 4


@pytest.mark.parametrize("layer", [-1, -2])
def test_the_loss_is_transformers_own(layer: int) -> None:
    """Two conversations of different length, one of them about no clip at all."""
    from transformers import AutoTokenizer, LlavaForConditionalGeneration

    folder, frames = bundled_model(), 3
    tokenizer = AutoTokenizer.from_pretrained(folder)
    llava = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    llava.config.vision_feature_layer = layer
    encoder = ConversationEncoder(tokenizer, "v1", "<image>", 16 * frames, 512)
    talk = (Turn("<video>What is shown, and how does it move?", "A dog."), Turn("Where?", "At home, I think."))
    records = [TrainingRecord(talk, "a.mp4"), TrainingRecord((Turn("Hello", "Good day."),))]
    pixels = torch.randn(frames, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    samples = [dict(zip(("ids", "targets"), encoder.encode(record), strict=True)) | {"unread": 0} for record in records]
    samples[0]["pixels"] = pixels
    batch = Collate(tokenizer.pad_token_id, {"pixels": torch.zeros(1, 3, 64, 64)})(samples)

    with torch.no_grad():
        ours = ConversationTask(llava)(batch) / (batch["targets"][:, 1:] != IGNORED).sum()
        mask = torch.zeros_like(batch["ids"])
        for row, sample in enumerate(samples):
            mask[row, : len(sample["ids"])] = 1
        theirs = llava(input_ids=batch["ids"], attention_mask=mask, pixel_values=pixels, labels=batch["targets"]).loss

    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
