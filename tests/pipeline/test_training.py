"""Both stages of training from LLaVA-style JSON, on the bundled model's parts: what learns, resumes, splits.

Every run is a real one: real clips through the real decoder, real weights, the optimiser, and the model it exports.
"""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from connectors.errors import ConfigurationError
from daemon.model_checks import bundled_model
from neva.hf_folder import read_tensors
from neva.llava_export import read_facts
from neva.shapes import caption_of, encode_clip, random_scene
from neva.training_config import read_training_settings
from neva.training_settings import Stage
from tests import nemo_fixtures, tiny_models

HOUSE = Path(__file__).resolve().parents[2]
CLIPS, STEPS = 6, 4
PARTS = {
    "tower": "vision_tower.",
    "projector": "multi_modal_projector.",
    "llm": "language_model.",
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    *(pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("DeprecationWarning", "FutureWarning", "UserWarning")),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write clips, into a folder and into a tar, and conversations about them."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "clips").mkdir()
    records = []
    with tarfile.open(folder / "clips.tar", "w") as archive:
        for number in range(CLIPS):
            scene, name = random_scene(number, length_s=0.4), f"{number}.mp4"
            encoded = encode_clip(scene)
            (folder / "clips" / name).write_bytes(encoded)
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(encoded)
            archive.addfile(member, io.BytesIO(encoded))
            records.append(conversation(name, caption_of(scene)))
    (folder / "data.json").write_text(json.dumps(records))
    return folder


def conversation(video: str, answer: str) -> dict[str, Any]:
    said = [{"from": "human", "value": "<video>Describe this video."}, {"from": "gpt", "value": answer}]
    return {"id": video, "video": video, "conversations": said}


class Bench:
    """Runs training in folders of its own."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder, self._data = folder, data

    def config(self, name: str, *overrides: str) -> list[str]:
        return [
            f"exp_manager.exp_dir={self.folder / name}",
            f"trainer.max_steps={STEPS}",
            *("trainer.log_every_n_steps=1", "trainer.num_threads=1", "trainer.precision=32"),
            *("model.micro_batch_size=2", "model.mm_cfg.llm.model_type=mistral", "model.data.num_workers=0"),
            f"model.data.data_path={self._data / 'data.json'}",
            f"model.data.video_folder={self._data / 'clips'}",
            "model.data.num_frames=4",
            *overrides,
        ]

    def fresh(self, name: str, *overrides: str) -> list[str]:
        """Return a first stage's settings: the bundled model's parts around a new projector."""
        parts = [f"model.mm_cfg.{part}.from_pretrained=bundled" for part in ("llm", "vision_encoder")]
        parts += ["model.mm_cfg.vision_encoder.vision_select_layer=-1", "model.mm_cfg.mm_mlp_adapter_type=mlp2x_gelu"]
        return self.config(name, *parts, *overrides)

    def train(self, arguments: list[str], stage: Stage = "pretrain") -> Path:
        from neva.training import train

        settings, _ = read_training_settings(None, arguments, stage)
        return train(settings, stage)

    def losses(self, name: str) -> list[float]:
        lines = (self.folder / name / "log.jsonl").read_text().splitlines()
        return [json.loads(line)["loss"] for line in lines]


@pytest.fixture(autouse=True)
def own_state() -> Iterator[None]:
    """Forget what Accelerate keeps of an earlier run in this process."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(True)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def bench(tmp_path: Path, data: Path) -> Bench:
    return Bench(tmp_path, data)


def changed(model: Path, from_model: Path) -> set[str]:
    """Return which parts of a model folder differ from another one's."""
    before, after = dict(read_tensors(from_model)), dict(read_tensors(model))
    assert before.keys() == after.keys()
    found = {name for name in before if not torch.equal(before[name].float(), after[name].float())}
    return {part for part, prefix in PARTS.items() if any(name.startswith(prefix) for name in found)}


def test_the_first_stage_learns_the_projector_alone_and_the_second_the_language_model_too(bench: Bench) -> None:
    start = bench.train(bench.fresh("start", "trainer.max_steps=0"))
    first = bench.train(bench.fresh("first", f"trainer.max_steps={4 * STEPS}", "model.micro_batch_size=6"))
    second = bench.train(bench.config("second", f"model.restore_from_path={first}"), "finetune")

    assert changed(start, bundled_model()) == {"projector"}
    assert changed(first, start) == {"projector"}
    assert changed(second, first) == {"projector", "llm"}
    losses = bench.losses("first")
    assert losses[-1] < 0.5 * losses[0]
    assert (bench.folder / "first" / "loss.png").read_bytes().startswith(b"\x89PNG")
    facts = read_facts(second)
    assert (facts.conv_template, facts.num_frames, facts.media_type) == ("mistral", 4, "video")


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


def test_a_tar_a_cache_and_workers_teach_the_same(bench: Bench, data: Path) -> None:
    bench.train(bench.fresh("folder"))
    bench.train(bench.fresh("tar", f"model.data.video_folder={data / 'clips.tar'}", "model.data.num_workers=2"))
    bench.train(bench.fresh("cache", "model.data.cache_features=true"))
    bench.train(bench.fresh("cache", "model.data.cache_features=true", "exp_manager.resume_if_exists=false"))

    assert bench.losses("tar") == bench.losses("folder")
    np.testing.assert_allclose(bench.losses("cache"), bench.losses("folder"), rtol=1e-4)


def test_a_step_is_the_same_however_it_is_cut(bench: Bench) -> None:
    bench.train(bench.fresh("whole", "model.micro_batch_size=4", "model.global_batch_size=4"))
    bench.train(bench.fresh("cut", "model.micro_batch_size=1", "model.global_batch_size=4"))

    np.testing.assert_allclose(bench.losses("cut"), bench.losses("whole"), rtol=1e-4)


def test_a_linear_projector_is_served_as_vllm_knows_it_and_loads_again(bench: Bench) -> None:
    linear = bench.train(bench.fresh("linear", "model.mm_cfg.mm_mlp_adapter_type=linear"))
    again = bench.train(bench.config("again", f"model.restore_from_path={linear}"))

    assert json.loads((linear / "config.json").read_text())["projector_hidden_act"].endswith("Identity")
    second = "multi_modal_projector.linear_2"
    for model in (linear, again):
        tensors = dict(read_tensors(model))
        assert torch.equal(tensors[f"{second}.weight"], torch.eye(128))
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
    projector = nemo_fixtures.make_projector()
    config = nemo_fixtures.model_config(bench.folder / "clip", bench.folder)
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


def test_activations_that_are_computed_again_teach_the_same(bench: Bench) -> None:
    everything = ["model.restore_from_path=bundled", "model.mm_cfg.vision_encoder.freeze=false"]
    for name, more in (("kept", []), ("again", ["model.activations_checkpoint_granularity=full"])):
        bench.train(bench.config(name, *everything, *more), "finetune")

    np.testing.assert_allclose(bench.losses("again"), bench.losses("kept"), rtol=1e-5)


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


def test_clips_that_can_not_be_read_teach_nothing_and_are_named(
    bench: Bench, data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    records = json.loads((data / "data.json").read_text())[:2]
    broken = [conversation("gone.mp4", "A dog."), conversation("../../etc/passwd", "Root.")]
    path = bench.folder / "broken.json"
    path.write_text(json.dumps([*records, *broken]))
    size = ["model.micro_batch_size=4", "trainer.max_steps=1"]
    path_key = f"model.data.data_path={path}"

    bench.train(bench.fresh("broken", path_key, *size))

    assert "Record 3 is not learned from: gone.mp4: " in caplog.text
    assert "Record 4 is not learned from: ../../etc/passwd: " in caplog.text
    assert "2 samples taught nothing: their media could not be read." in caplog.text
    path.write_text(json.dumps(broken))
    with pytest.raises(ConfigurationError, match="none of its clips could be read"):
        bench.train(bench.fresh("nothing", path_key, *size))


def test_text_alone_is_learned_beside_videos(bench: Bench, data: Path) -> None:
    text = {"conversations": [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Good day."}]}
    path = bench.folder / "mixed.json"
    path.write_text(json.dumps([text, *json.loads((data / "data.json").read_text())[:1]]))

    arguments = [f"model.data.data_path={path}", "model.micro_batch_size=1", "model.data.dataloader_type=single"]
    bench.train(bench.config("mixed", "model.restore_from_path=bundled", *arguments), "finetune")

    assert len(bench.losses("mixed")) == STEPS


def test_a_model_is_not_written_over_something_else(bench: Bench) -> None:
    (bench.folder / "mine").mkdir()
    (bench.folder / "mine" / "thesis.txt").write_text("mine")

    with pytest.raises(ConfigurationError, match=r"exp_manager\.export_dir: .* something else than a model"):
        bench.train(bench.fresh("run", f"exp_manager.export_dir={bench.folder / 'mine'}"))


def test_the_bundled_models_own_recipe_runs(bench: Bench) -> None:
    from neva.training import train

    small = ["trainer.max_steps=2", "model.data.shapes.tower_steps=2", "model.data.shapes.tower_batch_size=8"]
    small += [f"model.data.shapes.{key}=4" for key in ("clips", "held_out_clips")]
    places = [f"exp_manager.exp_dir={bench.folder / 'run'}", f"exp_manager.export_dir={bench.folder / 'model'}"]
    one = ["model.data.shapes.workers=1", "model.micro_batch_size=4", "trainer.num_threads=1"]

    settings, _ = read_training_settings(HOUSE / "config" / "demo-model.yaml", [*small, *places, *one], "pretrain")
    train(settings, "pretrain")

    shapes = {name: tuple(tensor.shape) for name, tensor in read_tensors(bench.folder / "model")}
    assert shapes == {name: tuple(tensor.shape) for name, tensor in read_tensors(bundled_model())}
    assert json.loads((bench.folder / "run" / "score.json").read_text())["clips"] == 4


def command(arguments: list[str], launcher: tuple[str, ...] = ()) -> list[str]:
    return [sys.executable, "-m", *launcher, "daemon", "pretrain", *arguments]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def test_a_run_that_was_killed_goes_on_to_the_same_losses(bench: Bench) -> None:
    steps = ["trainer.max_steps=24", "exp_manager.every_n_train_steps=3"]
    bench.train(bench.fresh("whole", *steps))
    cut = bench.fresh("cut", *steps)

    run = subprocess.Popen(command(cut), cwd=HOUSE, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    log, deadline = bench.folder / "cut" / "log.jsonl", time.monotonic() + 200
    while time.monotonic() < deadline and run.poll() is None:
        if log.exists() and log.read_bytes().count(b"\n") >= 7:
            break
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    assert run.returncode == -signal.SIGKILL
    killed_after = len(bench.losses("cut"))
    assert 7 <= killed_after < 24
    done = subprocess.run(command(cut), cwd=HOUSE, env=environment(), capture_output=True, text=True)

    assert done.returncode == 0, done.stderr[-2000:]
    first = int(done.stdout.split("pretrain ")[1].split("/")[0])
    assert first % 3 == 1  # right behind a checkpoint
    assert killed_after - 3 < first <= killed_after + 1
    np.testing.assert_allclose(bench.losses("cut"), bench.losses("whole"), rtol=1e-5)


def test_two_processes_share_the_batch_and_learn_the_same(bench: Bench) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = ["model.global_batch_size=4", "model.data.dataloader_type=single"]
    bench.train(bench.fresh("one", *shared))
    launcher = ("accelerate.commands.launch", "--cpu", "--num_processes=2", f"--main_process_port={port}", "-m")

    done = subprocess.run(
        command(bench.fresh("two", *shared), launcher), cwd=HOUSE, env=environment(), capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count(f"pretrain {STEPS}/{STEPS}") == 1  # one of the two speaks
    np.testing.assert_allclose(bench.losses("two"), bench.losses("one"), rtol=1e-4)
    one, two = (dict(read_tensors(bench.folder / name / "model")) for name in ("one", "two"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=1e-4)
